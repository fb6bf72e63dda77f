// SPDX-License-Identifier: BSL-1.0
// Replays a block trace onto raw and qcow2 in turn, and prints how they compare.
#include "qemu_io.hpp"

#include "support/host.hpp"
#include "support/qemu_bench.hpp"
#include "support/scratch.hpp"
#include "support/spread.hpp"

#include <CLI/CLI.hpp>

#include <cinttypes>
#include <csignal>
#include <cstdio>
#include <exception>
#include <memory>
#include <string>
#include <vector>

namespace {

using namespace gaur;
using namespace gaur::bench;

constexpr const char* about = R"(Replays a block trace onto raw and qcow2 disks and compares.

TRACE holds one request a line: W offset bytes (write), R offset bytes (read), Z offset bytes
(write zeroes), D offset bytes (discard), F (flush). Between two flushes up to --depth requests are
in flight; at a flush all end, then the disk is flushed. The engine has no request to zero or to
discard yet: Z is replayed as a write of zeroes, D is left out, on all sides alike. A request of
more than 1 MiB goes in pieces. The ratio is raw's seconds over qcow2's, of each round's pair: 1.00
is raw's speed.)";

struct options {
    std::string trace;
    std::string generate;
    std::string backend = "uring";
    std::string ordering = "join";
    std::string dir = ".";
    unsigned depth = 64;
    unsigned rounds = 5;
    unsigned seed = 0;
    bool qemu = false;
    bool bound = false;
    bool buffered = false;
    bool verify = false;
    bool keep = false;
};

void add_options(CLI::App& to, options& o) {
    to.add_option("TRACE", o.trace, "the trace's file");
    to.add_option("--generate", o.generate, "write a small trace to this file, and nothing else");
    to.add_option("--backend", o.backend,
                  "memory is a device of virtual time, 100 us a request, and no O_DIRECT")
        ->check(CLI::IsMember({"uring", "posix_aio", "sync", "threads", "memory"}))
        ->capture_default_str();
    to.add_option("--ordering", o.ordering, "what a write does that meets another's allocation")
        ->check(CLI::IsMember({"before-2009", "serialize", "join"}))
        ->capture_default_str();
    to.add_option("--dir", o.dir, "for the disks; removed at the very end")->capture_default_str();
    to.add_option("--depth", o.depth, "in flight between flushes")
        ->check(CLI::Range(1, 1024))
        ->capture_default_str();
    to.add_option("--rounds", o.rounds, "pairs")->check(CLI::Range(1, 1000))->capture_default_str();
    to.add_option("--seed", o.seed, "with memory: requests overtake each other");
    to.add_flag("--qemu", o.qemu,
                "the same through qemu-io (aio_write, then aio_flush and flush at each F; its "
                "requests in flight have no bound)");
    to.add_flag("--bound", o.bound,
                "raw once more, with a sector written before each flush that follows new clusters: "
                "what the device alone takes for a format's mappings");
    to.add_flag("--buffered", o.buffered, "through the page cache: no O_DIRECT");
    to.add_flag("--verify", o.verify,
                "read everything back, and check the image; not for figures, it costs time");
    to.add_flag("--keep", o.keep, "leave the disks there");
}

kind kind_of(const std::string& ordering) {
    if (ordering == "before-2009") { return kind::before_2009; }
    return ordering == "join" ? kind::join : kind::serialize;
}

std::unique_ptr<host> make_host(const options& o) {
    const std::string what = "backend " + o.backend;
    if (o.backend == "memory") { return expect(make_memory({100000, o.seed}), what); }
    if (o.backend == "posix_aio") { return expect(make_posix_aio(o.depth), what); }
    if (o.backend == "sync") { return expect(make_sync(o.depth), what); }
    if (o.backend == "threads") { return expect(make_threads(o.depth), what); }
    return expect(make_uring(o.depth), what);
}

/// One side of the comparison, one run per round.
struct side {
    std::string name;
    std::vector<double> seconds{};
    outcome last{};

    void add(const outcome& o) {
        seconds.push_back(o.flushed.seconds);
        last = o;
    }
};

class comparison {
  public:
    comparison(const options& o, const trace& t)
        : how_(o), trace_(t), steps_(t.steps()),
          steps_with_mappings_(t.steps_with_mappings(std::uint64_t{1} << 16)), io_(make_host(o)),
          files_(o.dir, "replay", o.keep) {
        const bool in_memory = o.backend == "memory";
        direct_ = !o.buffered && !in_memory && takes_direct(files_.add(".probe"));
        if (o.qemu && (in_memory || !has_program("qemu-io"))) {
            std::printf("no comparison with qemu-io: %s\n",
                        in_memory ? "it has no disks in our memory" : "it is not installed");
        } else {
            qemu_ = o.qemu;
        }
    }

    void run() {
        print_heading();
        for (unsigned i = 0; i < how_.rounds; ++i) {
            // Alternate which side goes first.
            if (i % 2 == 0) { replay(raw_, kind::raw); }
            replay(qcow2_, kind_of(how_.ordering));
            if (i % 2 == 1) { replay(raw_, kind::raw); }
            if (how_.bound) { replay(bound_, kind::raw, 512, steps_with_mappings_); }
            if (!qemu_) { continue; }
            replay_by_qemu(qemu_raw_, "raw");
            replay_by_qemu(qemu_qcow2_, "qcow2");
        }
        print_results();
    }

  private:
    void replay(side& s, kind k) { replay(s, k, 0, steps_); }
    void replay(side& s, kind k, std::uint64_t behind, const std::vector<trace::line>& steps) {
        const image on{.path = files_.add(k == kind::raw ? ".raw" : ".qcow2"),
                       .kind = k,
                       .direct = direct_,
                       .create = trace_.disk_size() + behind};
        s.add(io_->replay(on, steps, {how_.depth, how_.verify}));
    }

    void replay_by_qemu(side& s, const std::string& format) {
        const std::string path = files_.add(".qemu." + format);
        const said made = run_command("qemu-img create -q -f " + format + " '" + path + "' " +
                                      std::to_string(trace_.disk_size()));
        if (!made.ended_well) { throw std::runtime_error("qemu-img create: " + made.text); }
        outcome o;
        o.flushed = run_qemu_io(path, format, how_.backend == "uring" ? "io_uring" : "threads",
                                direct_, steps_);
        s.add(o);
    }

    void print_heading() const {
        using enum trace::verb;
        std::printf("%s: %" PRIu64 " writes of %.1f MiB, %" PRIu64 " reads, %" PRIu64
                    " flushes, disk of %" PRIu64 " MiB\n",
                    how_.trace.c_str(), trace_.count(write),
                    static_cast<double>(trace_.bytes(write)) / (1 << 20), trace_.count(read),
                    trace_.count(flush), trace_.disk_size() >> 20);
        std::printf("%" PRIu64 " requests to zero (%.1f MiB) replayed as writes of zeroes, %" PRIu64
                    " to discard left out: the engine has neither yet\n",
                    trace_.count(zero), static_cast<double>(trace_.bytes(zero)) / (1 << 20),
                    trace_.count(discard));
        std::printf("backend %s, %s, depth %u, %u rounds%s; load average %.1f\n\n",
                    how_.backend.c_str(), direct_ ? "O_DIRECT" : "no O_DIRECT", how_.depth,
                    how_.rounds, how_.verify ? ", content verified" : "", load_average());
    }

    void print_results() const {
        std::printf("| disk | seconds | raw / disk |\n|---|---|---|\n");
        print(raw_, raw_);
        if (how_.bound) { print(bound_, raw_); }
        print(qcow2_, raw_);
        if (qemu_) {
            print(qemu_raw_, qemu_raw_);
            print(qemu_qcow2_, qemu_raw_);
            std::printf("\nqemu-io qcow2 / gaur qcow2: %s\n",
                        spread::of_pairs(qemu_qcow2_.seconds, qcow2_.seconds).text().c_str());
        }
        const track::figures& t = qcow2_.last.tracker;
        const qcow2::commit_figures& c = qcow2_.last.commits;
        std::printf("\nTracker (%s): %" PRIu64 " allocations, %" PRIu64 " joined, %" PRIu64
                    " waited, %" PRIu64 " shortened, longest queue %u, most in flight %u\n",
                    how_.ordering.c_str(), t.admitted, t.joined, t.waited, t.shortened,
                    t.longest_queue, t.most_in_flight);
        std::printf("Commits: %" PRIu64 " epochs, %" PRIu64 " barriers, %" PRIu64
                    " bytes of metadata\n",
                    c.epochs, c.barriers, c.metadata_bytes);
    }
    static void print(const side& s, const side& raw) {
        std::printf("| %s | %s | %s |\n", s.name.c_str(), spread::of(s.seconds).text(3).c_str(),
                    spread::of_pairs(raw.seconds, s.seconds).text().c_str());
    }

    const options& how_;
    const trace& trace_;
    std::vector<trace::line> steps_;
    std::vector<trace::line> steps_with_mappings_;
    std::unique_ptr<host> io_;
    scratch files_;
    bool direct_ = false;
    bool qemu_ = false;
    side raw_{"gaur raw"};
    side bound_{"gaur raw, and mappings"};
    side qcow2_{"gaur qcow2"};
    side qemu_raw_{"qemu-io raw"};
    side qemu_qcow2_{"qemu-io qcow2"};
};

void run(const options& o) {
    if (!o.generate.empty()) { return write_small_trace(o.generate); }
    if (o.trace.empty()) { throw std::runtime_error("no TRACE given; see --help"); }
    if (o.dir.find('\'') != std::string::npos) { throw std::runtime_error("--dir has a quote"); }
    const trace t = read_trace(o.trace);
    comparison(o, t).run();
}

} // namespace

int main(int argc, char** argv) {
    options o;
    CLI::App program(about);
    add_options(program, o);
    CLI11_PARSE(program, argc, argv);
    std::signal(SIGPIPE, SIG_IGN); // a qemu-io that ends early is an error to report
    try {
        run(o);
        return 0;
    } catch (const std::exception& why) {
        std::fprintf(stderr, "replay: %s\n", why.what());
        return 1;
    }
}
