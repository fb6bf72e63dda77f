// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "support/model_disk.hpp"
#include "support/orderings.hpp"
#include "support/reference_image.hpp"

#include <gaur/async/probe.hpp>
#include <gaur/exec/inline.hpp>
#include <gaur/io/memory.hpp>
#include <gaur/io/seeded.hpp>
#include <gaur/qcow2/create.hpp>
#include <gaur/qcow2/image.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstdio>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace gaur::test {

using memory_disk = io::memory::disk;

/// One of the numbers, each as likely as its place in the list says: repeat to weigh.
template <class T, std::size_t N>
T one_of(io::seeded& random, const T (&values)[N]) {
    return values[random.below(N)];
}

inline std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
    const char* text = std::getenv(name);
    return text != nullptr ? std::strtoull(text, nullptr, 0) : otherwise;
}

/// What one seed decides of an image and of the load on it.
struct scenario {
    std::uint64_t seed = 0;
    qcow2::create_options top;
    std::vector<std::uint64_t> lower_sizes; ///< backing files, the nearest first
    std::vector<bool> lower_is_raw;
    std::size_t cache_bytes = 0;
    std::uint64_t grow_ahead = 0;
    std::uint64_t count_ahead = 0;
    io::memory::options device;
    unsigned depth = 1;
    unsigned operations = 0;
    unsigned sessions = 1;
    unsigned snapshots = 0;      ///< between sessions
    unsigned compressed = 0;     ///< of 4 clusters, between sessions
    bool overlaps = false;       ///< writes in flight may overlap each other
    std::uint64_t hot_bytes = 0; ///< most requests go here
    std::uint64_t most_bytes = 0; ///< of one request
    unsigned flush_weight = 0;

    std::string describe() const {
        std::string text = "seed " + std::to_string(seed) + ": v" + std::to_string(top.version) +
                           ", cluster bits " + std::to_string(top.cluster_bits) +
                           ", refcount bits " + std::to_string(top.refcount_bits) + ", size " +
                           std::to_string(top.size) + (top.lazy_refcounts ? ", lazy" : "");
        for (std::size_t i = 0; i < lower_sizes.size(); ++i) {
            text += lower_is_raw[i] ? ", over raw " : ", over qcow2 ";
            text += std::to_string(lower_sizes[i]);
        }
        text += ", cache " + std::to_string(cache_bytes) + ", ahead " +
                std::to_string(grow_ahead) + ", count ahead " + std::to_string(count_ahead) +
                ", depth " + std::to_string(depth) +
                ", alignment " + std::to_string(device.limits.offset_alignment) + ", device " +
                (device.seed != 0 ? "seeded" : device.deferred ? "deferred" : "at once") +
                ", sessions " + std::to_string(sessions) + ", snapshots " +
                std::to_string(snapshots) + ", compressed " + std::to_string(compressed) +
                (overlaps ? ", overlaps" : "");
        return text;
    }
};

/// Decides the scenario of a seed; `cluster_bits` 0: any, mostly small ones.
inline scenario decide(std::uint64_t seed, unsigned cluster_bits) {
    io::seeded random(seed);
    scenario s;
    s.seed = seed;
    s.top.cluster_bits = cluster_bits;
    s.top.version = random.below(4) == 0 ? 2 : 3;
    s.top.refcount_bits = s.top.version == 2 ? 16 : 1U << random.below(7);
    s.top.lazy_refcounts = s.top.version == 3 && random.below(3) == 0;
    const std::uint64_t cluster = std::uint64_t{1} << cluster_bits;
    // Some tables' worth of clusters, and a last cluster that the disk holds in part.
    s.top.size = 512 * (1 + random.below(cluster / 512 * (cluster_bits < 12 ? 400 : 24)));
    s.hot_bytes = std::min(s.top.size, cluster * (1 + random.below(40)));
    const auto most = one_of<std::uint64_t>(random, {1, 3, 3, 20});
    s.most_bytes = std::min<std::uint64_t>(s.top.size, cluster * most);
    s.most_bytes = std::min<std::uint64_t>(s.most_bytes, std::max<std::uint64_t>(cluster, 1 << 17));
    if (cluster_bits < 12 && s.top.refcount_bits >= 32 && random.below(8) == 0) {
        s.top.size = 1 << 21 | 512 * random.below(2048); // the refcount table has to grow
        s.most_bytes = 1 << 15;
    }
    for (std::uint64_t depth = one_of<std::uint64_t>(random, {0, 0, 1, 1, 2}); depth > 0; --depth) {
        s.lower_sizes.push_back(512 * (1 + random.below(s.top.size / 512 * 3 / 2 + 1)));
        s.lower_is_raw.push_back(random.coin());
        if (s.lower_is_raw.back()) {
            s.lower_sizes.back() -= random.below(512); // a raw file may end anywhere
            break;
        }
    }
    if (!s.lower_sizes.empty()) {
        s.top.backing_file = "lower0";
        s.top.backing_format = s.lower_is_raw[0] ? "raw" : "qcow2";
    }
    s.cache_bytes = one_of<std::size_t>(random, {0, 0, 6 * 512, 1 << 15, 1 << 20});
    s.grow_ahead = one_of<std::uint64_t>(random, {0, 0, 4096, 8 * cluster});
    s.count_ahead = one_of<std::uint64_t>(random, {0, cluster, 5 * cluster, 1 << 22});
    const std::uint32_t alignment = one_of<std::uint32_t>(random, {1, 1, 1, 512, 4096});
    s.device.limits.offset_alignment = alignment;
    s.device.limits.memory_alignment = alignment;
    s.device.deferred = random.below(4) != 0;
    s.device.seed = s.device.deferred && random.below(4) != 0 ? seed | 1 : 0;
    s.device.depth = one_of(random, {0U, 0U, 1U, 4U});
    s.depth = one_of(random, {1U, 2U, 8U, 32U, 64U});
    s.sessions = one_of(random, {1U, 2U, 3U});
    s.operations = 200 / s.sessions;
    s.snapshots = random.coin() ? s.sessions - 1 : 0;
    s.compressed = one_of(random, {0U, 1U, 3U});
    s.overlaps = random.below(3) == 0;
    s.flush_weight = one_of(random, {0U, 2U, 10U, 30U});
    return s;
}

/// The files before the first session, and what the guest sees in them.
struct prepared_disk {
    memory_disk files;
    std::vector<std::byte> content;
};

namespace simulation {

template <class T>
T must(result<T> r) {
    if (!r) {
        std::fprintf(stderr, "preparing failed: %s\n", r.error().message().c_str());
        std::abort();
    }
    return *std::move(r);
}
inline void must(result<void> r) {
    if (!r) {
        std::fprintf(stderr, "preparing failed: %s\n", r.error().message().c_str());
        std::abort();
    }
}

} // namespace simulation

/// Makes the image of a scenario and what lies below it, whole.
inline prepared_disk prepare(const scenario& s) {
    io::seeded random(s.seed ^ 0x1234);
    io::memory::backend io;
    exec::inline_loop loop;
    const auto executor = loop.get_executor();
    prepared_disk made;
    for (std::size_t i = s.lower_sizes.size(); i-- > 0;) {
        const std::string name = "lower" + std::to_string(i);
        const std::uint64_t size = s.lower_sizes[i];
        const std::uint32_t owner = 0xb000'0000U + static_cast<std::uint32_t>(i);
        if (s.lower_is_raw[i]) {
            made.content.resize(size);
            fill_tagged(made.content, 0, owner);
            io.set_content(name, io::sparse_bytes(made.content));
            continue;
        }
        qcow2::create_options how;
        how.size = size;
        how.cluster_bits = one_of(random, {9U, 9U, 12U, 16U});
        if (i + 1 < s.lower_sizes.size()) {
            how.backing_file = "lower" + std::to_string(i + 1);
            how.backing_format = s.lower_is_raw[i + 1] ? "raw" : "qcow2";
        }
        simulation::must(sync_wait(io, executor, qcow2::create(io, executor, name, how)));
        auto disk = simulation::must(sync_wait(
            io, executor,
            qcow2::open(io, executor, name,
                        {.write = true,
                         .references = qcow2::references::follow,
                         .grow_ahead = 0})));
        made.content.resize(size);
        for (int pieces = 0; pieces < 6; ++pieces) {
            const std::uint64_t at = random.below(size);
            const std::uint64_t n = 1 + random.below(std::min(size - at, size / 6 + 1));
            const std::span<std::byte> part = std::span(made.content).subspan(at, n);
            fill_tagged(part, at, owner);
            auto writing = disk.write({at}, part);
            simulation::must(sync_wait(writing));
        }
        simulation::must(sync_wait(io, executor, disk.close()));
    }
    made.content.resize(s.top.size);
    simulation::must(sync_wait(io, executor, qcow2::create(io, executor, "top", s.top)));
    made.files = io.snapshot();
    return made;
}

/// A guest with many requests in flight on one open image, beside the model of its disk.
template <class Backend, class Image>
class guest {
  public:
    struct figures {
        std::uint64_t ended = 0;
        std::uint64_t failed = 0;
    };

    guest(Backend& io, Image& disk, model_disk& model, const scenario& s, std::uint64_t seed)
        : io_(io), disk_(disk), model_(model), scenario_(s), random_(seed), slots_(s.depth) {
        for (slot& each : slots_) {
            each.owner = this;
            idle_.push_back(&each);
        }
    }

    /// Errors are expected, and no reason to stop.
    void allow_errors() noexcept { errors_allowed_ = true; }
    /// Asked before each request: no further ones where it answers true.
    template <class F>
    void stop_when(F f) {
        stop_ = f;
    }

    /// Begins `operations` requests and waits until all have ended. False where something is wrong.
    bool run(unsigned operations) {
        left_ = operations;
        for (;;) {
            if (!wrong_.empty()) { left_ = 0; }
            if (stop_ && stop_()) { left_ = 0; }
            const bool may_begin = left_ > 0 && !idle_.empty();
            if (left_ == 0 && idle_.size() == slots_.size()) { break; }
            if (may_begin && (idle_.size() == slots_.size() || random_.below(4) != 0)) {
                begin_one();
            } else if (random_.below(4) == 0) {
                io_.poll();
            } else if (io_.wait() == 0 && !may_begin && idle_.size() != slots_.size()) {
                note("no request ends any more, with " +
                     std::to_string(slots_.size() - idle_.size()) + " in flight");
                std::fprintf(stderr, "%s: %s\n", scenario_.describe().c_str(), wrong_.c_str());
                std::abort(); // requests in flight cannot be destroyed
            }
        }
        return wrong_.empty();
    }

    /// Without waiting for their end: what is in flight when the image goes.
    void begin_many(unsigned operations) {
        left_ = operations;
        while (left_ > 0 && !idle_.empty()) { begin_one(); }
        left_ = 0;
    }
    void finish() { run(0); }
    std::size_t in_flight() const noexcept { return slots_.size() - idle_.size(); }

    const std::string& wrong() const noexcept { return wrong_; }
    const figures& counted() const noexcept { return figures_; }

  private:
    using request = typename Image::request;

    struct slot {
        guest* owner = nullptr;
        std::optional<request> asked;
        device::verb verb = device::verb::flush;
        std::uint64_t at = 0;
        std::uint64_t size = 0;
        std::vector<std::byte> data;
        std::uint32_t id = 0; ///< of a write, or when a flush began
        model_disk::read_begun reading;
        bool out_of_range = false;
    };

    void note(std::string what) {
        if (wrong_.empty()) { wrong_ = std::move(what); }
    }

    void begin_one() {
        slot& s = *idle_.back();
        --left_;
        const std::uint64_t kind = random_.below(100);
        s.verb = kind < scenario_.flush_weight ? device::verb::flush
                 : kind % 3 == 0               ? device::verb::read
                                               : device::verb::write;
        if (s.verb == device::verb::flush) {
            s.at = s.size = 0;
        } else {
            choose_place(s);
        }
        if (s.verb == device::verb::write && !scenario_.overlaps && meets_write(s)) {
            s.verb = device::verb::read;
        }
        idle_.pop_back();
        s.data.resize(s.size);
        s.out_of_range = s.at + s.size > model_.size();
        start(s);
    }

    void start(slot& s) {
        typename Image::engine_type& engine = disk_.engine();
        if (s.verb == device::verb::flush) {
            s.id = model_.begin_flush();
        } else if (!s.out_of_range && s.verb == device::verb::read) {
            model_.begin_read(s.reading, s.at, s.size);
        } else if (!s.out_of_range) {
            s.id = model_.begin_write(s.at, s.data, random_.below(16) == 0);
        }
        s.asked.emplace(engine, s.verb, guest_offset{s.at}, std::span(s.data));
        s.asked->start(&on_end, &s);
    }

    void choose_place(slot& s) {
        const std::uint64_t size = model_.size();
        const std::uint64_t area = random_.below(3) == 0 ? size : scenario_.hot_bytes;
        const std::uint64_t most = std::min(scenario_.most_bytes, size);
        s.at = random_.below(area);
        s.size = random_.below(4) == 0 ? random_.below(100) : random_.below(most) + 1;
        const std::uint64_t cluster = std::uint64_t{1} << scenario_.top.cluster_bits;
        switch (random_.below(4)) {
        case 0: break;
        case 1: align(s, 512); break;
        case 2: align(s, cluster); break;
        case 3: // begins where the last write ended
            s.at = next_ < size ? next_ : 0;
            align(s, std::min<std::uint64_t>(512, cluster));
            break;
        }
        if (random_.below(64) != 0) { s.size = std::min(s.size, size - s.at); }
        next_ = s.at + s.size;
    }
    static void align(slot& s, std::uint64_t to) {
        s.at = s.at / to * to;
        s.size = std::max(s.size / to * to, to);
    }

    bool meets_write(const slot& mine) const {
        return std::any_of(slots_.begin(), slots_.end(), [&](const slot& s) {
            return &s != &mine && s.asked && s.verb == device::verb::write &&
                   s.at < mine.at + mine.size && mine.at < s.at + s.size;
        });
    }

    static void on_end(void* context, result<void> status) noexcept {
        auto& s = *static_cast<slot*>(context);
        s.owner->ended(s, status);
    }

    void ended(slot& s, result<void> status) {
        ++figures_.ended;
        figures_.failed += status || s.out_of_range ? 0 : 1;
        if (s.out_of_range) {
            if (status || !(status.error() == errc::out_of_range)) {
                note("a request past the end was not refused");
            }
        } else {
            tell_model(s, status);
        }
        s.asked.reset();
        idle_.push_back(&s);
        if (left_ > 0 && wrong_.empty() && random_.below(8) == 0) { begin_one(); }
    }

    void tell_model(slot& s, result<void> status) {
        if (!status && !errors_allowed_) {
            note(std::string(s.verb == device::verb::read    ? "read"
                             : s.verb == device::verb::write ? "write"
                                                             : "flush") +
                 " at " + std::to_string(s.at) + " of " + std::to_string(s.size) + " failed: " +
                 status.error().message());
        }
        if (s.verb == device::verb::flush) {
            model_.end_flush(s.id, status.has_value());
        } else if (s.verb == device::verb::write) {
            model_.end_write(s.id, status.has_value());
        } else if (status) {
            const std::string bad = model_.end_read(s.reading, s.data);
            if (!bad.empty()) {
                note("a read at " + std::to_string(s.at) + " of " + std::to_string(s.size) +
                     ": " + bad);
            }
        }
    }

    Backend& io_;
    Image& disk_;
    model_disk& model_;
    const scenario& scenario_;
    io::seeded random_;
    std::deque<slot> slots_;
    std::vector<slot*> idle_;
    std::uint64_t next_ = 0;
    unsigned left_ = 0;
    bool errors_allowed_ = false;
    std::function<bool()> stop_;
    std::string wrong_;
    figures figures_;
};

/// An image that is gone may have I/O in flight, which must end before the backend does.
template <class Backend>
struct drained_at_end {
    Backend& io;
    ~drained_at_end() {
        while (io.in_flight() != 0) { io.wait(); }
    }
};

/// Reads the whole disk through the engine.
template <class Backend, class Image>
result<std::vector<std::byte>> read_whole(Backend& io, Image& disk) {
    std::vector<std::byte> all(disk.size());
    for (std::size_t at = 0; at < all.size(); at += 1 << 18) {
        const auto part = std::span(all).subspan(at, std::min<std::size_t>(1 << 18,
                                                                           all.size() - at));
        auto reading = disk.read({at}, part);
        const result<void> r = sync_wait(reading);
        if (!r) { return r.error(); }
    }
    static_cast<void>(io);
    return all;
}

/// Opens "top" for writing, with its backing files.
template <track::Ordering Order, class Backend>
auto open_top(Backend& io, exec::inline_loop& loop, const scenario& s, bool write = true) {
    const auto executor = loop.get_executor();
    return sync_wait(io, executor,
                     qcow2::open<Order>(io, executor, "top",
                                        {.write = write,
                                         .references = qcow2::references::follow,
                                         .cache_bytes = s.cache_bytes,
                                         .grow_ahead = s.grow_ahead,
                                         .count_ahead = s.count_ahead,
                                         .inflate = &reference_image::inflate_stored}));
}

/// The image of a scenario between sessions, the model of its disk, and what snapshots must keep.
class simulated_image {
  public:
    simulated_image(std::uint64_t seed, unsigned cluster_bits)
        : scenario_(decide(seed, cluster_bits)) {
        prepared_disk made = prepare(scenario_);
        files_ = std::move(made.files);
        below_ = made.content;
        model_.emplace(std::move(made.content));
    }

    const memory_disk& files() const noexcept { return files_; }
    void set_files(memory_disk files) { files_ = std::move(files); }
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
        auto made = io::memory::backend::make(scenario_.device, files_);
        io::memory::backend& io = **made;
        exec::inline_loop loop;
        const drained_at_end drained{io};
        auto opened = open_top<Order>(io, loop, scenario_);
        if (!opened) { return note("open: " + opened.error().message()); }
        auto disk = *std::move(opened);
        guest load(io, disk, *model_, scenario_, scenario_.seed * 31 + number);
        if (!load.run(scenario_.operations)) { return note(load.wrong()); }
        if (!disk.engine().changes().empty()) { return note("the tracker is not empty"); }
        if (disk.in_flight() != 0) { return note("requests are counted that have ended"); }
        auto all = read_whole(io, disk);
        if (!all) { return note("reading all: " + all.error().message()); }
        if (std::string bad = model_->settle(*all); !bad.empty()) {
            return note("at the end of session " + std::to_string(number) + ": " + bad);
        }
        const result<void> closed = sync_wait(io, loop.get_executor(), disk.close());
        if (!closed) { return note("close: " + closed.error().message()); }
        files_ = io.snapshot();
        count(disk.tracker_figures());
    }

    /// By the specification alone: what the file says of itself.
    void check_structure(bool leaks_allowed) {
        reference_image file(files_.at("top").bytes());
        const reference_image::verdict v = file.check();
        // With stale refcounts nothing can be said of them.
        if (file.is_dirty()) { return; }
        if (v.corruptions != 0) { return note("corruption: " + v.first); }
        if (v.leaks != 0 && !leaks_allowed) {
            note(std::to_string(v.leaks) + " clusters leak");
        }
    }
    bool is_dirty() const { return reference_image(files_.at("top").bytes()).is_dirty(); }

    /// What the guest reads, by the specification alone.
    std::vector<std::byte> content_at_rest() const {
        std::vector<std::byte> seen = below_;
        reference_image(files_.at("top").bytes()).read_over(seen);
        return seen;
    }

    /// What happens to the image between sessions: clusters are compressed, a snapshot is made.
    void between_sessions(unsigned number) {
        if (scenario_.compressed > 0) {
            io::seeded random(scenario_.seed * 5 + number);
            reference_image file(files_.at("top").bytes());
            file.compress([&] { return random.below(4) < scenario_.compressed; });
            files_.at("top") = io::sparse_bytes(file.bytes());
            if (content_at_rest() != model_->base()) { note("the test's own compression"); }
        }
        if (number < scenario_.snapshots) { add_snapshot(); }
    }
    void add_snapshot() {
        reference_image file(files_.at("top").bytes());
        if (!file.add_snapshot()) { return; }
        files_.at("top") = io::sparse_bytes(file.bytes());
        kept_.push_back(model_->base());
        const reference_image::verdict v = file.check();
        if (v.corruptions + v.leaks != 0) { note("the test's own snapshot: " + v.first); }
    }
    void check_snapshots() {
        const reference_image file(files_.at("top").bytes());
        if (file.snapshot_count() != kept_.size()) { return note("snapshots are lost"); }
        for (std::size_t i = 0; i < kept_.size(); ++i) {
            std::vector<std::byte> seen = below_;
            file.read_snapshot_over(i, seen);
            if (seen != kept_[i]) { note("snapshot " + std::to_string(i) + " has changed"); }
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
    scenario scenario_;
    memory_disk files_;
    std::vector<std::byte> below_; ///< what the top layer lies on
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
/// A run takes ten times as long, and looks for other faults: fewer of them will do.
inline constexpr std::uint64_t fewer_seeds = 4;
#else
inline constexpr std::uint64_t fewer_seeds = 1;
#endif

/// Runs `one(seed)` for as many seeds as the environment says, else `otherwise`, and prints how
/// fast that was. `one` gives what is wrong, or nothing.
template <class F>
void for_each_seed(std::uint64_t otherwise, F one) {
    const std::uint64_t only = from_environment("GAUR_SEED", 0);
    const std::uint64_t usual = std::max<std::uint64_t>(1, otherwise / fewer_seeds);
    const std::uint64_t count = only != 0 ? 1 : from_environment("GAUR_SEEDS", usual);
    const std::uint64_t first = only != 0 ? only : from_environment("GAUR_FIRST_SEED", 1);
    const auto begin = std::chrono::steady_clock::now();
    for (std::uint64_t seed = first; seed < first + count; ++seed) {
        const std::string wrong = one(seed);
        ASSERT_TRUE(wrong.empty()) << wrong << "\nagain: GAUR_SEED=" << seed;
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    std::printf("%llu seeds, %.0f a second\n", static_cast<unsigned long long>(count),
                static_cast<double>(count) / took.count());
}

} // namespace gaur::test
