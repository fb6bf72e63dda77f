// SPDX-License-Identifier: BSL-1.0
#include "disk_works.hpp"

#include <array>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace gaur::bench {

namespace {

constexpr std::uint64_t kibi = 1024;
constexpr std::uint64_t cluster = 64 * kibi;

enum class disk : std::uint8_t { fresh, full, over_raw };

struct planned {
    std::string what;
    std::string aim;
    pattern how;
    std::uint64_t size = 0; ///< of the disk, bytes
    disk on = disk::fresh;
};

/// An odd number of `unit`s, about 0.618 of `size`. If `size` is a power of two of them, steps of
/// it reach every place once, and never one near the last. As random as `qemu-img bench` can be.
std::uint64_t scattering_step(std::uint64_t size, std::uint64_t unit) {
    return (size / unit * 618 / 1000 | 1) * unit;
}

/// `n`: operations of a run, a power of two.
std::vector<planned> plan(std::uint64_t n) {
    using enum device::verb;
    const std::uint64_t full = n * cluster;
    const std::uint64_t anywhere = scattering_step(full, 4 * kibi);
    return {
        {"4 KiB, step 64 KiB, fresh, depth 64", "0.95 of raw, 8 times QEMU",
         {.what = write, .step = cluster, .count = n}, full},
        {"4 KiB at random into new clusters, depth 64", "1.1",
         {.what = write, .step = scattering_step(full, cluster), .count = n}, full},
        {"64 KiB sequential, fresh, depth 16", "0.95",
         {.what = write, .block = cluster, .step = cluster, .depth = 16, .count = n / 2},
         n / 2 * cluster},
        {"4 KiB sequential, fresh, depth 64", "2.0",
         {.what = write, .step = 4 * kibi, .count = 4 * n}, 16 * n * kibi},
        {"4 KiB sequential, fresh, depth 1", "1.00",
         {.what = write, .step = 4 * kibi, .depth = 1, .count = n / 2}, 2 * n * kibi},
        {"4 KiB sequential, flush every 64, depth 16", "0.95",
         {.what = write, .step = 4 * kibi, .depth = 16, .count = n, .flush_every = 64},
         4 * n * kibi},
        {"4 KiB overwrite, depth 64", "0.98", {.what = write, .step = anywhere, .count = 2 * n},
         full, disk::full},
        {"4 KiB read, depth 64", "0.98", {.what = read, .step = anywhere, .count = 2 * n}, full,
         disk::full},
        {"4 KiB over a raw backing file, step 64 KiB, depth 64", "3 times QEMU",
         {.what = write, .step = cluster, .count = n / 4}, full, disk::over_raw},
        {"128 KiB sequential at +32 KiB, fresh, depth 16", "",
         {.what = write, .block = 128 * kibi, .step = 128 * kibi, .depth = 16, .count = n / 2,
          .offset = 32 * kibi},
         (n / 2 + 1) * 128 * kibi},
        {"4 KiB, each made durable, 32 writers", "",
         {.what = write, .step = 4 * kibi, .depth = 32, .count = n / 4, .each_durable = true},
         n * kibi},
    };
}

/// Runs one work on all sides, round by round.
class round_robin {
  public:
    round_robin(site& at, const planned& p)
        : at_(at), plan_(p), done_{.what = p.what, .count = p.how.count, .aim = p.aim} {}

    work run() {
        std::array<std::function<void()>, 5> sides{
            [this] { ours(done_.raw, kind::raw); }, [this] { ours(done_.join, kind::join); },
            [this] { ours(done_.serialize, kind::serialize); },
            [this] { qemus(done_.qemu_raw, "raw"); }, [this] { qemus(done_.qemu, "qcow2"); }};
        for (round_ = 0; round_ < at_.how().rounds; ++round_) {
            // Alternate which side goes first.
            for (std::size_t k = 0; k < sides.size(); ++k) {
                sides[(round_ + k) % sides.size()]();
            }
        }
        return std::move(done_);
    }

    const outcome& last_of_join() const noexcept { return join_; }
    const outcome& last_of_serialize() const noexcept { return serialize_; }
    const std::string& path_of(kind k) const noexcept {
        return k == kind::join ? join_path_ : serialize_path_;
    }
    const std::string& path_of_qemu() const noexcept { return qemu_path_; }

  private:
    void ours(side& s, kind k) {
        if (plan_.on == disk::over_raw && k == kind::raw) { return copy_by_hand(s); }
        image on;
        if (plan_.on == disk::full) {
            const site::full_disks& full = at_.full(plan_.size, round_);
            on = at_.existing(k, k == kind::raw ? full.raw : full.qcow2);
        } else {
            on = at_.fresh(k, plan_.size);
        }
        if (plan_.on == disk::over_raw) {
            const std::string& below = at_.full(plan_.size).raw;
            on.raw_backing = below.substr(below.rfind('/') + 1);
        }
        const outcome o = at_.io().run(on, plan_.how);
        s.seconds.push_back(o.bare.seconds);
        if (plan_.how.what == device::verb::write) {
            s.flushed_seconds.push_back(o.flushed.seconds);
        }
        if (k == kind::join) { join_ = o, join_path_ = on.path; }
        if (k == kind::serialize) { serialize_ = o, serialize_path_ = on.path; }
    }

    /// What raw does if the other sides copy on write: it reads the same bytes, then writes whole
    /// clusters.
    void copy_by_hand(side& s) {
        pattern all = plan_.how;
        all.what = device::verb::read;
        all.block = cluster - plan_.how.block;
        all.offset = plan_.how.block;
        all.count -= 1; // the last one would begin past the end
        const outcome reads =
            at_.io().run(at_.existing(kind::raw, at_.full(plan_.size).raw), all);
        all = plan_.how;
        all.block = cluster;
        const outcome writes = at_.io().run(at_.fresh(kind::raw, plan_.size), all);
        s.seconds.push_back(reads.bare.seconds + writes.bare.seconds);
        s.flushed_seconds.push_back(reads.bare.seconds + writes.flushed.seconds);
    }

    void qemus(side& s, const std::string& format) {
        const bool is_raw = format == "raw";
        // `qemu-img bench` has only one writer.
        if (!at_.has_qemu() || plan_.how.each_durable) { return; }
        if (plan_.on == disk::over_raw && is_raw) { return; }
        qemu_image on;
        if (plan_.on == disk::full) {
            const site::full_disks& full = at_.full(plan_.size, round_);
            on = at_.for_qemu(is_raw ? full.raw : full.qcow2, format);
        } else {
            on = at_.fresh_for_qemu(
                format, plan_.size,
                plan_.on == disk::over_raw ? at_.full(plan_.size).raw : std::string());
        }
        if (const auto took = qemu_bench(on, plan_.how)) { s.seconds.push_back(took->seconds); }
        if (!is_raw) { qemu_path_ = on.path; }
    }

    site& at_;
    const planned& plan_;
    work done_;
    unsigned round_ = 0;
    outcome join_;
    outcome serialize_;
    std::string join_path_;
    std::string serialize_path_;
    std::string qemu_path_;
};

spread per(double value, std::uint64_t count) {
    return exactly(value / static_cast<double>(count));
}

void count_extents(site& at, const round_robin& all, report& to) {
    counted c{.what = "128 KiB at +32 KiB: runs of host clusters in all", .aim = "2 or fewer"};
    const auto runs = [&at](const std::string& path) {
        return exactly(static_cast<double>(
            at.io().count_extents(at.existing(kind::join, path))));
    };
    c.join = runs(all.path_of(kind::join));
    c.serialize = runs(all.path_of(kind::serialize));
    if (!all.path_of_qemu().empty()) { c.qemu = runs(all.path_of_qemu()); }
    to.figures.push_back(std::move(c));
}

void count_barriers(const round_robin& all, const planned& p, report& to) {
    const auto barriers = [&](const outcome& o) {
        return per(static_cast<double>(o.commits.barriers), p.how.count);
    };
    const auto bytes = [&](const outcome& o) {
        const std::uint64_t asked = p.how.count * p.how.block;
        return per(static_cast<double>(asked + o.commits.metadata_bytes), asked);
    };
    to.figures.push_back({.what = "4 KiB each made durable, 32 writers: barriers per write",
                          .aim = "0.1 or fewer",
                          .join = barriers(all.last_of_join()),
                          .serialize = barriers(all.last_of_serialize())});
    to.figures.push_back({.what = "… bytes written per byte asked",
                          .aim = "3 or fewer",
                          .join = bytes(all.last_of_join()),
                          .serialize = bytes(all.last_of_serialize())});
}

} // namespace

void measure_works(site& at, report& to) {
    for (const planned& p : plan(at.how().operations())) {
        if (!at.how().wants(p.what)) { continue; }
        std::fprintf(stderr, "%s …\n", p.what.c_str());
        round_robin all(at, p);
        to.works.push_back(all.run());
        if (p.how.offset != 0) { count_extents(at, all, to); }
        if (p.how.each_durable) { count_barriers(all, p, to); }
    }
}

} // namespace gaur::bench
