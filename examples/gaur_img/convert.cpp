// SPDX-License-Identifier: BSL-1.0
#include "commands.hpp"
#include "conversion.hpp"
#include "failure.hpp"
#include "new_image.hpp"
#include "size.hpp"

#include <cerrno>

namespace gaur_img {

namespace {

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

std::unique_ptr<disk> open_target(host& on, const convert_command& asked, const disk& source) {
    image_options how;
    how.path = asked.target;
    how.format = asked.target_format;
    how.write = true;
    how.direct = is_direct(asked.target_cache, "cache option");
    how.invalidate_bitmaps = asked.invalidate_bitmaps;
    auto target = open_disk(on, how);
    if (target->size() < source.size()) {
        throw failure("output file is smaller than input file");
    }
    return target;
}

} // namespace

int convert(const convert_command& asked) {
    if (asked.in_flight < 1 || asked.in_flight > 64) {
        throw failure("Invalid number of coroutines. Allowed number of coroutines is between 1 and "
                      "64");
    }
    const std::uint64_t sparse = sparse_bytes(asked.sparse);
    const auto on = make_host(asked.backend);
    image_options how;
    how.path = asked.source;
    how.format = asked.source_format;
    how.direct = is_direct(asked.source_cache, "source cache option");
    how.references = !asked.no_references;
    how.force_share = asked.force_share;
    const auto source = open_disk(*on, how);
    new_image image = describe(asked);
    image.options.size = image.size ? *image.size : source->size();
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

} // namespace gaur_img
