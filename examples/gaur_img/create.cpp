// SPDX-License-Identifier: BSL-1.0
#include "commands.hpp"
#include "failure.hpp"
#include "new_image.hpp"
#include "size.hpp"
#include "unfinished_target.hpp"

#include <cinttypes>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

namespace gaur_img {

namespace {

/// Quotes a value for an option list: a comma in it is written twice.
std::string in_list(const std::string& value) {
    std::string text;
    for (const char c : value) { text += c == ',' ? ",," : std::string(1, c); }
    return text;
}

void print_plan(const new_image& image) {
    const gaur::qcow2::layout::create_options& o = image.options;
    std::printf("Formatting '%s', fmt=%s ", image.path.c_str(), image.format.c_str());
    if (image.format == "raw") {
        std::printf("size=%" PRIu64 "\n", o.size);
        return;
    }
    std::printf("cluster_size=%u extended_l2=off compression_type=zlib size=%" PRIu64 " ",
                1U << o.cluster_bits, o.size);
    if (o.version == 2) { std::printf("compat=0.10 "); }
    if (!o.backing_file.empty()) {
        std::printf("backing_file=%s backing_fmt=%s ", in_list(o.backing_file).c_str(),
                    o.backing_format.c_str());
    }
    std::printf("lazy_refcounts=%s refcount_bits=%u\n", o.lazy_refcounts ? "on" : "off",
                o.refcount_bits);
}

/// Throws failure if the image names itself as its backing file, even if it does not exist yet.
void refuse_itself_as_backing_file(const new_image& image) {
    if (image.options.backing_file.empty()) { return; }
    std::error_code ignored;
    const auto own = std::filesystem::weakly_canonical(image.path, ignored);
    const auto other = std::filesystem::weakly_canonical(
        beside(image.path, image.options.backing_file), ignored);
    if (own.empty() || own != other) { return; }
    throw failure(image.path + ": " + gaur::error(gaur::errc::target_is_read).message());
}

} // namespace

int create(const create_command& asked) {
    new_image image = describe(asked);
    if (asked.size) {
        if (image.size) {
            throw failure(image.path + ": The image size must be specified only once");
        }
        image.size = expect_size(*asked.size, "image size");
    }
    const auto on = make_host(asked.backend);
    // Kept open until the image exists: a file that is read must not be the one that is replaced.
    std::unique_ptr<disk> backing;
    std::vector<gaur::io::file_identity> kept;
    if (!asked.unsafe || !image.size) {
        // As qemu-img, which reads only its size: opened even if another process writes to it.
        backing = open_backing_file(*on, asked, image, true);
    }
    if (backing != nullptr) {
        kept = backing->files();
        if (!image.size) { image.size = backing->size(); }
    } else if (!image.options.backing_file.empty()) {
        kept = files_of_chain(*on, beside(image.path, image.options.backing_file),
                              image.options.backing_format);
    }
    if (!image.size) { throw failure(image.path + ": Image creation needs a size parameter"); }
    image.options.size = *image.size;
    refuse_to_replace(image.path, kept);
    refuse_itself_as_backing_file(image);
    if (!asked.quiet) { print_plan(image); }
    unfinished_target target(image.path);
    target.make_whole([&] { make_image(*on, image, kept); });
    return 0;
}

} // namespace gaur_img
