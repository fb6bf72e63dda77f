// SPDX-License-Identifier: BSL-1.0
#include "bench.hpp"

#include "command.hpp"
#include "failure.hpp"
#include "size.hpp"

#include <algorithm>
#include <cinttypes>
#include <cstdio>

namespace gaur_img {

namespace {

struct bench_command {
    common_options common;
    bench_options how;
    std::string path;
    std::string format;
    std::string cache = "writeback";
    std::string size = "4k";
    std::string step;
    std::string offset = "0";
    std::string ordering = "serialize";
    bool quiet = false;

    void add_to(CLI::App& command) {
        command.add_option("-c", how.count, "requests (default 75000)");
        command.add_option("-d", how.depth, "in flight at a time (default 64)")
            ->check(CLI::Range(1, 65536));
        command.add_option("-f", format, "format of the image; looked at if not given");
        command.add_flag("-w", how.write, "write, not read: changes the image");
        command.add_option("-s", size, "size of a request (default 4k)");
        command.add_option("-S", step, "from one request's offset to the next (default: the size)");
        command.add_option("-o", offset, "of the first request (default 0)");
        command.add_option("-t", cache, "cache mode: none (O_DIRECT) or writeback (default)");
        command.add_option("--flush-interval", how.flush_interval,
                           "let those in flight end and flush after so many requests");
        command.add_option("--pattern", how.pattern, "byte to write (default 0)");
        command.add_option("-i", common.backend, "the same as --backend")
            ->check(CLI::IsMember({"uring", "posix_aio", "sync", "threads"}));
        command.add_option("--ordering", ordering,
                           "what a write does that meets another's allocation: serialize")
            ->check(CLI::IsMember({"serialize"}));
        command.add_flag("-q", quiet, "leave out the figures");
        command.add_option("filename", path)->required();
    }
};

void print_figures(const bench_figures& f, const std::string& ordering) {
    const gaur::track::figures& t = f.tracker;
    std::printf("Tracker (%s): %" PRIu64 " allocations, %" PRIu64 " joined, %" PRIu64
                " waited, %" PRIu64 " shortened, %" PRIu64 " woken, longest queue %u, most in "
                "flight %u\n",
                ordering.c_str(), t.admitted, t.joined, t.waited, t.shortened, t.woken,
                t.longest_queue, t.most_in_flight);
    std::printf("Commits: %" PRIu64 " epochs, %" PRIu64 " barriers, %" PRIu64
                " bytes of metadata\n", f.epochs, f.barriers, f.metadata_bytes);
}

int bench(const bench_command& asked) {
    bench_options how = asked.how;
    how.size = expect_size(asked.size, "buffer size");
    how.step = asked.step.empty() ? how.size : expect_size(asked.step, "step size");
    how.offset = expect_size(asked.offset, "offset");
    image_options image;
    image.path = asked.path;
    image.direct = is_direct(asked.cache, "cache mode");
    image.write = how.write;
    image.references = !asked.common.no_references;
    image.format = asked.format;
    image.ordering = asked.ordering;

    const auto on = make_host(asked.common.backend, std::max(how.depth, usual_depth));
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

} // namespace

void add_bench(CLI::App& program, int& exit_code) {
    add_command(program, exit_code, "bench", "Measures reads or writes of an image", &bench);
}

} // namespace gaur_img
