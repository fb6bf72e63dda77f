// SPDX-License-Identifier: BSL-1.0
#include "commands.hpp"
#include "failure.hpp"
#include "new_image.hpp"
#include "size.hpp"

#include <cinttypes>
#include <cstdio>
#include <string>

namespace gaur_img {

namespace {

/// A value in an option list: a comma in it is written twice.
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

/// The backing file's size. It has to open, unless a size was given and `-u`.
std::uint64_t backing_size(host& on, const create_command& asked, const new_image& image) {
    image_options how;
    set_references(how, asked);
    how.references = true;
    how.path = beside(image.path, image.options.backing_file);
    how.format = image.options.backing_format;
    how.force_share = true; // only its size is asked, as qemu-img does
    const auto opened = on.open(how);
    if (!opened) {
        throw failure(image.path + ": Could not open '" + how.path +
                      "': " + opened.error().message() + "\nCould not open backing image.");
    }
    return (*opened)->size();
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
    if (!image.options.backing_file.empty() && (!asked.unsafe || !image.size)) {
        const std::uint64_t size = backing_size(*on, asked, image);
        if (!image.size) { image.size = size; }
    }
    if (!image.size) { throw failure(image.path + ": Image creation needs a size parameter"); }
    image.options.size = *image.size;
    if (!asked.quiet) { print_plan(image); }
    make_image(*on, image);
    return 0;
}

} // namespace gaur_img
