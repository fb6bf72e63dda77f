// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "support/simulated_disk.hpp"

#include <gaur/io/fault.hpp>
#include <gaur/qcow2/repair.hpp>

#include <cerrno>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

/// One run for each seed: over a device that ends requests in any order, one whose power is cut,
/// and one that fails requests. Each run returns what is wrong, or an empty string.
namespace gaur::test {

/// Sessions one after another, over a device without faults.
template <class Order>
void run_random_load(simulated_image& image) {
    const unsigned sessions = image.decided().sessions;
    for (unsigned session = 0; session < sessions && image.good(); ++session) {
        image.clean_session<Order>(session);
        if (!image.good()) { break; }
        image.check_structure(false);
        if (image.is_dirty()) { image.note("closed, but marked dirty"); }
        if (!same(image.content_at_rest(), image.model().base())) {
            image.note("the file at rest reads differently");
        }
        image.between_sessions(session);
    }
    if (image.good()) { image.check_snapshots(); }
}

/// Sessions that end with a power cut, at any request to the device.
template <class Order>
class power_cut_run {
  public:
    power_cut_run(std::uint64_t seed, unsigned cluster_bits, const part_of_run* part)
        : image_(seed, cluster_bits, part) {}

    std::string run() {
        image_.first_session<Order>();
        // The next session begins with the survivor of a cut.
        for (unsigned session = 1; session <= 3 && image_.good(); ++session) {
            cut_session(session);
            if (image_.good() && image_.is_dirty()) { mend(); }
            if (!image_.good()) { break; }
            image_.model().restart(image_.content_at_rest());
        }
        return image_.wrong();
    }
    /// Number of disks after a cut that were checked.
    std::uint64_t states() const noexcept { return states_; }

    /// Says what is wrong with a disk that should read as the given bytes.
    using judge = std::string (*)(const memory_disk&, std::span<const std::byte>);
    /// Also asks another judge, for one in `every` disks. 0: for none.
    void ask(judge other, std::uint64_t every) noexcept {
        other_ = other;
        every_ = every;
    }

  private:
    static constexpr unsigned states_of_a_cut = 8;

    void cut_session(unsigned number) {
        const scenario& s = image_.decided();
        io::seeded random(s.seed * 77 + number);
        io::seeded faults(s.seed * 55 + number);
        io::memory::options device = s.device;
        // Before the power cut the space may run out, or requests may fail.
        if (faults.below(6) == 0) {
            device.capacity = image_.used_space() + 4096 * s.early(1 + faults.below(64));
        }
        simulated_device io(*io::memory::backend::make(device, image_.files()),
                            order_of(s.seed + number, true));
        exec::inline_loop loop;
        const drained_at_end drained{io};
        if (faults.below(4) == 0) {
            io.fail({.nth = s.early(1 + faults.below(100)),
                     .code = one_of(faults, {io::opcode::read, io::opcode::write}),
                     .host_errno = one_of(faults, {EIO, ENOSPC}),
                     .from_then_on = faults.below(8) == 0});
        }
        // A flush that failed guarantees nothing, and neither do later flushes.
        if (random.below(4) == 0) {
            io.fail({.nth = s.early(1 + random.below(12)), .code = io::opcode::flush});
        }
        const bool at_close = random.below(3) == 0;
        const std::uint64_t cut = s.early(
            1 + random.below(at_close ? 15 : one_of(random, {30U, 200U, 800U})));
        if (!at_close) { io.cut_after(cut); }
        if (auto opened = open_top<Order>(io, loop, s)) {
            auto disk = *std::move(opened);
            guest load(io, disk, image_.model(), s, number);
            load.allow_errors();
            load.stop_when([&io] { return io.is_cut(); });
            if (!load.run()) { image_.note(load.wrong()); }
            if (!io.is_cut()) {
                if (at_close) { io.cut_after(cut); }
                const std::uint32_t began = image_.model().begin_flush();
                const result<void> closed = sync_wait(io, loop.get_executor(), disk.close());
                image_.model().end_flush(began, closed.has_value());
            }
        }
        while (io.in_flight() != 0) { io.wait(); }
        for (unsigned i = 0; i < states_of_a_cut && image_.good(); ++i) {
            // The metadata alone, the data alone, then random choices.
            image_.set_files(i < 2 ? survivors_of_a_kind(io, random.next(), i == 1)
                                   : io.survivors(random.next()));
            check_at_rest();
            // The last disk is reopened.
            if (image_.good() && i + 1 == states_of_a_cut) { check_reopened(); }
            ++states_;
        }
    }

    /// Stale refcounts are rebuilt, and the guest's content does not change.
    void mend() {
        const std::vector<std::byte> before = image_.content_at_rest();
        simulated_device io(*io::memory::backend::make({}, image_.files()));
        exec::inline_loop loop;
        const auto executor = loop.get_executor();
        const auto done = sync_wait(io, executor, qcow2::repair(io, executor, "top"));
        if (!done) { return image_.note("repair: " + done.error().message()); }
        image_.set_files(io.inner().snapshot());
        if (image_.is_dirty()) { return image_.note("repaired, but marked dirty"); }
        image_.check_structure(true);
        if (!same(image_.content_at_rest(), before)) {
            image_.note("repaired, it reads differently");
        }
        image_.check_snapshots();
    }

    void check_at_rest() {
        image_.check_structure(true);
        if (!image_.good()) { return; }
        const std::vector<std::byte> content = image_.content_at_rest();
        const std::string bad = image_.model().after_power_cut(content);
        if (!bad.empty()) { return image_.note("at rest: " + bad); }
        image_.check_snapshots();
        if (every_ == 0 || (image_.decided().seed * 7 + states_) % every_ != 0) { return; }
        if (const std::string theirs = other_(image_.files(), content); !theirs.empty()) {
            image_.note(theirs);
        }
    }

    void check_reopened() {
        simulated_device io(*io::memory::backend::make({}, image_.files()));
        exec::inline_loop loop;
        // Refcounts that are marked as stale must be rebuilt before a write.
        auto opened = open_top<Order>(io, loop, image_.decided(), !image_.is_dirty());
        if (!opened) { return image_.note("open: " + opened.error().message()); }
        auto disk = *std::move(opened);
        auto all = read_whole(io, disk);
        if (!all) { return image_.note("reading all: " + all.error().message()); }
        if (std::string bad = image_.model().after_power_cut(*all); !bad.empty()) {
            return image_.note("reopened: " + bad);
        }
        const result<void> closed = sync_wait(io, loop.get_executor(), disk.close());
        if (!closed) { image_.note("close: " + closed.error().message()); }
    }

    simulated_image image_;
    std::uint64_t states_ = 0;
    judge other_ = nullptr;
    std::uint64_t every_ = 0;
};

/// Sessions over a device that fails some requests, or has little space.
template <class Order>
class faulty_run {
  public:
    faulty_run(std::uint64_t seed, unsigned cluster_bits, const part_of_run* part)
        : image_(seed, cluster_bits, part) {}

    std::string run() {
        image_.first_session<Order>();
        for (unsigned session = 1; session <= 2 && image_.good(); ++session) {
            faulty_session(session);
            if (image_.is_dirty()) { break; }
        }
        return image_.wrong();
    }

  private:
    /// `writes_only`: only writes fail, so what a failed write took can be given back.
    void arm(simulated_device& io, io::seeded& random, bool writes_only) {
        for (std::uint64_t rules = 1 + random.below(5); rules > 0; --rules) {
            io::fault::rule r;
            r.nth = image_.decided().early(1 + random.below(one_of(random, {30U, 100U, 300U})));
            if (random.below(3) == 0) { r.arrives = 512 * random.below(16); }
            if (writes_only) {
                r.code = io::opcode::write;
            } else if (random.coin()) {
                r.code = one_of(random,
                                {io::opcode::read, io::opcode::write, io::opcode::flush});
            }
            r.host_errno = one_of(random, {EIO, EIO, ENOSPC});
            r.from_then_on = random.below(16) == 0;
            io.fail(r);
        }
    }

    /// The state that a process leaves if it is killed after a flush. Only a failed flush of the
    /// host cannot be made good.
    template <class Image>
    void flush_and_kill(simulated_device& io, Image& disk) {
        const std::uint32_t began = image_.model().begin_flush();
        auto flushing = disk.flush();
        const result<void> flushed = sync_wait(flushing);
        image_.model().end_flush(began, flushed.has_value());
        if (!flushed && io.injected(io::opcode::flush) == 0) {
            return image_.note("flush: " + flushed.error().message());
        }
        image_.set_files(io.inner().snapshot());
        image_.check_structure(true);
        if (!image_.good()) { return; }
        const std::string bad = image_.model().after_power_cut(image_.content_at_rest());
        if (!bad.empty()) { image_.note("killed: " + bad); }
    }

    void faulty_session(unsigned number) {
        const scenario& s = image_.decided();
        io::seeded random(s.seed * 99 + number);
        io::memory::options device = s.device;
        const bool tight = random.below(4) == 0;
        if (tight) { device.capacity = image_.used_space() + 4096 * s.early(1 + random.below(64)); }
        simulated_device io(*io::memory::backend::make(device, image_.files()),
                            order_of(s.seed + number));
        exec::inline_loop loop;
        const drained_at_end drained{io};
        auto opened = open_top<Order>(io, loop, s);
        if (!opened) { return image_.note("open: " + opened.error().message()); }
        auto disk = *std::move(opened);
        const bool writes_only = tight || random.below(3) == 0;
        if (!tight) { arm(io, random, writes_only); }
        guest load(io, disk, image_.model(), s, number);
        load.allow_errors();
        if (!load.run()) { return image_.note(load.wrong()); }
        if (load.counted().failed != 0 && io.injected() == 0 && !tight) {
            return image_.note("a request failed, and nothing was wrong");
        }
        io.forget_rules();
        // From here on nothing fails, and there is space.
        io.inner().set_capacity(~std::uint64_t{0});
        if (!disk.engine().allocations().empty()) {
            return image_.note("the tracker is not empty");
        }
        auto all = read_whole(io, disk);
        if (!all) { return image_.note("reading all: " + all.error().message()); }
        flush_and_kill(io, disk);
        if (!image_.good()) { return; }
        const result<void> closed = sync_wait(io, loop.get_executor(), disk.close());
        if (closed) {
            if (std::string bad = image_.model().settle(*all); !bad.empty()) {
                return image_.note("at the end: " + bad);
            }
        } else if (io.injected(io::opcode::flush) == 0) {
            return image_.note("close: " + closed.error().message());
        }
        image_.set_files(io.inner().snapshot());
        // The second session may find what the first one left.
        image_.check_structure(!closed || !writes_only || number > 1);
        if (!image_.good()) { return; }
        std::vector<std::byte> left = image_.content_at_rest();
        // Without a close it is as after a power cut: what was flushed is there.
        const std::string bad = image_.model().after_power_cut(left);
        if (closed && !same(left, image_.model().base())) {
            return image_.note("at rest it is another: " + bad);
        }
        if (!closed && !bad.empty()) { return image_.note("at rest: " + bad); }
        image_.model().restart(std::move(left));
        image_.check_snapshots();
    }

    simulated_image image_;
};

} // namespace gaur::test
