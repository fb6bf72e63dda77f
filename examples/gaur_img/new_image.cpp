// SPDX-License-Identifier: BSL-1.0
#include "new_image.hpp"

#include "failure.hpp"
#include "names.hpp"
#include "option_list.hpp"
#include "size.hpp"

#include <gaur/io/host_file.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <utility>
#include <vector>

namespace gaur_img {

namespace {

std::uint32_t version_of(const new_image& image, const std::string& value) {
    if (value == "0.10" || value == "v2") { return 2; }
    if (value == "1.1" || value == "v3") { return 3; }
    throw failure(image.path + ": Parameter 'version' does not accept value '" + value + "'");
}

void set_backing_file(new_image& image, const std::string& name, bool unopened) {
    if (name.empty()) {
        throw failure(image.path + ": Expected backing file name, got empty string");
    }
    image.options.backing_file = backing_name_given(name, unopened);
}

void apply_option(new_image& image, const named_option& given, bool unopened) {
    gaur::qcow2::layout::create_options& o = image.options;
    const auto& [name, value] = given;
    if (name == "size") {
        image.size = size_value(image.path, given, max_size);
    } else if (name == "preallocation" && value == "off") {
        // What gaur does anyway.
    } else if (image.format != "qcow2") {
        throw failure(image.path + ": Invalid parameter '" + name + "'");
    } else if (name == "cluster_size") {
        const std::uint64_t size = size_value(image.path, given);
        o.cluster_bits = std::has_single_bit(size)
                             ? static_cast<std::uint32_t>(std::countr_zero(size)) : 0;
    } else if (name == "refcount_bits") {
        o.refcount_bits = static_cast<std::uint32_t>(
            std::min<std::uint64_t>(number_value(image.path, given), UINT32_MAX));
    } else if (name == "compat" || name == "version") {
        o.version = version_of(image, value);
    } else if (name == "backing_file") {
        set_backing_file(image, value, unopened);
    } else if (name == "backing_fmt") {
        o.backing_format = value;
    } else if (name == "lazy_refcounts") {
        o.lazy_refcounts = switch_value(image.path, given);
    } else if ((name == "extended_l2" && !switch_value(image.path, given)) ||
               (name == "encryption" && value == "off") ||
               (name == "compression_type" && value == "zlib")) {
        // What gaur does anyway.
    } else if (name == "extended_l2" || name == "preallocation" || name == "compression_type" ||
               name == "data_file" || name == "data_file_raw" || name.starts_with("encrypt")) {
        throw failure(image.path + ": " + name + "=" + value + " is not supported yet");
    } else {
        throw failure(image.path + ": Invalid parameter '" + name + "'");
    }
}

void check_options(const new_image& image) {
    const gaur::qcow2::layout::create_options& o = image.options;
    const auto refuse = [&](const std::string& why) { throw failure(image.path + ": " + why); };
    if (image.format != "raw" && image.format != "qcow2") {
        refuse("Unknown file format '" + image.format + "'");
    }
    if (image.format == "raw" && !o.backing_file.empty()) {
        refuse("Backing file not supported for file format 'raw'");
    }
    if (o.cluster_bits < 9 || o.cluster_bits > 21) {
        refuse("Cluster size must be a power of two between 512 and 2048k");
    }
    if (!std::has_single_bit(o.refcount_bits) || o.refcount_bits > 64) {
        refuse("Refcount width must be a power of two and may not exceed 64 bits");
    }
    if (o.version == 2 && o.refcount_bits != 16) {
        refuse("Different refcount widths than 16 bits require compatibility level 1.1 or above "
               "(use version=v3 or greater)");
    }
    if (o.version == 2 && o.lazy_refcounts) {
        refuse("Lazy refcounts only supported with compatibility level 1.1 and above "
               "(use version=v3 or greater)");
    }
    if (o.backing_file.empty() && !o.backing_format.empty()) {
        refuse("Backing format cannot be used without backing file");
    }
    if (!o.backing_file.empty() && o.backing_format.empty()) {
        refuse("Backing file specified without backing format (name it with -F: qcow2 or raw)");
    }
    if (!o.backing_format.empty() && o.backing_format != "raw" && o.backing_format != "qcow2") {
        refuse("Unknown backing file format '" + o.backing_format + "'");
    }
}

} // namespace

new_image describe(const target_options& asked) {
    new_image image;
    image.path = asked.target;
    image.format = asked.target_format;
    for (const named_option& given : parse_option_lists(asked.options)) {
        apply_option(image, given, asked.unsafe);
    }
    if (asked.backing_file) { set_backing_file(image, *asked.backing_file, asked.unsafe); }
    if (!asked.backing_format.empty()) { image.options.backing_format = asked.backing_format; }
    check_options(image);
    return image;
}

std::unique_ptr<disk> open_backing_file(host& on, const common_options& asked,
                                        const new_image& image, bool force_share) {
    if (image.options.backing_file.empty()) { return nullptr; }
    image_options how;
    how.path = beside(image.path, image.options.backing_file);
    how.format = image.options.backing_format;
    how.force_share = force_share;
    set_references(how, asked);
    how.references = true;
    auto opened = on.open(how);
    if (!opened) {
        throw failure(image.path + ": Could not open '" + how.path +
                      "': " + opened.error().message() + "\nCould not open backing image.");
    }
    return *std::move(opened);
}

namespace {

/// The file behind a loop device; nothing if it is no loop device.
std::optional<gaur::io::file_identity> file_below(const gaur::io::file_identity& device) {
    if (device.inode != ~std::uint64_t{0}) { return {}; } // not a block device
    std::ifstream from("/sys/dev/block/" + std::to_string(gnu_dev_major(device.device)) + ':' +
                       std::to_string(gnu_dev_minor(device.device)) + "/loop/backing_file");
    std::string path;
    struct stat status {};
    if (!std::getline(from, path) || ::stat(path.c_str(), &status) != 0) { return {}; }
    return gaur::io::identity_of(status);
}

/// The files, and the files behind all loop devices among them.
std::vector<gaur::io::file_identity> with_files_below(std::vector<gaur::io::file_identity> files) {
    for (std::size_t i = 0; i < files.size(); ++i) {
        const auto below = file_below(files[i]);
        if (below && std::ranges::find(files, *below) == files.end()) { files.push_back(*below); }
    }
    return files;
}

} // namespace

void refuse_to_replace(const std::string& path, const std::vector<gaur::io::file_identity>& read) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) { return; }
    const auto all_read = with_files_below(read);
    const auto replaced = with_files_below({gaur::io::identity_of(status)});
    if (std::ranges::find_first_of(all_read, replaced) == all_read.end()) { return; }
    throw failure(path + ": " + gaur::error(gaur::errc::target_is_read).message());
}

void make_image(host& on, const new_image& image,
                const std::vector<gaur::io::file_identity>& kept) {
    gaur::result<void> made;
    if (image.format == "raw") {
        image_options how;
        how.path = image.path;
        how.format = "raw";
        how.write = how.create = true;
        how.size = image.options.size;
        how.kept = kept;
        const auto opened = on.open(how);
        if (!opened) { made = opened.error(); }
    } else {
        made = on.create(image.path, image.options, kept);
    }
    if (made) { return; }
    throw failure(image.path + ": Could not create '" + image.path +
                  "': " + made.error().message());
}

} // namespace gaur_img
