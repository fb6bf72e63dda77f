// SPDX-License-Identifier: BSL-1.0
#include "command.hpp"
#include "failure.hpp"
#include "new_image.hpp"
#include "size.hpp"

#include <cinttypes>
#include <cstdio>

namespace gaur_img {

namespace {

struct create_command {
    common_options common;
    std::string format = "raw";
    std::string backing_file;
    std::string backing_format;
    std::vector<std::string> options;
    std::string path;
    std::string size;
    bool unsafe = false;
    bool quiet = false;

    void add_to(CLI::App& command) {
        command.add_option("-f", format, "format: raw (default) or qcow2");
        command.add_option("-b", backing_file, "backing file");
        command.add_option("-F", backing_format, "its format");
        command.add_option("-o", options, "name=value,…: cluster_size, refcount_bits, compat, "
                                          "backing_file, backing_fmt, lazy_refcounts, size")
            ->expected(1)
            ->take_all();
        command.add_flag("-u", unsafe, "do not look whether the backing file is there");
        command.add_flag("-q", quiet, "print nothing");
        command.add_option("filename", path)->required();
        command.add_option("size", size, "of the disk; that of the backing file if not given");
    }
};

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
        std::printf("backing_file=%s backing_fmt=%s ", o.backing_file.c_str(),
                    o.backing_format.c_str());
    }
    std::printf("lazy_refcounts=%s refcount_bits=%u\n", o.lazy_refcounts ? "on" : "off",
                o.refcount_bits);
}

/// The backing file's size. It has to open, unless a size was given and `-u`.
std::uint64_t backing_size(host& on, const new_image& image) {
    image_options how;
    how.path = beside(image.path, image.options.backing_file);
    how.format = image.options.backing_format;
    const auto opened = on.open(how);
    if (!opened) {
        throw failure(image.path + ": Could not open '" + how.path +
                      "': " + opened.error().message() + "\nCould not open backing image.");
    }
    return (*opened)->size();
}

int create(const create_command& asked) {
    new_image image;
    image.path = asked.path;
    image.format = asked.format;
    apply_options(image, asked.options);
    if (!asked.backing_file.empty()) { image.options.backing_file = asked.backing_file; }
    if (!asked.backing_format.empty()) { image.options.backing_format = asked.backing_format; }
    if (!asked.size.empty()) { image.size = expect_size(asked.size, "image size"); }
    check_options(image);

    const auto on = make_host(asked.common.backend);
    if (!image.options.backing_file.empty() && (!asked.unsafe || !image.size)) {
        const std::uint64_t size = backing_size(*on, image);
        if (!image.size) { image.size = size; }
    }
    if (!image.size) { throw failure(image.path + ": Image creation needs a size parameter"); }
    image.options.size = gaur::align_up(*image.size, 512);
    if (!asked.quiet) { print_plan(image); }
    make_image(*on, image);
    return 0;
}

} // namespace

void add_create(CLI::App& program, int& exit_code) {
    add_command(program, exit_code, "create", "Makes an empty image", &create);
}

} // namespace gaur_img
