// SPDX-License-Identifier: BSL-1.0
// Small workloads, all of them: up to three operations, on each kind of cluster, in images of
// several shapes; and after each the disks that a power cut may leave: all, where they are at most
// 1024 an epoch, else every choice of at most 10 whole changes and some torn ones.
//
//   GAUR_EXHAUSTIVE=3 test_simulation --gtest_filter='exhaustive*'   not only a part of them; 4:
//                                                                    up to four operations, …
//
// States are looked at whenever a flush is in flight, and when an operation has ended. That is all
// of them: what a cut may leave at any other moment it may leave at the next of these as well, with
// the changes between lost.
#include "support/every_coin.hpp"
#include "support/simulated_disk.hpp"

namespace gaur::test {
namespace {

enum class kind { unallocated, allocated, zero, zero_with_host, compressed, shared, backed };
constexpr kind kinds[] = {kind::unallocated, kind::allocated,  kind::zero,  kind::zero_with_host,
                          kind::compressed,  kind::shared,     kind::backed};
constexpr const char* kind_names[] = {"unallocated", "allocated", "zero",  "zero with a host",
                                      "compressed",  "shared",    "backed"};

enum class operation { write_part, write_whole, write_across, write_zeroes, read, flush, reopen };
constexpr std::uint64_t operations = 7;
constexpr const char* operation_names[] = {"part", "whole", "across", "zeroes",
                                           "read", "flush", "reopen"};

struct shape {
    unsigned cluster_bits = 9;
    unsigned version = 3;
    unsigned refcount_bits = 16;
    bool lazy = false;
    std::uint64_t count_ahead = 0;
    std::uint64_t cluster() const { return std::uint64_t{1} << cluster_bits; }
};
constexpr shape shapes[] = {{.version = 2},
                            {.refcount_bits = 1},
                            {.refcount_bits = 16},
                            {.refcount_bits = 16, .count_ahead = 1024},
                            {.refcount_bits = 64},
                            {.refcount_bits = 1, .lazy = true},
                            {.refcount_bits = 16, .lazy = true},
                            {.refcount_bits = 64, .lazy = true, .count_ahead = 1024},
                            {.cluster_bits = 12, .refcount_bits = 16},
                            {.cluster_bits = 12, .refcount_bits = 64, .lazy = true}};
constexpr std::uint64_t clusters = 4;

/// The disk that workloads begin with: all of its clusters are of one kind.
struct start {
    memory_disk files;
    std::vector<std::byte> below; ///< what the top layer lies on
    std::vector<std::byte> content;
    bool has_snapshot = false;
};

using executor = exec::inline_loop::executor;
using tried_image = qcow2::image<simulated_device, executor>;

tried_image open_or_die(simulated_device& io, exec::inline_loop& loop, const shape& how,
                        bool write) {
    return simulation::must(sync_wait(
        io, loop.get_executor(),
        qcow2::open(io, loop.get_executor(), "top",
                    {.write = write,
                     .references = qcow2::references::follow,
                     .grow_ahead = 0,
                     .count_ahead = how.count_ahead,
                     .inflate = &reference_image::inflate_stored})));
}

/// Nothing where there is no such image.
std::optional<start> make_start(const shape& how, kind what) {
    const bool zeroes = what == kind::zero || what == kind::zero_with_host;
    if (zeroes && how.version < 3) { return {}; }
    simulated_device io(std::make_unique<io::memory::backend>());
    exec::inline_loop loop;
    start s;
    s.below.resize(clusters * how.cluster());
    qcow2::create_options plan;
    plan.size = s.below.size();
    plan.cluster_bits = how.cluster_bits;
    plan.version = how.version;
    plan.refcount_bits = how.refcount_bits;
    plan.lazy_refcounts = how.lazy;
    if (what == kind::backed) {
        fill_tagged(s.below, 0, 0xb000'0000);
        io.inner().set_content("lower0", io::sparse_bytes(s.below));
        plan.backing_file = "lower0";
        plan.backing_format = "raw";
    }
    simulation::must(sync_wait(io, loop.get_executor(),
                               qcow2::create(io, loop.get_executor(), "top", plan)));
    s.content = s.below;
    if (what != kind::unallocated && what != kind::backed) {
        tried_image disk = open_or_die(io, loop, how, true);
        fill_tagged(s.content, 0, 0xb000'0001);
        auto writing = disk.write({0}, s.content);
        simulation::must(sync_wait(writing));
        simulation::must(sync_wait(io, loop.get_executor(), disk.close()));
        reference_image file(io.inner().content("top").bytes());
        if (what == kind::compressed) {
            file.compress([] { return true; });
        } else if (zeroes) {
            file.zero_all(what == kind::zero_with_host);
            std::fill(s.content.begin(), s.content.end(), std::byte{0});
        } else if (what == kind::shared) {
            s.has_snapshot = file.add_snapshot();
            if (!s.has_snapshot) { return {}; }
        }
        io.inner().set_content("top", io::sparse_bytes(file.bytes()));
    }
    s.files = io.inner().snapshot();
    return s;
}

/// One workload, and the disks that a cut in its last operation may leave.
class workload {
  public:
    workload(const shape& how, const start& from, std::span<const operation> steps)
        : how_(how), from_(from), steps_(steps), model_(from.content),
          io_(*io::memory::backend::make({.deferred = true}, from.files), {.record = true}) {}

    std::string run() {
        disk_.emplace(open_or_die(io_, loop_, how_, true));
        for (std::size_t i = 0; i < steps_.size() && wrong_.empty(); ++i) {
            looking_ = i + 1 == steps_.size();
            do_step(steps_[i]);
            if (looking_) { look_at_all(); }
        }
        looking_ = false;
        close();
        if (wrong_.empty()) { look_at_end(); }
        return wrong_;
    }
    std::uint64_t states() const noexcept { return states_; }

  private:
    using fate = io::power_log::fate;

    void note(std::string what) {
        if (wrong_.empty()) { wrong_ = std::move(what); }
    }

    void do_step(operation what) {
        const std::uint64_t cluster = how_.cluster();
        switch (what) {
        case operation::write_part: return write(cluster + 130, 100, false);
        case operation::write_whole: return write(cluster, cluster, false);
        case operation::write_across: return write(cluster + cluster / 2, cluster, false);
        case operation::write_zeroes: return write(cluster, cluster, true);
        case operation::read: {
            std::vector<std::byte> all(model_.size());
            model_disk::read_begun begun;
            model_.begin_read(begun, 0, all.size());
            request(device::verb::read, 0, all);
            return note(model_.end_read(begun, all));
        }
        case operation::flush: {
            const std::uint32_t began = model_.begin_flush();
            model_.end_flush(began, request(device::verb::flush, 0, {}));
            return;
        }
        case operation::reopen:
            close();
            disk_.emplace(open_or_die(io_, loop_, how_, true));
            return;
        }
    }

    void write(std::uint64_t at, std::uint64_t size, bool zeroes) {
        std::vector<std::byte> data(size);
        const std::uint32_t id = model_.begin_write(at, data, zeroes);
        model_.end_write(id, request(device::verb::write, at, data));
    }

    struct ending {
        result<void> status;
        bool ended = false;
        static void set(void* self, result<void> status) noexcept {
            static_cast<ending*>(self)->status = status;
            static_cast<ending*>(self)->ended = true;
        }
    };

    bool request(device::verb what, std::uint64_t at, std::span<std::byte> data) {
        ending end;
        tried_image::request asked(disk_->engine(), what, guest_offset{at}, data);
        asked.start(&ending::set, &end);
        wait_for(end.ended);
        if (!end.status) { note("a request failed: " + end.status.error().message()); }
        return end.status.has_value();
    }

    void close() {
        const std::uint32_t began = model_.begin_flush();
        bool ended = false;
        async::task<void> closing = disk_->close();
        const bool at_once = closing.start(
            {[](void* flag) noexcept { *static_cast<bool*>(flag) = true; }, &ended});
        ended = ended || at_once;
        wait_for(ended);
        const result<void> closed = closing.take();
        if (!closed) { note("close: " + closed.error().message()); }
        model_.end_flush(began, closed.has_value());
        disk_.reset();
        while (io_.in_flight() != 0) { io_.wait(); }
    }

    void wait_for(const bool& ended) {
        while (!ended) {
            if (looking_ && io_.log().is_flushing()) { look_at_all(); }
            if (io_.wait() == 0 && !ended) {
                std::fprintf(stderr, "nothing moves any more\n");
                std::abort();
            }
        }
    }

    /// What a cut now may leave.
    void look_at_all() {
        constexpr unsigned most_coins = 10;
        std::uint64_t coins = 0;
        std::uint64_t changes = 0;
        const auto count = [&](std::size_t, const io::power_log::change& c) {
            ++changes;
            coins += 1 + (c.code == io::opcode::write ? (c.size + 511) / 512 : 0);
            return fate::lost;
        };
        static_cast<void>(io_.log().survivors(io::seeded(0), count));
        if (coins <= most_coins) {
            every_coin all;
            do {
                look_at(all.begin(), [](auto...) { return fate::torn; });
            } while (wrong_.empty() && all.next());
            return;
        }
        const auto look_at_kept = [&](std::uint64_t kept) {
            look_at(io::seeded(kept), [=](std::size_t i, const auto&) {
                return (kept >> i & 1) != 0 ? fate::kept : fate::lost;
            });
        };
        if (changes <= most_coins) {
            for (std::uint64_t kept = 0; kept >> changes == 0; ++kept) { look_at_kept(kept); }
        } else {
            look_at_kept(0);
            look_at_kept(~std::uint64_t{0});
            for (std::uint64_t i = 0; i < changes; ++i) {
                look_at_kept(std::uint64_t{1} << i);
                look_at_kept(~(std::uint64_t{1} << i));
            }
        }
        for (std::uint64_t seed = 0; seed < 64; ++seed) {
            io::seeded fates(seed);
            look_at(io::seeded(seed * 3), [fates](auto...) mutable {
                return static_cast<fate>(fates.below(3));
            });
        }
    }

    template <class Random, class Decide>
    void look_at(Random random, Decide decide) {
        if (!wrong_.empty()) { return; }
        memory_disk disk = io_.log().survivors(random, decide);
        ++states_;
        look_at_rest(disk.at("top"), true);
        if (wrong_.empty() && states_ % 64 == 1) { go_on_with(std::move(disk)); }
    }

    bool look_at_rest(const io::sparse_bytes& top, bool after_cut) {
        reference_image file(top.bytes());
        if (!file.is_dirty()) {
            const auto v = file.check();
            if (v.corruptions != 0) { note("corruption: " + v.first); }
            if (!after_cut && v.leaks != 0) { note(std::to_string(v.leaks) + " clusters leak"); }
        } else if (!after_cut) {
            note("closed, but marked dirty");
        }
        std::vector<std::byte> seen = from_.below;
        file.read_over(seen);
        if (after_cut) {
            const std::string bad = model_.after_power_cut(seen);
            if (!bad.empty()) { note("at rest: " + bad); }
        } else if (const std::string bad = model_.settle(seen); !bad.empty()) {
            note("at the end: " + bad);
        }
        if (from_.has_snapshot) {
            seen = from_.below;
            file.read_snapshot_over(0, seen);
            if (!same(seen, from_.content)) { note("the snapshot has changed"); }
        }
        return file.is_dirty();
    }

    /// Reads it through the engine, writes to it, closes it.
    void go_on_with(memory_disk disk) {
        disk.merge(io_.inner().snapshot());
        const bool dirty = reference_image(disk.at("top").bytes()).is_dirty();
        simulated_device io(*io::memory::backend::make({}, disk));
        exec::inline_loop loop;
        tried_image again = open_or_die(io, loop, how_, !dirty);
        auto all = read_whole(io, again);
        if (!all) { return note("reading all: " + all.error().message()); }
        if (std::string bad = model_.after_power_cut(*all); !bad.empty()) {
            return note("reopened: " + bad);
        }
        if (dirty) { return; }
        const auto part = std::span(*all).subspan(how_.cluster() / 2, 2 * how_.cluster());
        fill_tagged(part, how_.cluster() / 2, 0xb000'0002);
        auto writing = again.write({how_.cluster() / 2}, part);
        const result<void> written = sync_wait(writing);
        const result<void> closed = sync_wait(io, loop.get_executor(), again.close());
        if (!written || !closed) { return note("it cannot be written to"); }
        reference_image file(io.inner().content("top").bytes());
        if (const auto v = file.check(); v.corruptions != 0) {
            return note("written to after the cut: " + v.first);
        }
        std::vector<std::byte> seen = from_.below;
        file.read_over(seen);
        if (!same(seen, *all)) { note("written to after the cut, it reads differently"); }
    }

    void look_at_end() { look_at_rest(io_.inner().content("top"), false); }

    shape how_;
    const start& from_;
    std::span<const operation> steps_;
    model_disk model_;
    simulated_device io_;
    exec::inline_loop loop_;
    std::optional<tried_image> disk_;
    bool looking_ = false;
    std::uint64_t states_ = 0;
    std::string wrong_;
};

/// The n-th sequence: those of one operation, then of two, then of three.
std::vector<operation> sequence(std::uint64_t n) {
    std::vector<operation> steps(1);
    for (std::uint64_t count = operations; n >= count; count *= operations) {
        n -= count;
        steps.emplace_back();
    }
    for (operation& s : steps) {
        s = static_cast<operation>(n % operations);
        n /= operations;
    }
    return steps;
}
TEST(exhaustive, up_to_three_operations_on_each_kind_of_cluster) {
    const std::uint64_t most = from_environment("GAUR_EXHAUSTIVE", 0);
    // A prime, so that a part has some of everything.
    const std::uint64_t stride = most != 0 ? 1 : fewer_seeds == 1 ? 5 : 23;
    std::uint64_t sequences = 0;
    for (std::uint64_t n = 0, of_n = 1; n < (most != 0 ? most : 3); ++n) {
        of_n *= operations;
        sequences += of_n;
    }
    keep_memory();
    std::uint64_t number = 0;
    std::uint64_t run = 0;
    std::uint64_t states = 0;
    const double begin = core_seconds();
    for (const shape& how : shapes) {
        for (const kind what : kinds) {
            const std::optional<start> from = make_start(how, what);
            for (std::uint64_t n = 0; from && n < sequences; ++n) {
                if (number++ % stride != 0) { continue; }
                const std::vector<operation> steps = sequence(n);
                workload one(how, *from, steps);
                const std::string wrong = one.run();
                states += one.states();
                ++run;
                std::string named = "clusters of " + std::to_string(how.cluster()) + ", v" +
                                    std::to_string(how.version) + ", refcount bits " +
                                    std::to_string(how.refcount_bits) +
                                    (how.lazy ? ", lazy" : "") + ", " +
                                    kind_names[static_cast<unsigned>(what)] + ":";
                for (const operation s : steps) {
                    named += ' ';
                    named += operation_names[static_cast<unsigned>(s)];
                }
                ASSERT_EQ(wrong, "") << named;
            }
        }
    }
    std::printf("%llu of %llu workloads, %llu disks after a cut, %.0f a second of one core\n",
                static_cast<unsigned long long>(run), static_cast<unsigned long long>(number),
                static_cast<unsigned long long>(states),
                static_cast<double>(states) / (core_seconds() - begin));
}

} // namespace
} // namespace gaur::test
