// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/contract.hpp>
#include <gaur/base/error.hpp>

#include <algorithm>
#include <array>
#include <bitset>
#include <cerrno>
#include <cstddef>
#include <functional>
#include <liburing.h>
#include <optional>
#include <span>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <thread>
#include <unistd.h>
#include <utility>

namespace gaur::io::uring {

struct options {
    /// Operations at the kernel at once, 1 to 16384. Further ones wait in the backend.
    unsigned depth = 256;
    /// Only one thread has operations in flight. The kernel then does its part of the work inside
    /// our system calls instead of interrupting the thread (SINGLE_ISSUER, DEFER_TASKRUN). If
    /// another thread calls while nothing is in flight, as on a strand of a pool, the backend
    /// behaves as with false from then on. False: threads may take turns at any time.
    bool single_thread = true;
    /// A kernel thread polls for submissions, so that they need no system call. It spins on a core
    /// of its own, and sleeps after `sqpoll_idle_ms` milliseconds without a submission.
    bool sqpoll = false;
    unsigned sqpoll_idle_ms = 100;
};

/// The kernel's resources of a backend: the ring, and the files and the memory that are registered
/// with it. Functions that can fail return 0 or an errno unless noted.
///
/// A ring of one thread refuses calls from any other thread. So a backend calls `adopt` before it
/// submits or registers. From another thread `adopt` replaces the ring by one for all threads, with
/// the same files and memory.
class ring {
  public:
    static constexpr unsigned most_regions = 16;
    static constexpr unsigned most_files = 64;

    ring() = default;
    ring(const ring&) = delete;
    ring& operator=(const ring&) = delete;
    /// Unregisters the files first: the kernel tears down a ring only after this has returned.
    ~ring() {
        if (has_ring_) { stop(ring_, files_.has_value()); }
        if (event_ >= 0) { ::close(event_); }
    }

    int start(const options& how) noexcept {
        how_ = how;
        owner_ = std::this_thread::get_id();
        const int failed = make(how_, ring_, has_ring_);
        is_bound_ = how.single_thread && !how.sqpoll;
        // Saves the lookup of the descriptor in each call. Kernels before 5.18 fail: harmless.
        if (failed == 0 && is_bound_) { ::io_uring_register_ring_fd(&ring_); }
        return failed;
    }

    ::io_uring& get() noexcept { return ring_; }
    const ::io_uring& get() const noexcept { return ring_; }

    /// Whether the calling thread may use the ring from here on. False if another thread owns it
    /// and either `idle` is false (its operations are in flight) or the kernel gives no new ring.
    bool adopt(bool idle) noexcept {
        if (!is_bound_ || std::this_thread::get_id() == owner_) [[likely]] { return true; }
        return idle && replace() == 0;
    }

    /// Registers the file. Returns its index in the ring's table. -1 if the table is full or the
    /// kernel (before 5.19) has no sparse tables: then use the descriptor.
    int add_file(int fd) noexcept {
        if (!files_.has_value()) {
            files_.emplace();
            const int made = ::io_uring_register_files_sparse(&ring_, most_files);
            if (made != 0) { files_->set(); }
        }
        unsigned slot = 0;
        while (slot < most_files && files_->test(slot)) { ++slot; }
        if (slot == most_files || !set_file(ring_, slot, fd)) { return -1; }
        files_->set(slot);
        descriptors_[slot] = fd;
        return static_cast<int>(slot);
    }
    /// `adopted`: the result of adopt().
    void remove_file(unsigned slot, bool adopted) noexcept {
        descriptors_[slot] = -1;
        // If the ring keeps the file, its index is not used again.
        if (adopted && set_file(ring_, slot, -1)) { files_->reset(slot); }
    }

    /// Makes the kernel map the region. Returns its index. Errors: ENOMEM, EINVAL (a kernel before
    /// 5.19).
    result<unsigned> add_region(std::span<std::byte> region) noexcept {
        if (!has_regions_) {
            const int made = ::io_uring_register_buffers_sparse(&ring_, most_regions);
            if (made != 0) { return error::from_errno(-made); }
            has_regions_ = true;
        }
        for (unsigned slot = 0; slot < most_regions; ++slot) {
            if (!regions_[slot].empty()) { continue; }
            const int failed = set_region(ring_, slot, region);
            if (failed != 0) { return error::from_errno(failed); }
            regions_[slot] = region;
            return slot;
        }
        return error::from_errno(ENOMEM);
    }
    void remove_region(unsigned slot) noexcept {
        if (set_region(ring_, slot, {}) == 0) { regions_[slot] = {}; }
    }
    /// The region that contains all of the `size` bytes at `first`, or -1.
    int region_of(const std::byte* first, std::size_t size) const noexcept {
        if (!has_regions_) { return -1; }
        const auto holds = [=](std::span<std::byte> region) {
            return !region.empty() && !std::less<>()(first, std::as_const(region).data()) &&
                   !std::less<>()(region.data() + region.size(), first + size);
        };
        const auto at = std::ranges::find_if(regions_, holds);
        return at != regions_.end() ? static_cast<int>(at - regions_.begin()) : -1;
    }

    /// An eventfd that the kernel signals from the first call on. The descriptor of the ring if no
    /// eventfd can be made or registered.
    int descriptor() noexcept {
        if (event_ < 0) {
            const int made = ::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK); // 1: there may be work
            if (made < 0) { return ring_.ring_fd; }
            if (::io_uring_register_eventfd(&ring_, made) != 0) {
                ::close(made);
                return ring_.ring_fd;
            }
            event_ = made;
        }
        return event_;
    }
    /// Resets the eventfd: completions from here on signal again.
    void take_signals() noexcept {
        if (event_ < 0) { return; }
        eventfd_t signals = 0;
        ::eventfd_read(event_, &signals);
    }
    /// Makes the eventfd readable, if descriptor() has made one.
    void signal() noexcept {
        if (event_ >= 0) { ::eventfd_write(event_, 1); }
    }

  private:
    /// Tries sets of flags from best to plain: a kernel refuses flags that it does not know with
    /// EINVAL.
    static int make(const options& how, ::io_uring& made, bool& is_made) noexcept {
        constexpr unsigned cooperate =
            IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL;
        constexpr unsigned defer =
            IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL;
        constexpr std::array one_thread = {defer | IORING_SETUP_TASKRUN_FLAG, cooperate, 0U};
        // COOP_TASKRUN runs completions only in system calls of the thread that submitted. That is
        // wrong if another thread waits.
        constexpr std::array threads = {0U + IORING_SETUP_SUBMIT_ALL, 0U};
        constexpr std::array kernel_thread = {0U + IORING_SETUP_SQPOLL};
        const std::span<const unsigned> best_to_plain =
            how.sqpoll ? std::span<const unsigned>(kernel_thread)
                       : (how.single_thread ? std::span<const unsigned>(one_thread)
                                            : std::span<const unsigned>(threads));
        // With SQPOLL the kernel thread frees the entries of a batch only after the last one. The
        // first may have ended before, and so made room for another operation.
        const unsigned entries = how.sqpoll ? 2 * how.depth : how.depth;
        int failed = EINVAL;
        for (const unsigned flags : best_to_plain) {
            io_uring_params asked{};
            asked.flags = flags;
            asked.sq_thread_idle = how.sqpoll_idle_ms;
            failed = -::io_uring_queue_init_params(entries, &made, &asked);
            if (failed != EINVAL) { break; }
        }
        if (failed != 0) { return failed; }
        is_made = true;
        return knows_opcodes(made) ? 0 : ENOSYS;
    }

    static bool knows_opcodes(::io_uring& made) noexcept {
        io_uring_probe* const probe = ::io_uring_get_probe_ring(&made);
        if (probe == nullptr) { return false; }
        const bool all = std::ranges::all_of(
            std::array{IORING_OP_READ, IORING_OP_WRITE, IORING_OP_READV, IORING_OP_WRITEV,
                       IORING_OP_FSYNC, IORING_OP_FALLOCATE},
            [&](int code) { return ::io_uring_opcode_supported(probe, code) != 0; });
        ::io_uring_free_probe(probe);
        return all;
    }

    static void stop(::io_uring& old, bool has_files) noexcept {
        if (has_files) { ::io_uring_unregister_files(&old); }
        ::io_uring_queue_exit(&old);
    }

    /// Replaces the ring by one for all threads. Nothing may be in flight.
    int replace() noexcept {
        options how = how_;
        how.single_thread = false;
        ::io_uring made{};
        bool is_made = false;
        int failed = make(how, made, is_made);
        if (failed == 0) { failed = fill(made); }
        if (failed != 0) {
            if (is_made) { ::io_uring_queue_exit(&made); }
            return failed;
        }
        stop(ring_, files_.has_value());
        ring_ = made;
        how_ = how;
        is_bound_ = false;
        return 0;
    }

    /// Registers the same files, memory and eventfd with `made`.
    int fill(::io_uring& made) noexcept {
        const bool has_files = files_.has_value() && !files_->all();
        if (has_files) {
            const int failed = ::io_uring_register_files_sparse(&made, most_files);
            if (failed != 0) { return -failed; }
        }
        for (unsigned slot = 0; slot < most_files; ++slot) {
            if (descriptors_[slot] >= 0 && !set_file(made, slot, descriptors_[slot])) {
                return ENOMEM;
            }
        }
        if (has_regions_) {
            const int failed = ::io_uring_register_buffers_sparse(&made, most_regions);
            if (failed != 0) { return -failed; }
        }
        for (unsigned slot = 0; slot < most_regions; ++slot) {
            if (regions_[slot].empty()) { continue; }
            const int failed = set_region(made, slot, regions_[slot]);
            if (failed != 0) { return failed; }
        }
        return event_ >= 0 ? -::io_uring_register_eventfd(&made, event_) : 0;
    }

    static bool set_file(::io_uring& of, unsigned slot, int fd) noexcept {
        return ::io_uring_register_files_update(&of, slot, &fd, 1) == 1;
    }
    static int set_region(::io_uring& of, unsigned slot, std::span<std::byte> region) noexcept {
        const iovec where{region.data(), region.size()};
        const __u64 no_tag = 0;
        const int taken = ::io_uring_register_buffers_update_tag(&of, slot, &where, &no_tag, 1);
        return taken < 0 ? -taken : 0;
    }
    static constexpr std::array<int, most_files> no_descriptors() noexcept {
        std::array<int, most_files> none{};
        none.fill(-1);
        return none;
    }

    ::io_uring ring_{};
    options how_;
    std::thread::id owner_;
    bool has_ring_ = false;
    bool is_bound_ = false; ///< only owner_ may use the ring
    int event_ = -1;        ///< set by the first descriptor(); -1: none
    std::array<std::span<std::byte>, most_regions> regions_;
    bool has_regions_ = false;
    std::optional<std::bitset<most_files>> files_; ///< indices in use; set by the first add_file()
    std::array<int, most_files> descriptors_ = no_descriptors();
};

} // namespace gaur::io::uring
