// SPDX-License-Identifier: BSL-1.0
#include "command.hpp"
#include "conversion.hpp"
#include "failure.hpp"
#include "new_image.hpp"
#include "size.hpp"

#include <cerrno>

namespace gaur_img {

namespace {

struct convert_command {
    common_options common;
    std::string format;
    std::string target_format = "raw";
    std::string backing_file;
    std::string backing_format;
    std::vector<std::string> options;
    std::string source_cache = "writeback";
    std::string target_cache = "writeback";
    std::string sparse = "4k";
    unsigned in_flight = 16;
    bool no_create = false;
    bool target_is_zero = false;
    bool out_of_order = false;
    bool shows_progress = false;
    bool quiet = false;
    std::string source;
    std::string target;

    void add_to(CLI::App& command) {
        command.add_option("-f", format, "format of the source; looked at if not given");
        command.add_option("-O", target_format, "format of the target: raw (default) or qcow2");
        command.add_option("-o", options, "name=value,… of the target, as for create")
            ->expected(1)
            ->take_all();
        command.add_option("-b,-B", backing_file,
                           "backing file of the target, which holds what the source's does: only "
                           "what the source itself holds is copied");
        command.add_option("-F", backing_format, "its format");
        command.add_flag("-n", no_create, "the target is there: write into it");
        command.add_flag("--target-is-zero", target_is_zero, "with -n: it reads as zeroes");
        command.add_option("-S", sparse, "zeroes in a row that become a hole (default 4k; 0: write "
                                         "everything)");
        command.add_option("-m", in_flight, "pieces in flight, 1 to 64 (default 16)");
        command.add_flag("-W", out_of_order, "out-of-order writes: always so, for now");
        command.add_option("-T", source_cache, "cache mode of the source: none or writeback");
        command.add_option("-t", target_cache,
                           "cache mode of the target: none or writeback; whichever, it is durable "
                           "when the command ends");
        command.add_flag("-p", shows_progress, "show how far it is");
        command.add_flag("-q", quiet, "print nothing");
        command.add_option("source", source)->required();
        command.add_option("target", target)->required();
    }
};

std::uint64_t sparse_bytes(const std::string& text) {
    const auto size = parse_size(text);
    if (!size || *size % 512 != 0 || *size > 16777216) {
        throw failure("Invalid buffer size for sparse output specified. Valid sizes are multiples "
                      "of 512 up to 16777216. Select 0 to disable sparse detection (fully "
                      "allocates output).");
    }
    return *size;
}

/// What has to be done with each block of the source.
std::vector<conversion_step> plan(const std::vector<placed_block>& blocks, bool target_has_backing,
                                  bool target_is_zero, bool writes_holes) {
    using what = conversion_step::what;
    std::vector<conversion_step> steps;
    for (const placed_block& b : blocks) {
        // What lies below the source's own layer, the target's backing file holds as well.
        if (target_has_backing && b.depth > 0) { continue; }
        if (b.zero && target_is_zero && !writes_holes) { continue; }
        const what kind = b.zero ? what::write_zeroes : what::copy;
        if (!steps.empty() && steps.back().kind == kind &&
            steps.back().at + steps.back().size == b.start) {
            steps.back().size += b.size;
        } else {
            steps.push_back({kind, b.start, b.size});
        }
    }
    return steps;
}

new_image describe_target(const convert_command& asked, const disk& source) {
    new_image image;
    image.path = asked.target;
    image.format = asked.target_format;
    apply_options(image, asked.options);
    if (!asked.backing_file.empty()) { image.options.backing_file = asked.backing_file; }
    if (!asked.backing_format.empty()) { image.options.backing_format = asked.backing_format; }
    check_options(image);
    image.options.size = image.size ? *image.size : source.size();
    return image;
}

std::unique_ptr<disk> open_target(host& on, const convert_command& asked, const disk& source) {
    image_options how;
    how.path = asked.target;
    how.format = asked.target_format;
    how.write = true;
    how.direct = is_direct(asked.target_cache, "cache option");
    auto target = open_disk(on, how);
    if (target->size() < source.size()) {
        throw failure("output file is smaller than input file");
    }
    return target;
}

int convert(const convert_command& asked) {
    if (asked.in_flight < 1 || asked.in_flight > 64) {
        throw failure("Invalid number of coroutines. Allowed number of coroutines is between 1 and "
                      "64");
    }
    const std::uint64_t sparse = sparse_bytes(asked.sparse);
    const auto on = make_host(asked.common.backend);
    image_options how;
    how.path = asked.source;
    how.format = asked.format;
    how.direct = is_direct(asked.source_cache, "source cache option");
    how.references = !asked.common.no_references;
    const auto source = open_disk(*on, how);
    const new_image image = describe_target(asked, *source);
    if (!asked.no_create) { make_image(*on, image); }
    const auto target = open_target(*on, asked, *source);

    const auto blocks = expect(list_blocks(*on, *source, 0, source->size()),
                               "error while reading block status");
    const bool has_backing = !image.options.backing_file.empty();
    const bool is_zero =
        !target->has_backing_file() && (!asked.no_create || asked.target_is_zero);
    progress shown(asked.shows_progress && !asked.quiet);
    conversion copying(*source, *target, plan(blocks, has_backing, is_zero, sparse == 0), sparse,
                       is_zero, shown);
    const gaur::result<void> status = on->wait(copying.run(asked.in_flight));
    shown.end();
    if (!status) { throw failure(copying.failed() + ": " + status.error().message()); }
    expect(on->wait(target->close()), "error while closing '" + asked.target + "'");
    return 0;
}

} // namespace

void add_convert(CLI::App& program, int& exit_code) {
    add_command(program, exit_code, "convert", "Copies an image into another format", &convert);
}

} // namespace gaur_img
