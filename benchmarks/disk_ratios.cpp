// SPDX-License-Identifier: BSL-1.0
// Speeds on a real disk, as ratios within one run: qcow2 images against a raw file over the same
// backend, and against `qemu-img bench` on the same image. On a busy machine the seconds mean
// little. Pairs measured in turn mean more. See `help` below for what is printed.
#include "support/expect.hpp"
#include "support/load.hpp"
#include "support/qemu_bench.hpp"
#include "support/scratch.hpp"
#include "support/spent.hpp"
#include "support/spread.hpp"

#include <gaur/gaur.hpp>
#include <gaur/io/host_file.hpp>
#include <gaur/io/threads.hpp>
#include <gaur/io/uring.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <getopt.h>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace gaur;
using namespace gaur::bench;

constexpr const char* help = R"(bench_disk_ratios [options]

Prints a Markdown table of speeds with O_DIRECT: operations a second of two sides that took turns,
and the ratio of each pair's speeds (median, least and greatest of all rounds; above 1: gaur's qcow2
is the faster one). Beside them the processor time of an operation, the kernel's part with it, which
other programs disturb less. All 4 KiB, 64 in flight, on allocated clusters of one image:

  random read, overwrite    gaur's qcow2 against gaur's raw, same backend, same places
  stepped read, overwrite   gaur's qcow2 against `qemu-img bench -t none`, where it is installed:
                            that has no random places, so both go on by 1 MiB + 4 KiB, and wrap
Aims: 0.95 of raw or more, and no slower than qemu-img.

With --allocating instead: writes into fresh images against a fresh sparse raw file, once until the
last write has ended and once with the flush after it. It takes up to 8 times --size of disk for
each round, since no file is removed before the end: removing one may slow the next down.

  --dir D        for the files; they are removed at the end (default: here)
  --size N       of a disk, in whole MiB; K, M or G may follow (default: 1G)
  --count N      operations a run, at most (default: 20000)
  --rounds N     pairs a row (default: 11)
  --backend B    uring or threads (default: uring; threads where io_uring is forbidden)
  --allocating   see above
)";

constexpr std::uint64_t mebi = std::uint64_t{1} << 20;

struct options {
    std::string dir = ".";
    std::uint64_t size = 1024 * mebi;
    std::uint64_t count = 20000;
    std::uint64_t rounds = 11; ///< many short pairs: a disturbance seldom hits all
    std::string backend;
    bool allocating = false;
};

/// The two sides of one row, one pair per round.
struct row {
    std::string what;
    std::uint64_t count = 0;
    std::vector<spent> theirs{};
    std::vector<spent> ours{};

    void add(spent they, spent we) {
        theirs.push_back(they);
        ours.push_back(we);
    }
};

std::vector<double> all_of(const std::vector<spent>& runs, double spent::*what) {
    std::vector<double> all;
    for (const spent& s : runs) { all.push_back(s.*what); }
    return all;
}

double median(const std::vector<spent>& runs, double spent::*what) {
    return spread::of(all_of(runs, what)).median;
}

void print(const row& r) {
    const spread ratio = spread::of_pairs(all_of(r.theirs, &spent::seconds),
                                          all_of(r.ours, &spent::seconds));
    const double n = static_cast<double>(r.count);
    std::printf("| %s | %.0f | %.0f | %.2f | %.2f | %.2f | %.1f | %.1f |\n", r.what.c_str(),
                n / median(r.theirs, &spent::seconds), n / median(r.ours, &spent::seconds),
                ratio.median, ratio.least, ratio.greatest,
                median(r.theirs, &spent::cpu_seconds) / n * 1e6,
                median(r.ours, &spent::cpu_seconds) / n * 1e6);
    std::fflush(stdout);
}

void print_heading(const char* what) {
    std::printf("\n%s; load average %.1f\n\n"
                "| 4 KiB unless said | theirs, op/s | gaur qcow2, op/s | ratio | min | max "
                "| theirs, CPU µs | gaur, CPU µs |\n|---|---|---|---|---|---|---|---|\n",
                what, load_average());
}

template <class B>
class comparison {
  public:
    comparison(std::unique_ptr<B> io, const options& how)
        : how_(how), files_(how.dir, "bench_disk_ratios"), io_(std::move(io)), loop_(*io_) {}

    void run() {
        find_direct();
        std::printf("backend %s, %s, disks of %ju MiB, %ju rounds\n", B::name.data(),
                    direct_ ? "O_DIRECT" : "through the page cache (no O_DIRECT here)",
                    std::uintmax_t{how_.size / mebi}, std::uintmax_t{how_.rounds});
        if (how_.allocating) { return compare_allocating(); }
        prepare();
        compare_with_raw();
        compare_with_qemu();
    }

  private:
    using executor = typename exec::run_loop<B>::executor;

    /// The times of the operations alone, and with a flush after them.
    struct times {
        spent bare;
        spent flushed;
    };

    void find_direct() {
        const std::string path = files_.add(".probe");
        const auto opened = io::host_file::open(path, {true, true, false, true});
        if (!opened && opened.error() != error::from_errno(EINVAL)) {
            expect(result<void>(opened.error()), path);
        }
        direct_ = opened.has_value();
    }

    template <class T>
    T wait(async::task<T> task, const std::string& what) {
        return expect(sync_wait(*io_, loop_.get_executor(), std::move(task)), what);
    }

    template <class Disk>
    times timed(Disk disk, const pattern& how, const std::string& path) {
        times t;
        const spent before = spent_so_far(RUSAGE_SELF);
        {
            load<Disk> all(disk, how);
            t.bare = all.run();
        }
        if (how.what == device::verb::write) {
            auto flush = disk.flush();
            expect(sync_wait(flush), path);
            t.flushed = spent_so_far(RUSAGE_SELF) - before;
        }
        wait(disk.close(), path);
        return t;
    }

    times on_raw(const std::string& path, const pattern& how, bool create = false) {
        return timed(wait(raw::open(*io_, loop_.get_executor(), path,
                                    {true, direct_, create, how_.size}),
                          path),
                     how, path);
    }

    template <track::Ordering Order = track::join>
    times on_qcow2(const std::string& path, const pattern& how, bool create = false) {
        if (create) {
            wait(qcow2::create(*io_, loop_.get_executor(), path, {.size = how_.size}), path);
        }
        return timed(wait(qcow2::open<qcow2::ordered_by<Order>>(*io_, loop_.get_executor(), path,
                                             {.write = true, .direct = direct_}),
                          path),
                     how, path);
    }

    /// Writes both disks full, once, sequentially in large pieces. The host files then have few
    /// extents, which cost the file system nothing later.
    void prepare() {
        raw_ = files_.add(".raw");
        qcow2_ = files_.add(".qcow2");
        const pattern full{device::verb::write, mebi, mebi, 4, how_.size / mebi};
        on_raw(raw_, full, true);
        on_qcow2(qcow2_, full, true);
    }

    void compare_with_raw() {
        print_heading("Against raw");
        for (const device::verb what : {device::verb::read, device::verb::write}) {
            const pattern how{.what = what, .count = how_.count};
            row r{what == device::verb::read ? "random read" : "random overwrite", how.count};
            for (std::uint64_t i = 0; i < how_.rounds; ++i) {
                // Alternate which side goes first.
                const spent early = i % 2 == 1 ? on_qcow2(qcow2_, how).bare : spent{};
                const spent theirs = on_raw(raw_, how).bare;
                r.add(theirs, i % 2 == 1 ? early : on_qcow2(qcow2_, how).bare);
            }
            print(r);
        }
    }

    void compare_with_qemu() {
        const qemu_image image{
            .path = qcow2_,
            .aio = B::name == std::string_view("uring") ? "io_uring" : "threads",
            .direct = direct_};
        print_heading("Against qemu-img bench on the same image");
        for (const device::verb what : {device::verb::read, device::verb::write}) {
            const pattern how{.what = what, .step = mebi + 4096, .count = how_.count};
            row r{what == device::verb::read ? "stepped read" : "stepped overwrite", how.count};
            for (std::uint64_t i = 0; i < how_.rounds; ++i) {
                const spent early = i % 2 == 1 ? on_qcow2(qcow2_, how).bare : spent{};
                const std::optional<spent> theirs = qemu_bench(image, how);
                if (!theirs) { return; }
                r.add(*theirs, i % 2 == 1 ? early : on_qcow2(qcow2_, how).bare);
            }
            print(r);
        }
    }

    void compare_allocating() {
        print_heading("Allocating writes, against a sparse raw file");
        const auto fitting = [&](std::uint64_t step) {
            return std::min(how_.count, how_.size / step);
        };
        compare_allocating("every 64 KiB", {device::verb::write, 4096, 65536, 64, fitting(65536)});
        compare_allocating("sequential 64 KiB, depth 16",
                           {device::verb::write, 65536, 65536, 16, fitting(65536)});
        compare_allocating("sequential", {device::verb::write, 4096, 4096, 64, fitting(4096)});
    }

    void compare_allocating(const std::string& what, const pattern& how) {
        const std::uint64_t count = how.count;
        std::array<row, 4> rows{row{what + ", serialize", count}, row{what + ", join", count},
                                row{what + ", serialize, flushed", count},
                                row{what + ", join, flushed", count}};
        for (std::uint64_t i = 0; i < how_.rounds; ++i) {
            const times theirs = on_raw(files_.add(".raw"), how, true);
            const times serialize =
                on_qcow2<track::serialize>(files_.add(".qcow2"), how, true);
            const times join = on_qcow2<track::join>(files_.add(".qcow2"), how, true);
            rows[0].add(theirs.bare, serialize.bare);
            rows[1].add(theirs.bare, join.bare);
            rows[2].add(theirs.flushed, serialize.flushed);
            rows[3].add(theirs.flushed, join.flushed);
        }
        for (const row& r : rows) { print(r); }
    }

    const options& how_;
    scratch files_;
    std::unique_ptr<B> io_;
    exec::run_loop<B> loop_;
    bool direct_ = true;
    std::string raw_;
    std::string qcow2_;
};

/// A number with an optional K, M or G after it.
std::uint64_t parse_number(const char* text) {
    char* end = nullptr;
    const std::uint64_t value = std::strtoull(text, &end, 10);
    const std::string unit = end;
    if (end == text || value == 0) { throw std::runtime_error(std::string("no number: ") + text); }
    if (unit.empty()) { return value; }
    if (unit == "K") { return value << 10; }
    if (unit == "M") { return value << 20; }
    if (unit == "G") { return value << 30; }
    throw std::runtime_error(std::string("no number: ") + text);
}

/// Nothing if help was asked for.
std::optional<options> parse(int argc, char** argv) {
    static constexpr std::array<option, 8> known{{{"dir", required_argument, nullptr, 'd'},
                                                  {"size", required_argument, nullptr, 's'},
                                                  {"count", required_argument, nullptr, 'c'},
                                                  {"rounds", required_argument, nullptr, 'r'},
                                                  {"backend", required_argument, nullptr, 'b'},
                                                  {"allocating", no_argument, nullptr, 'a'},
                                                  {"help", no_argument, nullptr, 'h'},
                                                  {nullptr, 0, nullptr, 0}}};
    options how;
    for (int c = 0; (c = ::getopt_long(argc, argv, "", known.data(), nullptr)) != -1;) {
        switch (c) {
        case 'd': how.dir = optarg; break;
        case 's': how.size = align_up(parse_number(optarg), mebi); break;
        case 'c': how.count = parse_number(optarg); break;
        case 'r': how.rounds = parse_number(optarg); break;
        case 'b': how.backend = optarg; break;
        case 'a': how.allocating = true; break;
        case 'h': return std::nullopt;
        default: throw std::runtime_error("see --help");
        }
    }
    if (how.dir.find('\'') != std::string::npos) { throw std::runtime_error("--dir has a quote"); }
    return how;
}

void run(const options& how) {
    if (!how.backend.empty() && how.backend != "uring" && how.backend != "threads") {
        throw std::runtime_error("no backend of that name: " + how.backend);
    }
    if (how.backend != "threads") {
        auto io = io::uring::backend::make();
        if (io) { return comparison<io::uring::backend>(*std::move(io), how).run(); }
        if (how.backend == "uring") { expect(std::move(io), "io_uring"); }
        std::printf("no io_uring here: %s\n", io.error().message().c_str());
    }
    auto io = expect(io::threads::backend::make({.workers = 16}), "threads");
    comparison<io::threads::backend>(std::move(io), how).run();
}

} // namespace

int main(int argc, char** argv) {
    try {
        const std::optional<options> how = parse(argc, argv);
        if (!how) { return std::fputs(help, stdout) < 0 ? 1 : 0; }
        run(*how);
        return 0;
    } catch (const std::exception& why) {
        std::fprintf(stderr, "bench_disk_ratios: %s\n", why.what());
        return 1;
    }
}
