// SPDX-License-Identifier: BSL-1.0
// All small workloads: up to three operations, on each kind of cluster, in images of several
// shapes. After each the disks that a power cut may leave: all of them if an epoch has at most
// 1024, otherwise every choice of at most 10 whole changes and some torn ones. Of more changes:
// none, all, each alone, all but each, the metadata, the data, and some random choices.
//
//   GAUR_EXHAUSTIVE=3 test_simulation --gtest_filter='exhaustive*'   the whole, not only a part; 4:
//                                                                    up to four operations, …
//   GAUR_QEMU_EVERY=1000 …                       one in 1000 disks goes to qemu-img; 0: none
//
// States are checked whenever a flush is in flight, and when an operation has ended. This covers
// all of them: what a cut may leave at any other moment it may also leave at the next of these,
// with the changes between lost.
//
// Some of the disks are recovered: repaired if they are marked dirty, and sometimes if clusters
// leak; then opened, read, written to and closed. During all of this the power is cut again. Some
// of those disks are recovered in the same way, with a third cut, and some of what that leaves are
// recovered without one. What a recovery finds on the disk must also be there after the next cut.
#include "support/every_coin.hpp"
#include "support/judged_by_qemu.hpp"
#include "support/simulated_disk.hpp"

#include <gaur/qcow2/repair.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

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

/// The disk with which workloads begin: all of its clusters are of one kind.
struct start {
    memory_disk files;
    std::vector<std::byte> below; ///< what the guest sees below the top layer
    std::vector<std::byte> content;
    bool has_snapshot = false;
};

using executor = exec::inline_loop::executor;
template <class Policies>
using tried_image = qcow2::image<simulated_device, executor, Policies>;

template <class Policies>
async::task<tried_image<Policies>> open_top(simulated_device& io, exec::inline_loop& loop,
                                            const shape& how, bool write) {
    return qcow2::open<Policies>(io, loop.get_executor(), "top",
                                 {.write = write,
                                  .references = qcow2::references::follow,
                                  .grow_ahead = 0,
                                  .count_ahead = how.count_ahead,
                                  .inflate = &reference_image::inflate_stored});
}

/// Empty if there is no such image.
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
        auto disk = simulation::must(sync_wait(
            io, loop.get_executor(), open_top<qcow2::default_policies>(io, loop, how, true)));
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

/// How many disks are checked, of those that an epoch may leave.
struct bounds {
    unsigned coins;  ///< at most so many: all disks; or every choice of so many changes
    bool each;       ///< of more changes each alone, and all but each
    unsigned random; ///< each change lost, kept or torn
    unsigned torn;   ///< all changes torn
    unsigned one_in; ///< of these disks one is recovered
};
constexpr unsigned most_cuts = 3;
/// By the number of cuts before.
using all_bounds = std::array<bounds, most_cuts>;
constexpr all_bounds a_part = {
    {{10, true, 64, 16, 64}, {3, false, 2, 1, 32}, {2, false, 1, 1, 16}}};
constexpr all_bounds in_full = {
    {{10, true, 64, 16, 32}, {7, true, 16, 8, 64}, {4, false, 8, 4, 64}}};

/// The state that a workload and its recoveries share.
struct course {
    const all_bounds& most;
    std::uint64_t qemu_every; ///< 0: never
    std::uint64_t turn;       ///< selects the disks
    std::uint64_t disks[most_cuts] = {};
    std::uint64_t to_qemu = 0;
};

/// One session with an image, and the disks that a cut in it may leave: of a workload during its
/// last operation, of a recovery at any time.
template <class Policies>
class session {
  public:
    session(const shape& how, const start& from, model_disk model, const memory_disk& files,
            unsigned cuts, course& all)
        : how_(how), from_(from), cuts_(cuts), all_(all), model_(std::move(model)),
          io_(*io::memory::backend::make({.deferred = true}, files),
              {.record = cuts < most_cuts}) {}

    std::string run(std::span<const operation> steps) {
        looking_ = is_recovery() && cuts_ < most_cuts;
        if (is_recovery()) { mend(); }
        if (wrong_.empty()) { open(true); }
        for (std::size_t i = 0; i < steps.size() && wrong_.empty(); ++i) {
            if (!is_recovery()) { looking_ = i + 1 == steps.size(); }
            do_step(steps[i]);
            if (looking_) { look_at_all(); }
        }
        looking_ = looking_ && is_recovery();
        if (disk_) { close(); }
        if (looking_) { look_at_all(); }
        if (wrong_.empty()) { look_at_rest(io_.inner().content("top"), false); }
        return wrong_;
    }

  private:
    using fate = io::power_log::fate;

    bool is_recovery() const noexcept { return cuts_ != 0; }
    void note(const std::string& what) {
        if (!wrong_.empty() || what.empty()) { return; }
        if (is_recovery()) { wrong_ = "recovering from cut " + std::to_string(cuts_) + ": "; }
        wrong_ += what;
    }

    /// Stale refcounts must be rebuilt before a write.
    void mend() {
        reference_image file(io_.inner().content("top").bytes());
        const bool dirty = file.is_dirty();
        may_leak_ = !dirty && file.check().leaks != 0;
        if (dirty) {
            open(false);
            do_step(operation::read);
            close();
        } else if (!may_leak_ || all_.turn / 4 % 2 == 0) {
            return;
        }
        const auto done = wait(qcow2::repair(io_, loop_.get_executor(), "top"));
        if (!done) { return note("repair: " + done.error().message()); }
        if (done->outcome == qcow2::repair_outcome::refused) { return note("repair is refused"); }
        if (looking_) { look_at_all(); }
        // qemu-img does not report leaks past the end of the file, but they are repaired.
        reference_image mended(io_.inner().content("top").bytes());
        if (mended.check().leaks != 0) { note("repaired, but clusters leak"); }
        if (mended.bytes().size() > mended.counted_end()) {
            note("repaired, but the file does not end where its last cluster does");
        }
        may_leak_ = false;
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
            open(true);
            return;
        }
    }

    void open(bool write) {
        disk_.emplace(simulation::must(wait(open_top<Policies>(io_, loop_, how_, write))));
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
        typename tried_image<Policies>::request asked(disk_->engine(), what, guest_offset{at},
                                                      data);
        asked.start(&ending::set, &end);
        wait_for(end.ended);
        if (!end.status) { note("a request failed: " + end.status.error().message()); }
        return end.status.has_value();
    }

    void close() {
        const std::uint32_t began = model_.begin_flush();
        const result<void> closed = wait(disk_->close());
        if (!closed) { note("close: " + closed.error().message()); }
        model_.end_flush(began, closed.has_value());
        disk_.reset();
        while (io_.in_flight() != 0) { io_.wait(); }
    }

    template <class T>
    result<T> wait(async::task<T> task) {
        bool ended = false;
        const bool at_once =
            task.start({[](void* flag) noexcept { *static_cast<bool*>(flag) = true; }, &ended});
        ended = ended || at_once;
        wait_for(ended);
        io_.dog().progress();
        return task.take();
    }

    void wait_for(const bool& ended) {
        while (!ended) {
            if (looking_ && io_.log().is_flushing()) { look_at_all(); }
            io_.wait();
        }
    }

    /// Checks the disks that a cut now may leave.
    void look_at_all() {
        const bounds& most = all_.most[cuts_];
        std::uint64_t coins = 0;
        std::uint64_t changes = 0;
        const auto count = [&](std::size_t, const io::power_log::change& c) {
            ++changes;
            coins += 1 + (c.code == io::opcode::write ? (c.size + 511) / 512 : 0);
            return fate::lost;
        };
        static_cast<void>(io_.log().survivors(io::seeded(0), count));
        if (coins <= most.coins) {
            every_coin all;
            do {
                look_at(all.begin(), [](auto...) { return fate::torn; });
            } while (wrong_.empty() && all.next());
            return;
        }
        if (changes <= most.coins) {
            for (std::uint64_t kept = 0; kept >> changes == 0; ++kept) {
                look_at_kept(kept, [=](std::size_t i, const auto&) { return kept >> i & 1; });
            }
        } else {
            look_at_kinds(changes, most);
        }
        for (unsigned n = 0; n < most.random; ++n) {
            const std::uint64_t seed = is_recovery() ? ++all_.turn : n;
            io::seeded fates(seed);
            look_at(io::seeded(seed * 3), [fates](auto...) mutable {
                return static_cast<fate>(fates.below(3));
            });
        }
        for (unsigned n = 0; n < most.torn; ++n) {
            look_at(io::seeded(++all_.turn), [](auto...) { return fate::torn; });
        }
    }
    void look_at_kinds(std::uint64_t changes, const bounds& most) {
        look_at_kept(0, [](auto...) { return false; });
        look_at_kept(1, [](auto...) { return true; });
        look_at_kept(2, [](std::size_t, const auto& c) { return is_guest_data(c); });
        look_at_kept(3, [](std::size_t, const auto& c) { return !is_guest_data(c); });
        for (std::uint64_t n = 0; most.each && n < changes; ++n) {
            look_at_kept(n, [=](std::size_t i, const auto&) { return i == n; });
            look_at_kept(n, [=](std::size_t i, const auto&) { return i != n; });
        }
    }
    /// Whole changes, in an order that `seed` chooses if there is a choice.
    template <class Kept>
    void look_at_kept(std::uint64_t seed, Kept kept) {
        look_at(io::seeded(seed), [kept](std::size_t i, const io::power_log::change& c) {
            return kept(i, c) ? fate::kept : fate::lost;
        });
    }

    template <class Random, class Decide>
    void look_at(Random random, Decide decide) {
        if (!wrong_.empty()) { return; }
        memory_disk disk = io_.log().survivors(random, decide);
        const std::uint64_t number = all_.turn + ++all_.disks[cuts_];
        std::vector<std::byte> seen = look_at_rest(disk.at("top"), true);
        const bool goes_on = number % all_.most[cuts_].one_in == 0;
        const bool to_qemu = all_.qemu_every != 0 && number % all_.qemu_every == 0;
        if (!wrong_.empty() || !(goes_on || to_qemu)) { return; }
        disk.merge(io_.inner().snapshot());
        if (to_qemu) {
            ++all_.to_qemu;
            note(judged_by_qemu(disk, seen));
        }
        if (goes_on) { go_on_with(disk, std::move(seen)); }
    }

    /// What a guest would read from the file.
    std::vector<std::byte> look_at_rest(const io::sparse_bytes& top, bool after_cut) {
        reference_image file(top.bytes());
        if (!file.is_dirty()) {
            const auto v = file.check();
            if (v.corruptions != 0) { note("corruption: " + v.first); }
            if (!after_cut && !may_leak_ && v.leaks != 0) {
                note(std::to_string(v.leaks) + " clusters leak");
            }
        } else if (!after_cut) {
            note("closed, but marked dirty");
        }
        std::vector<std::byte> seen = from_.below;
        if (from_.has_snapshot) {
            file.read_snapshot_over(0, seen);
            if (!same(seen, from_.content)) { note("the snapshot has changed"); }
            seen = from_.below;
        }
        file.read_over(seen);
        const std::string bad = after_cut ? model_.after_power_cut(seen) : model_.settle(seen);
        if (!bad.empty()) { note((after_cut ? "at rest: " : "at the end: ") + bad); }
        return seen;
    }

    /// Recovers what a cut has left.
    void go_on_with(const memory_disk& disk, std::vector<std::byte> content) {
        constexpr operation changes[] = {operation::write_across, operation::write_part,
                                         operation::write_zeroes, operation::write_whole};
        const operation steps[] = {operation::read, changes[++all_.turn % std::size(changes)]};
        model_disk model = model_;
        model.restart(std::move(content));
        session next(how_, from_, std::move(model), disk, cuts_ + 1, all_);
        wrong_ = next.run(steps);
    }

    shape how_;
    const start& from_;
    unsigned cuts_; ///< before this session
    course& all_;
    model_disk model_;
    simulated_device io_;
    exec::inline_loop loop_;
    std::optional<tried_image<Policies>> disk_;
    bool looking_ = false;
    bool may_leak_ = false;
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

/// `part`: a prime, so that every `part`-th workload has some of everything.
template <class Policies>
void run_workloads(std::uint64_t part) {
    const std::uint64_t most = from_environment("GAUR_EXHAUSTIVE", 0);
    const std::uint64_t stride = most != 0 ? 1 : part;
    std::uint64_t sequences = 0;
    for (std::uint64_t n = 0, of_n = 1; n < (most != 0 ? most : 3); ++n) {
        of_n *= operations;
        sequences += of_n;
    }
    const std::uint64_t qemu_every =
        has_qemu_img() ? from_environment("GAUR_QEMU_EVERY", 20000) : 0;
    keep_memory();
    std::uint64_t number = 0;
    std::uint64_t run = 0;
    std::uint64_t disks[most_cuts] = {};
    std::uint64_t to_qemu = 0;
    const double begin = core_seconds();
    for (const shape& how : shapes) {
        for (const kind what : kinds) {
            const std::optional<start> from = make_start(how, what);
            for (std::uint64_t n = 0; from && n < sequences; ++n) {
                if (number++ % stride != 0) { continue; }
                const std::vector<operation> steps = sequence(n);
                course all{most != 0 ? in_full : a_part, qemu_every, number * 7919};
                session<Policies> one(how, *from, model_disk(from->content), from->files, 0, all);
                const std::string wrong = one.run(steps);
                for (unsigned i = 0; i < most_cuts; ++i) { disks[i] += all.disks[i]; }
                to_qemu += all.to_qemu;
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
    const double rate = static_cast<double>(disks[0] + disks[1] + disks[2]) /
                        (core_seconds() - begin);
    const auto print = [](const char* format, auto... numbers) {
        std::printf(format, static_cast<unsigned long long>(numbers)...);
    };
    print("%llu of %llu workloads, %llu disks after a cut, %llu after a second, "
          "%llu after a third, %llu to qemu-img, %llu a second of one core\n",
          run, number, disks[0], disks[1], disks[2], to_qemu, rate);
    if (!has_qemu_img()) { GTEST_SKIP() << "all is well, but qemu-img, not installed, saw none"; }
}

TEST(exhaustive, up_to_three_operations_on_each_kind_of_cluster) {
    run_workloads<qcow2::default_policies>(fewer_seeds == 1 ? 5 : 23);
}
TEST(exhaustive, with_first_fit) {
    run_workloads<placed<qcow2::alloc::first_fit>>(fewer_seeds == 1 ? 37 : 101);
}
TEST(exhaustive, with_the_buddies_of_the_example) {
    run_workloads<placed<buddy>>(fewer_seeds == 1 ? 37 : 101);
}

} // namespace
} // namespace gaur::test
