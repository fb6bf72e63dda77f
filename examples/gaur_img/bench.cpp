// SPDX-License-Identifier: BSL-1.0
#include "commands.hpp"
#include "failure.hpp"
#include "host.hpp"
#include "size.hpp"

#include <algorithm>
#include <cinttypes>
#include <cstdio>

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

} // namespace

int bench(const bench_command& asked) {
    bench_options how = asked.how;
    how.size = expect_size(asked.size, "buffer size");
    how.step = asked.step.empty() ? how.size : expect_size(asked.step, "step size");
    how.offset = expect_size(asked.offset, "offset");
    image_options image;
    image.path = asked.path;
    image.cache = parse_cache_mode(asked.cache, "cache mode");
    image.write = how.write;
    image.references = !asked.no_references;
    image.force_share = asked.force_share;
    image.invalidate_bitmaps = asked.invalidate_bitmaps;
    image.format = asked.format;
    image.ordering = asked.ordering;

    const auto on = make_host(asked.backend, std::max(how.depth, usual_depth));
    const auto opened = open_disk(*on, image);
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
