// SPDX-License-Identifier: BSL-1.0
#include "commands.hpp"
#include "conversion.hpp"
#include "failure.hpp"
#include "new_image.hpp"
#include "size.hpp"
#include "unfinished_target.hpp"

#include <memory>
#include <string>
#include <sys/stat.h>
#include <vector>

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

/// The options of the command line, before any file is looked at.
struct conversion_options {
    cache_mode source_cache;
    cache_mode target_cache;
    std::uint64_t sparse;
    unsigned in_flight;
    new_image image;
};

conversion_options read_options(const convert_command& asked) {
    if (asked.target_is_zero && !asked.no_create) {
        throw failure("--target-is-zero requires use of -n flag");
    }
    if (asked.no_create && !asked.options.empty()) {
        throw failure("-o has no effect when skipping image creation");
    }
    return {parse_cache_mode(asked.source_cache, "source cache option"),
            parse_cache_mode(asked.target_cache, "cache option"), sparse_bytes(asked.sparse),
            static_cast<unsigned>(
                expect_number(asked.in_flight, "number of coroutines", 1, 64)),
            describe(asked)};
}

std::unique_ptr<disk> open_source(host& on, const convert_command& asked, cache_mode cache) {
    image_options how;
    how.path = asked.source;
    how.format = asked.source_format;
    how.cache = cache;
    set_references(how, asked);
    how.force_share = asked.force_share;
    return open_disk(on, how);
}

std::unique_ptr<disk> open_target(host& on, const new_image& image, cache_mode cache,
                                  std::uint64_t size, bool invalidate_bitmaps = false) {
    image_options how;
    how.path = image.path;
    how.format = image.format;
    how.write = true;
    how.cache = cache;
    how.invalidate_bitmaps = invalidate_bitmaps;
    auto target = open_disk(on, how);
    if (target->size() < size) { throw failure("output file is smaller than input file"); }
    return target;
}

/// For -n with -B: without this, what the source's backing file holds could be missing.
void check_backing_of(disk& target, disk* backing) {
    if (backing == nullptr) { return; }
    const std::vector<gaur::io::file_identity> files = target.files();
    if (files.size() < 2 || !(files[1] == backing->files().front())) {
        throw failure("'" + target.path(0) + "' does not have the backing file that -B names");
    }
}

bool is_block_device(const std::string& path) {
    struct stat status {};
    return ::stat(path.c_str(), &status) == 0 && S_ISBLK(status.st_mode);
}

/// Whether ranges that are never written read as zeroes in the target.
bool reads_as_zeroes(const convert_command& asked, const disk& target, const new_image& image) {
    if (target.has_backing_file()) { return false; }
    if (asked.no_create) { return asked.target_is_zero; }
    return image.format != "raw" || !is_block_device(image.path);
}

/// `unfinished`: the guard of the target if this command creates it, else null.
void copy(host& on, const convert_command& asked, const conversion_options& how, disk& source,
          disk& target, unfinished_target* unfinished) {
    copy_options what;
    what.sparse = how.sparse;
    what.target_has_backing = !how.image.options.backing_file.empty();
    what.target_is_zero = reads_as_zeroes(asked, target, how.image);
    progress shown(asked.shows_progress && !asked.quiet);
    conversion copying(source, target, what, shown);
    const gaur::result<void> status = on.wait(copying.run(how.in_flight));
    shown.end();
    if (unfinished != nullptr && (!status || orderly_end::came())) { unfinished->give_up(); }
    // In any case: the image may have requests of its own at the host.
    const gaur::result<void> closed = on.wait(target.close());
    if (!status) { throw failure(copying.failed() + ": " + status.error().message()); }
    if (orderly_end::came()) { return; }
    expect(closed, "error while closing '" + asked.target + "'");
}

} // namespace

int convert(const convert_command& asked) {
    // Check everything that can be checked before the target is touched. The files that are read
    // stay open, and so locked, until the end.
    conversion_options how = read_options(asked);
    new_image& image = how.image;
    const auto on = make_host(asked.backend);
    const auto source = open_source(*on, asked, how.source_cache);
    image.options.size = image.size.value_or(source->size());
    if (image.options.size < source->size()) {
        throw failure("output file is smaller than input file");
    }
    const auto backing = open_backing_file(*on, asked, image, asked.force_share);
    std::vector<gaur::io::file_identity> kept = source->files();
    if (backing != nullptr) {
        const auto below = backing->files();
        kept.insert(kept.end(), below.begin(), below.end());
    }
    refuse_to_replace(image.path, kept);
    if (asked.no_create) {
        const auto target = open_target(*on, image, how.target_cache, source->size(),
                                        asked.invalidate_bitmaps);
        check_backing_of(*target, backing.get());
        const orderly_end ending;
        copy(*on, asked, how, *source, *target, nullptr);
        if (orderly_end::came()) {
            throw failure("interrupted: '" + asked.target + "' has a part of the data only");
        }
        return 0;
    }
    unfinished_target unfinished(image.path);
    unfinished.make_whole([&] {
        make_image(*on, image, kept);
        unfinished.note_made();
        const auto target = open_target(*on, image, how.target_cache, source->size());
        copy(*on, asked, how, *source, *target, &unfinished);
    });
    return 0;
}

} // namespace gaur_img
