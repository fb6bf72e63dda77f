// SPDX-License-Identifier: BSL-1.0
#include "commands.hpp"
#include "failure.hpp"
#include "host.hpp"
#include "size.hpp"

#include <algorithm>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <string>

namespace gaur_img {

namespace {

void print_figures(const bench_figures& f, const std::string& ordering) {
    const gaur::track::figures& t = f.tracker;
    std::printf("Tracker (%s): %" PRIu64 " allocations, %" PRIu64 " joined, %" PRIu64
                " waited, %" PRIu64 " shortened, %" PRIu64 " woken, longest queue %u, most in "
                "flight %u\n",
                ordering.c_str(), t.admitted, t.joined, t.waited, t.shortened, t.woken,
                t.longest_queue, t.most_in_flight);
    std::printf("Commits: %" PRIu64 " epochs, %" PRIu64 " barriers, %" PRIu64
                " bytes of metadata\n", f.epochs, f.barriers, f.metadata_bytes);
    if (f.bytes_asked == 0) { return; }
    std::printf("Host: %.2f bytes written per byte asked, %" PRIu64 " clusters taken in %" PRIu64
                " runs\n", static_cast<double>(f.bytes_written) /
                               static_cast<double>(f.bytes_asked),
                f.allocations.clusters, f.allocations.runs);
}

/// Applies qemu-img's limits, and one of our own: the memory that all requests take together.
bench_options options_of(const bench_command& asked) {
    constexpr std::uint64_t most_int = INT32_MAX;
    constexpr std::uint64_t most_depth = 65536;
    constexpr std::uint64_t most_memory = std::uint64_t{1} << 30;
    bench_options how;
    how.write = asked.write;
    how.count = expect_number(asked.count, "request count", 0, most_int);
    how.depth = static_cast<unsigned>(expect_number(asked.depth, "queue depth", 1, most_depth));
    how.size = expect_size(asked.size, "buffer size", most_int);
    if (how.size == 0) {
        throw failure("Invalid buffer size specified: a request has at least one byte");
    }
    how.step = expect_size(asked.step, "step_size", most_int);
    if (how.step == 0) { how.step = how.size; }
    how.offset = expect_size(asked.offset, "offset");
    how.pattern = static_cast<std::uint8_t>(expect_number(asked.pattern, "pattern byte", 0, 255));
    how.flush_interval = expect_number(asked.flush_interval, "flush interval", 0, most_int);
    if (how.flush_interval != 0 && !how.write) {
        throw failure("--flush-interval is only available in write tests (-w)");
    }
    if (how.flush_interval != 0 && how.flush_interval < how.depth) {
        throw failure("Flush interval can't be smaller than depth");
    }
    const std::uint64_t memory = how.size * how.slots();
    if (memory > most_memory) {
        throw failure(std::to_string(how.slots()) + " requests of " + std::to_string(how.size) +
                      " bytes take " + std::to_string(memory) + " bytes of memory; at most " +
                      std::to_string(most_memory) + " are taken: lower -s or -d");
    }
    return how;
}

} // namespace

int bench(const bench_command& asked) {
    const bench_options how = options_of(asked);
    image_options image;
    image.path = asked.path;
    image.cache = parse_cache_mode(asked.cache, "cache mode");
    image.write = how.write;
    set_references(image, asked);
    image.force_share = asked.force_share;
    image.invalidate_bitmaps = asked.invalidate_bitmaps;
    image.format = asked.format;
    image.ordering = asked.ordering;

    const auto on = make_host(asked.backend, std::max(how.slots(), usual_depth));
    const auto opened = open_disk(*on, image);
    if (opened->size() == 0 && how.count != 0) {
        throw failure("'" + asked.path + "' is an empty disk: there is nothing to read or write");
    }
    std::printf("Sending %" PRIu64 " %s requests, %" PRIu64 " bytes each, %u in parallel "
                "(starting at offset %" PRIu64 ", step size %" PRIu64 ")\n",
                how.count, how.write ? "write" : "read", how.size, how.depth, how.offset,
                how.step);
    if (how.flush_interval != 0) {
        std::printf("Sending flush every %" PRIu64 " requests\n", how.flush_interval);
    }
    const bench_figures figures = expect(opened->bench(how), "Failed request");
    if (figures.allocates && !asked.quiet) { print_figures(figures, asked.ordering); }
    std::printf("Run completed in %3.3f seconds.\n", figures.seconds);
    return 0;
}

} // namespace gaur_img
