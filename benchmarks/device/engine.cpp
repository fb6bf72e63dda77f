// SPDX-License-Identifier: BSL-1.0
// What the engine itself costs, over files in memory: clusters of 64 KiB, requests of 4 KiB unless
// said otherwise, the inline executor. Names are device/<ordering>/<path>:
//
//   read_hit           of an allocated cluster, its mapping in memory; with a 4 KiB memcpy
//   write_in_place     into an allocated cluster; with a 4 KiB memcpy
//   write_new          each into a new cluster past the file's end: 4 KiB written for 4 KiB asked
//   write_new_backing  each into a new cluster over a raw backing file: 60 KiB are copied as well
//   meet_in_one        64 writes of 1 KiB at once into one new cluster, completions deferred
//
// Time is per request, except meet_in_one: per 64 requests. Counters, per request: `allocs` of the
// heap, `host_ops` at the backend and `host_bytes` moved by them; `waited` and `joined` as the
// tracker counts them. `extents` is the number of runs of the file in which the data lies, for each
// image. `latencies` is how long the 64 writes take if the device's latency is the only cost, in
// units of that latency.
//
// The memory backend clears 64 KiB at the first write to them, which would be most of the time of
// write_new. So that memory is written beforehand, without the engine. Full images are replaced by
// new ones, untimed. The time includes loading the first slices.
#include "support/before_2009.hpp"
#include "support/counting_new.hpp"

#include <gaur/gaur.hpp>

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using namespace gaur;
using backend = io::memory::backend;
using executor = exec::inline_loop::executor;

constexpr std::uint64_t cluster = 65536;
constexpr std::uint64_t clusters = 512; // 32 MiB: what is written lies in no processor's cache

/// Returns the value, or ends the program.
template <class T>
T expect(result<T> outcome) {
    if (!outcome) {
        std::fprintf(stderr, "bench_device: %s\n", outcome.error().message().c_str());
        std::exit(1);
    }
    if constexpr (!std::is_void_v<T>) { return *std::move(outcome); }
}

/// Holds one image at a time. `renew` replaces it.
template <track::Ordering Order>
class rig {
  public:
    using image = qcow2::image<backend, executor, qcow2::ordered_by<Order>>;

    explicit rig(const io::memory::options& how) : io(how) {}
    rig(const rig&) = delete;
    rig& operator=(const rig&) = delete;
    ~rig() {
        if (disk_) { close(); }
    }

    template <class T>
    T wait(async::task<T> task) {
        return expect(sync_wait(io, loop_.get_executor(), std::move(task)));
    }

    /// An empty image whose file's memory is warm; over a raw file full of ones if `with_backing`.
    void renew(bool with_backing = false) {
        if (disk_) { close(); }
        if (with_backing && !io.contains("base")) {
            const std::vector<std::byte> ones(clusters * cluster, std::byte{1});
            io.set_content("base", io::sparse_bytes(ones));
        }
        qcow2::create_options make{.size = clusters * cluster};
        if (with_backing) {
            make.backing_file = "base";
            make.backing_format = "raw";
        }
        wait(qcow2::create(io, loop_.get_executor(), "top", make));
        // Growing the file ahead of use costs the memory backend time, and gains nothing.
        disk_ = std::make_unique<image>(wait(qcow2::open<qcow2::ordered_by<Order>>(
            io, loop_.get_executor(), "top",
            {.write = true, .references = qcow2::references::follow, .grow_ahead = 0})));
        // The engine took the file's end when it opened the file: clusters beyond it are still new.
        const std::vector<std::byte> zeroes(cluster);
        io::sparse_bytes& file = io.content("top");
        const std::uint64_t end = file.size();
        for (std::uint64_t i = 0; i < clusters + 2; ++i) {
            file.write(end + i * cluster, zeroes.data(), zeroes.size());
        }
    }

    image& disk() noexcept { return *disk_; }

    /// Runs of the file in which the disk's clusters lie.
    std::uint64_t extents() {
        std::uint64_t runs = 0;
        for (std::uint64_t i = 0, next = 0; i < clusters; ++i) {
            const auto l = disk_->engine().top().locate({i * cluster}, 1);
            if (!l.status || l.missing || l.what.kind != device::mapping::data) { continue; }
            if (l.what.host.value != next) { ++runs; }
            next = l.what.host.value + cluster;
        }
        return runs;
    }

    backend io;

  private:
    void close() {
        wait(disk_->close());
        disk_.reset();
    }

    exec::inline_loop loop_;
    std::unique_ptr<image> disk_; // in an optional g++ 12 would take it for uninitialized
};

void on_end(void*, result<void> status) noexcept {
    if (!status) { std::abort(); }
}

/// A read and a write that end at once.
template <class Image>
void read(Image& disk, std::uint64_t at, std::span<std::byte> to) {
    auto request = disk.read({at}, to);
    request.start(&on_end, nullptr);
}
template <class Image>
void write(Image& disk, std::uint64_t at, std::span<const std::byte> from) {
    auto request = disk.write({at}, from);
    request.start(&on_end, nullptr);
}

/// Sums the counters while `run` runs.
class costs {
  public:
    template <class F>
    void count(const backend& io, F run) {
        const io::memory::counters before = io.counters();
        const test::allocations_in_scope news;
        run();
        allocations_ += news.count();
        for (std::size_t i = 0; i < before.by_opcode.size(); ++i) {
            operations_ += io.counters().by_opcode[i] - before.by_opcode[i];
            bytes_ += io.counters().bytes_by_opcode[i] - before.bytes_by_opcode[i];
        }
    }
    void report(benchmark::State& state, std::uint64_t requests) const {
        const auto per_request = [&](std::uint64_t n) {
            return static_cast<double>(n) / static_cast<double>(requests);
        };
        state.counters["allocs"] = per_request(allocations_);
        state.counters["host_ops"] = per_request(operations_);
        state.counters["host_bytes"] = per_request(bytes_);
        state.SetItemsProcessed(static_cast<std::int64_t>(requests));
    }

  private:
    std::uint64_t allocations_ = 0;
    std::uint64_t operations_ = 0;
    std::uint64_t bytes_ = 0;
};

/// Visits every cluster once, each far from the one before.
constexpr std::uint64_t scattered(std::uint64_t i) noexcept { return i * 331 % clusters; }

template <track::Ordering Order, bool Write>
void mapped(benchmark::State& state) {
    rig<Order> on{{}};
    on.renew();
    std::vector<std::byte> block(4096, std::byte{2});
    for (std::uint64_t i = 0; i < clusters; ++i) { write(on.disk(), i * cluster, block); }
    costs spent;
    spent.count(on.io, [&] {
        std::uint64_t i = 0;
        for (auto _ : state) {
            const std::uint64_t at = scattered(i++) * cluster;
            if constexpr (Write) {
                write(on.disk(), at, block);
            } else {
                read(on.disk(), at, block);
            }
        }
    });
    spent.report(state, static_cast<std::uint64_t>(state.iterations()));
}

template <track::Ordering Order, bool Backing>
void write_new(benchmark::State& state) {
    rig<Order> on{{}};
    const std::vector<std::byte> block(4096, std::byte{2});
    costs spent;
    std::uint64_t requests = 0;
    // One round of the loop does as many writes as an image has clusters: the timer cannot be
    // stopped and started for each write.
    while (state.KeepRunningBatch(static_cast<std::int64_t>(clusters))) {
        state.PauseTiming();
        on.renew(Backing);
        state.ResumeTiming();
        spent.count(on.io, [&] {
            for (std::uint64_t i = 0; i < clusters; ++i) {
                write(on.disk(), i * cluster + 8192, block);
            }
        });
        requests += clusters;
    }
    spent.report(state, requests);
    state.counters["extents"] = static_cast<double>(on.extents());
}

template <track::Ordering Order>
void meet_in_one(benchmark::State& state) {
    constexpr std::size_t depth = 64;
    using request = typename rig<Order>::image::request;
    rig<Order> on{{.latency = 1}};
    std::vector<std::byte> block(cluster / depth, std::byte{2});
    std::vector<std::optional<request>> requests(depth);
    costs spent;
    track::figures met;
    std::uint64_t done = 0;
    std::uint64_t latencies = 0;
    const auto finish = [&] {
        const track::figures& f = on.disk().tracker_figures();
        met.waited += f.waited;
        met.joined += f.joined;
    };
    const auto batch = [&](std::uint64_t at) {
        for (std::size_t i = 0; i < depth; ++i) {
            requests[i].emplace(on.disk().engine(), device::verb::write,
                                guest_offset{at + i * block.size()}, std::span(block));
            requests[i]->start(&on_end, nullptr);
        }
        while (on.disk().in_flight() > 0) { on.io.wait(); }
    };
    while (state.KeepRunningBatch(static_cast<std::int64_t>(clusters))) {
        state.PauseTiming();
        if (done > 0) { finish(); }
        on.renew();
        state.ResumeTiming();
        const std::uint64_t begun = on.io.now();
        spent.count(on.io, [&] {
            for (std::uint64_t i = 0; i < clusters; ++i) { batch(i * cluster); }
        });
        latencies += on.io.now() - begun;
        done += clusters * depth;
    }
    finish();
    spent.report(state, done);
    state.counters["waited"] = static_cast<double>(met.waited) / static_cast<double>(done);
    state.counters["joined"] = static_cast<double>(met.joined) / static_cast<double>(done);
    state.counters["latencies"] =
        static_cast<double>(latencies) / static_cast<double>(done / depth);
    for (auto& r : requests) { r.reset(); }
}

template <track::Ordering Order>
void register_all() {
    const std::string prefix = "device/" + std::string(Order::name) + "/";
    const auto add = [&](const char* path, void (*run)(benchmark::State&)) {
        benchmark::RegisterBenchmark((prefix + path).c_str(), run);
    };
    add("read_hit", &mapped<Order, false>);
    add("write_in_place", &mapped<Order, true>);
    add("write_new", &write_new<Order, false>);
    add("write_new_backing", &write_new<Order, true>);
    add("meet_in_one", &meet_in_one<Order>);
}

[[maybe_unused]] const bool registered = [] {
    register_all<track::serialize>();
    register_all<track::join>();
    benchmark::RegisterBenchmark("device/before-2009/meet_in_one",
                                 &meet_in_one<bench::before_2009>);
    return true;
}();

} // namespace
