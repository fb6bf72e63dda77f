// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "support/guest.hpp"
#include "support/model_disk.hpp"
#include "support/orderings.hpp"
#include "support/placements.hpp"
#include "support/poison.hpp"
#include "support/reference_image.hpp"
#include "support/same_bytes.hpp"
#include "support/scenario.hpp"
#include "support/shrink.hpp"

#include <gaur/async/hooks.hpp>
#include <gaur/exec/inline.hpp>
#include <gaur/io/memory.hpp>
#include <gaur/io/seeded.hpp>
#include <gaur/qcow2/image.hpp>

#include <gtest/gtest.h>

#include <malloc.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace gaur::test {

/// A destroyed image may have I/O in flight, which must end before the backend is destroyed.
template <class Backend>
struct drained_at_end {
    Backend& io;
    ~drained_at_end() {
        while (io.in_flight() != 0) { io.wait(); }
    }
};

/// Checks that the runs of the disk follow each other, and that runs of zeroes read as zeroes.
/// `content` is what was read. EILSEQ if not.
template <class Backend, class Image>
result<void> check_block_status(Backend& io, Image& disk, std::span<const std::byte> content) {
    device::block_walk walk(disk, {0}, content.size());
    for (std::size_t at = 0; at < content.size();) {
        const result<device::block_run> run = sync_wait(io, disk.executor(), walk.next());
        if (!run) { return run.error(); }
        if (run->at.value != at || run->size == 0 || run->size > content.size() - at) {
            return error::from_errno(EILSEQ, at);
        }
        const auto size = static_cast<std::size_t>(run->size);
        const auto is_zero = [](std::byte b) { return b == std::byte{0}; };
        if (run->reads_as_zeroes() && !std::ranges::all_of(content.subspan(at, size), is_zero)) {
            return error::from_errno(EILSEQ, at);
        }
        at += size;
    }
    return {};
}

/// Reads the whole disk through the engine, and asks how it is stored.
template <class Backend, class Image>
result<std::vector<std::byte>> read_whole(Backend& io, Image& disk) {
    std::vector<std::byte> all(disk.size());
    for (std::size_t at = 0; at < all.size(); at += 1 << 18) {
        const auto part = std::span(all).subspan(at, std::min<std::size_t>(1 << 18,
                                                                           all.size() - at));
        io.dog().progress();
        auto reading = disk.read({at}, part);
        const result<void> r = sync_wait(reading);
        if (!r) { return r.error(); }
    }
    io.dog().progress();
    const result<void> told = check_block_status(io, disk, all);
    if (!told) { return told.error(); }
    return all;
}

/// The order in which requests reach the device and end: mostly the device's own, otherwise one
/// that delays some requests as long as possible.
inline io::fault::options order_of(std::uint64_t seed, bool record = false) {
    using io::fault::order;
    io::seeded random(seed);
    const auto chosen = one_of(random, {order::as_inner, order::as_inner, order::random,
                                        order::newest_first, order::oldest_last});
    return {.order = chosen, .seed = seed, .record = record};
}

/// Opens "top" for writing, with its backing files and the ordering's placement.
template <track::Ordering Order, class Backend>
auto open_top(Backend& io, exec::inline_loop& loop, const scenario& s, bool write = true) {
    const auto executor = loop.get_executor();
    return sync_wait(io, executor,
                     qcow2::open<policies_of<Order>>(
                         io, executor, "top",
                         {.write = write,
                          .references = qcow2::references::follow,
                          .cache_bytes = s.cache_bytes,
                          .request_bytes = s.request_bytes,
                          .grow_ahead = s.grow_ahead,
                          .count_ahead = s.count_ahead,
                          .inflate = &reference_image::inflate_stored}));
}

/// Guests write words that identify their writer, or zeroes. No table looks like that.
inline bool is_guest_data(const io::power_log::change& c) {
    for (std::size_t at = (8 - c.offset % 8) % 8; at + 8 <= c.data.size(); at += 8) {
        std::uint64_t word = 0;
        std::memcpy(&word, c.data.data() + at, 8);
        if (word == 0) { continue; }
        const data_tag tag = data_tag::decode(word);
        return tag.word < 1 << 24 && (tag.owner < 1 << 24 || tag.owner >> 28 == 0xb);
    }
    return c.code == io::opcode::write;
}

/// The disk after a cut that keeps the guest's data and nothing else, or everything else.
inline memory_disk survivors_of_a_kind(simulated_device& io, std::uint64_t seed, bool data) {
    using fate = io::power_log::fate;
    const auto kept = [data](std::size_t, const io::power_log::change& c) {
        return is_guest_data(c) == data ? fate::kept : fate::lost;
    };
    memory_disk disk = io.log().survivors(io::seeded(seed), kept);
    disk.merge(io.inner().snapshot());
    return disk;
}

/// The image of a scenario between sessions, the model of its disk, and what snapshots must keep.
class simulated_image {
  public:
    simulated_image(std::uint64_t seed, unsigned cluster_bits, const part_of_run* part = nullptr)
        : scenario_(decide(seed, cluster_bits)) {
        scenario_.part = part;
        prepared_disk made = prepare(scenario_);
        files_ = std::move(made.files);
        below_ = made.content;
        model_.emplace(std::move(made.content));
    }

    const memory_disk& files() const noexcept { return files_; }
    /// Bytes of space used, of all files.
    std::uint64_t used_space() const noexcept {
        std::uint64_t used = 0;
        for (const auto& [name, content] : files_) { used += content.allocated(); }
        return used;
    }
    void set_files(memory_disk files) {
        files_ = std::move(files);
        top_.reset();
    }
    const scenario& decided() const noexcept { return scenario_; }
    scenario& decided() noexcept { return scenario_; }
    model_disk& model() noexcept { return *model_; }

    void note(std::string what) {
        if (wrong_.empty()) { wrong_ = std::move(what); }
    }
    bool good() const noexcept { return wrong_.empty(); }
    std::string wrong() const {
        return wrong_.empty() ? wrong_ : scenario_.describe() + ": " + wrong_;
    }

    /// Open, load, read everything, close, over a device without faults.
    template <track::Ordering Order>
    void clean_session(unsigned number) {
        simulated_device io(*io::memory::backend::make(scenario_.device, files_),
                            order_of(scenario_.seed + number));
        exec::inline_loop loop;
        const drained_at_end drained{io};
        auto opened = open_top<Order>(io, loop, scenario_);
        if (!opened) { return note("open: " + opened.error().message()); }
        auto disk = *std::move(opened);
        guest load(io, disk, *model_, scenario_, number);
        if (!load.run()) { return note(load.wrong()); }
        if (!disk.engine().allocations().empty()) { return note("the tracker is not empty"); }
        if (disk.in_flight() != 0) { return note("requests are counted that have ended"); }
        auto all = read_whole(io, disk);
        if (!all) { return note("reading all: " + all.error().message()); }
        if (std::string bad = model_->settle(*all); !bad.empty()) {
            return note("at the end of session " + std::to_string(number) + ": " + bad);
        }
        const result<void> closed = sync_wait(io, loop.get_executor(), disk.close());
        if (!closed) { return note("close: " + closed.error().message()); }
        set_files(io.inner().snapshot());
        count(disk.tracker_figures());
    }

    /// A session without mishap before those with mishaps, if there are several.
    template <track::Ordering Order>
    void first_session() {
        if (scenario_.sessions == 1) { return; }
        clean_session<Order>(0);
        if (good()) { between_sessions(0); }
    }

    /// Checks the file by the specification alone.
    void check_structure(bool leaks_allowed) {
        check_raw_bytes();
        // Stale refcounts cannot be checked, but the references can.
        const reference_image::verdict v = top().check(is_dirty());
        if (v.corruptions != 0) { return note("corruption: " + v.first); }
        if (v.leaks != 0 && !leaks_allowed) {
            note(std::to_string(v.leaks) + " clusters leak");
        }
    }
    /// Checks bytes that no guest can read: the file holds nothing of the process's memory, and
    /// only zeroes behind the end of the disk.
    void check_raw_bytes() {
        const std::size_t poisoned = find_poison(top().bytes());
        if (poisoned != top().bytes().size()) {
            note("memory that was never filled is in the file at " + std::to_string(poisoned));
        }
        if (const std::uint64_t at = top().first_byte_past_disk(); at != 0) {
            note("behind the disk's end, at " + std::to_string(at) + " of the file, no zeroes");
        }
    }
    bool is_dirty() { return top().is_dirty(); }

    /// What the guest reads, by the specification alone.
    std::vector<std::byte> content_at_rest() {
        std::vector<std::byte> seen = below_;
        top().read_over(seen);
        return seen;
    }

    /// What happens to the image between sessions: clusters are compressed, a snapshot is made.
    void between_sessions(unsigned number) {
        if (scenario_.compressed > 0) {
            io::seeded random(scenario_.seed * 5 + number);
            top().compress([&] { return random.below(4) < scenario_.compressed; });
            keep_top();
            if (!same(content_at_rest(), model_->base())) { note("the test's own compression"); }
        }
        if (number < scenario_.snapshots) { add_snapshot(); }
    }
    void add_snapshot() {
        if (!top().add_snapshot()) { return; }
        keep_top();
        kept_.push_back(model_->base());
        const reference_image::verdict v = top().check();
        if (v.corruptions + v.leaks != 0) { note("the test's own snapshot: " + v.first); }
    }
    void check_snapshots() {
        if (top().snapshot_count() != kept_.size()) { return note("snapshots are lost"); }
        for (std::size_t i = 0; i < kept_.size(); ++i) {
            std::vector<std::byte> seen = below_;
            top().read_snapshot_over(i, seen);
            if (!same(seen, kept_[i])) { note("snapshot " + std::to_string(i) + " has changed"); }
        }
    }

    void count(const track::figures& f) noexcept {
        met_.admitted += f.admitted;
        met_.joined += f.joined;
        met_.shortened += f.shortened;
        met_.waited += f.waited;
    }
    const track::figures& met() const noexcept { return met_; }

  private:
    reference_image& top() {
        if (!top_) { top_.emplace(files_.at("top").bytes()); }
        return *top_;
    }
    void keep_top() { files_.at("top") = io::sparse_bytes(top().bytes()); }

    scenario scenario_;
    memory_disk files_;
    std::optional<reference_image> top_; ///< of `files_`; made on first use
    std::vector<std::byte> below_; ///< what the guest sees below the top layer
    std::optional<model_disk> model_;
    std::vector<std::vector<std::byte>> kept_; ///< in snapshots
    track::figures met_;
    std::string wrong_;
};

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define GAUR_TEST_HAS_ASAN 1
#endif
#endif
#if defined(GAUR_TEST_HAS_ASAN) || defined(__SANITIZE_ADDRESS__)
/// A run takes ten times as long under asan, and looks for other faults: fewer runs are enough.
inline constexpr std::uint64_t fewer_seeds = 4;
#else
inline constexpr std::uint64_t fewer_seeds = 1;
#endif

/// Each run makes and drops disks of some 100 KiB: keeps their pages instead of asking the host for
/// new ones each time. Heap memory is poisoned, so that it is recognised if it reaches a file.
inline void keep_memory() {
    poison_heap();
#if defined(__GLIBC__)
    ::mallopt(M_MMAP_THRESHOLD, 64 << 20);
    ::mallopt(M_TRIM_THRESHOLD, 512 << 20);
#endif
}

/// Processor time of the process in seconds: does not depend on other load of the host.
inline double core_seconds() {
    return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

/// Runs `one(seed, nullptr)`, or `one(seed)`, for as many seeds as the environment says, otherwise
/// for `otherwise` seeds, and prints the rate. `one` returns what is wrong, or an empty string. A
/// run that fails is shrunk if possible. GAUR_SHRINK=1 shrinks before anything else, since some
/// failures end the process.
template <class F>
void for_each_seed(std::uint64_t otherwise, F one) {
    constexpr bool in_parts = std::is_invocable_v<F, std::uint64_t, const part_of_run*>;
    const std::uint64_t only = from_environment("GAUR_SEED", 0);
    const std::uint64_t usual = std::max<std::uint64_t>(1, otherwise / fewer_seeds);
    const std::uint64_t count = only != 0 ? 1 : from_environment("GAUR_SEEDS", usual);
    const std::uint64_t first = only != 0 ? only : from_environment("GAUR_FIRST_SEED", 1);
    const bool shrink_all = from_environment("GAUR_SHRINK", 0) != 0;
    keep_memory();
    const double begin = core_seconds();
    for (std::uint64_t seed = first; seed < first + count; ++seed) {
        std::string wrong;
        if constexpr (in_parts) {
            ASSERT_FALSE(shrink_all && print_shrunk(one, seed)) << "again: GAUR_SEED=" << seed;
            wrong = one(seed, nullptr);
        } else {
            wrong = one(seed);
        }
        if (wrong.empty()) { continue; }
        ADD_FAILURE() << wrong << "\nagain: GAUR_SEED=" << seed;
        if constexpr (in_parts) { print_shrunk(one, seed); }
        return;
    }
    std::printf("%llu seeds, %.0f a second of one core\n", static_cast<unsigned long long>(count),
                static_cast<double>(count) / (core_seconds() - begin));
}

} // namespace gaur::test
