// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/contract.hpp>
#include <gaur/base/error.hpp>
#include <gaur/io/backend.hpp>
#include <gaur/io/host_file.hpp>
#include <gaur/io/operation_queue.hpp>
#include <gaur/io/system_call.hpp>
#include <gaur/io/uring_ring.hpp>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <liburing.h>
#include <memory>
#include <new>
#include <sched.h>
#include <span>
#include <string>
#include <string_view>
#include <sys/eventfd.h>
#include <unistd.h>
#include <utility>

/// Linux's io_uring, through liburing. Needs kernel 5.6 or later; faster from 6.1 on.
namespace gaur::io::uring {

class operation : public io::operation {
  public:
    using io::operation::operation;

  private:
    friend class backend;
    int fd_ = -1;
    int slot_ = -1;
    io::limits asks_;
    /// Stored before the entry goes to the kernel, loaded after its completion. The thread
    /// sanitizer does not see the ring: this shows it that the one happens before the other. Plain
    /// moves on x86.
    std::atomic<bool> handed_over_ = false;
};

class backend;

/// An open file. Registered with the ring if there is room, so that the kernel need not look up its
/// descriptor for each operation.
class file {
  public:
    file(file&& other) noexcept
        : host_(std::move(other.host_)), of_(std::exchange(other.of_, nullptr)),
          slot_(other.slot_) {}
    file& operator=(file&& other) noexcept {
        std::swap(host_, other.host_);
        std::swap(of_, other.of_);
        std::swap(slot_, other.slot_);
        return *this;
    }
    ~file();

    io::limits limits() const noexcept { return host_.limits(); }
    result<std::uint64_t> size() const noexcept { return host_.size(); }
    file_identity identity() const noexcept { return host_.identity(); }
    file_run run_at(std::uint64_t offset) const noexcept { return host_.run_at(offset); }

  private:
    friend class backend;
    file(host_file&& host, backend& of, int slot) noexcept
        : host_(std::move(host)), of_(&of), slot_(slot) {}
    host_file host_;
    backend* of_;
    int slot_; ///< index in the ring's table of files, or -1
};

/// submit() only writes an entry into the ring. Every fourth entry, and each poll() and wait(),
/// submits all entries to the kernel in one system call. `truncate`, for which old kernels have no
/// opcode, is done in submit().
class backend {
  public:
    static constexpr std::string_view name = "uring";
    using operation = uring::operation;
    using file = uring::file;

    /// Fails with EPERM (io_uring is forbidden by a container or by kernel.io_uring_disabled) or
    /// ENOSYS (the kernel has no io_uring, or lacks an opcode that is needed): then use `threads`.
    /// EINVAL: a depth out of range. ENOMEM.
    static result<std::unique_ptr<backend>> make(const options& how = {}) noexcept {
        if (how.depth == 0 || how.depth > 16384) { return error::from_errno(EINVAL); }
        std::unique_ptr<backend> made(new (std::nothrow) backend(how.depth));
        if (made == nullptr) { return error::from_errno(ENOMEM); }
        if (const int failed = made->ring_.start(how); failed != 0) {
            return error::from_errno(failed);
        }
        return made;
    }

    backend(const backend&) = delete;
    backend& operator=(const backend&) = delete;
    ~backend() { drain(*this); }

    /// Memory that the kernel keeps mapped until this is destroyed. Destroy it before the memory
    /// and before the backend.
    class registration {
      public:
        registration(registration&& other) noexcept
            : of_(std::exchange(other.of_, nullptr)), slot_(other.slot_) {}
        registration& operator=(registration&& other) noexcept {
            std::swap(of_, other.of_);
            std::swap(slot_, other.slot_);
            return *this;
        }
        ~registration() {
            if (of_ != nullptr && of_->adopt()) { of_->ring_.remove_region(slot_); }
        }

      private:
        friend class backend;
        registration(backend& of, unsigned slot) noexcept : of_(&of), slot_(slot) {}
        backend* of_;
        unsigned slot_;
    };

    /// Makes the kernel map `region` once, instead of for each read and write with one buffer that
    /// lies in it. Saves up to a quarter of the processor time (`bench_io`, read_direct). For the
    /// memory of a guest, or a pool of buffers; up to 16 regions of 1 GiB. Fails with ENOMEM
    /// (RLIMIT_MEMLOCK, or no region is left), EINVAL (a kernel before 5.19), or
    /// errc::ring_of_another_thread. Registration is optional: all requests work without it.
    result<registration> register_memory(std::span<std::byte> region) noexcept {
        if (!adopt()) { return errc::ring_of_another_thread; }
        const result<unsigned> slot = ring_.add_region(region);
        if (!slot) { return slot.error(); }
        return registration(*this, *slot);
    }

    /// Errors are open(2)'s; EISDIR for a directory.
    result<file> open(const std::string& path, open_mode mode) {
        result<host_file> host = host_file::open(path, mode);
        if (!host) { return host.error(); }
        const int slot = adopt() ? ring_.add_file(host->fd()) : -1;
        return file(*std::move(host), *this, slot);
    }

    submit_status submit(file& on, operation& op, const request& what) noexcept {
        op.begin(what);
        op.fd_ = on.host_.fd();
        op.slot_ = on.slot_;
        op.asks_ = on.host_.limits();
        const int refused = check_request(op.asks_, what);
        const bool at_once = what.code == opcode::truncate || //
                             (what.size == 0 && what.code != opcode::flush);
        if (refused != 0 || at_once) [[unlikely]] {
            op.set_outcome(refused != 0 ? refused : run_request(op.fd_, op.asks_, op.asked()));
            return submit_status::done;
        }
        if (!adopt()) [[unlikely]] {
            op.set_outcome(static_cast<int>(errc::ring_of_another_thread));
            return submit_status::done;
        }
        ++in_flight_;
        if (at_kernel_ < depth_) {
            ++at_kernel_;
            queue_entry(op);
            if (::io_uring_sq_ready(&ring_.get()) >= batch) { ::io_uring_submit(&ring_.get()); }
        } else {
            backlog_.push(op);
        }
        return submit_status::pending;
    }

    unsigned poll() noexcept {
        ring_.take_signals(); // first: completions from here on signal again
        if (in_flight_ == 0) { return 0; }
        if (has_entries() || kernel_has_work()) { enter(0); }
        const unsigned ended = reap();
        // Start what callbacks submitted: otherwise descriptor() never signals it.
        if (has_entries()) { enter(0); }
        // Entries not yet accepted and work not yet done signal nothing: make the loop poll()
        // again.
        if (has_entries() || kernel_has_work()) { ring_.signal(); }
        return ended;
    }

    unsigned wait() noexcept {
        while (in_flight_ != 0) {
            if (has_entries() || ::io_uring_cq_ready(&ring_.get()) == 0) { enter(1); }
            if (const unsigned ended = reap(); ended != 0) { return ended; }
        }
        return 0;
    }

    unsigned in_flight() const noexcept { return in_flight_; }

    /// An eventfd, readable if poll() has something to do. Not the descriptor of the ring: with
    /// DEFER_TASKRUN an operation that ends on a kernel worker, such as a flush, does not wake a
    /// poll(2) that sleeps on it. The kernel signals only from the first call on. If no eventfd can
    /// be made, returns the descriptor of the ring.
    int descriptor() const noexcept {
        // Logically const: only the kernel sees what changes.
        auto& self = const_cast<backend&>(*this);
        self.adopt();
        return self.ring_.descriptor();
    }

  private:
    friend uring::file;
    explicit backend(unsigned depth) noexcept : depth_(depth) {}

    void forget_file(unsigned slot) noexcept {
        ring_.remove_file(slot, adopt());
    }
    /// False: the ring belongs to another thread that has operations in flight, or the kernel gives
    /// no new ring.
    bool adopt() noexcept { return ring_.adopt(at_kernel_ == 0); }

    /// Writes the next entry of the ring. One is free: at most `depth_` operations are at the
    /// kernel.
    void queue_entry(operation& op) noexcept {
        io_uring_sqe* const entry = ::io_uring_get_sqe(&ring_.get());
        GAUR_ASSERT(entry != nullptr);
        const request& what = op.asked();
        // The kernel cuts larger transfers short anyway. A power of two keeps the rest aligned.
        const auto size = static_cast<unsigned>(std::min(what.size, std::uint64_t{1} << 30));
        switch (what.code) {
        case opcode::read:
            if (const int region = region_of(what, size); region >= 0) {
                ::io_uring_prep_read_fixed(entry, op.fd_, what.data, size, what.offset, region);
            } else if (what.vectors == nullptr) {
                ::io_uring_prep_read(entry, op.fd_, what.data, size, what.offset);
            } else {
                ::io_uring_prep_readv(entry, op.fd_, what.vectors, what.vector_count, what.offset);
            }
            break;
        case opcode::write:
            if (const int region = region_of(what, size); region >= 0) {
                ::io_uring_prep_write_fixed(entry, op.fd_, what.data, size, what.offset, region);
            } else if (what.vectors == nullptr) {
                ::io_uring_prep_write(entry, op.fd_, what.data, size, what.offset);
            } else {
                ::io_uring_prep_writev(entry, op.fd_, what.vectors, what.vector_count, what.offset);
            }
            break;
        case opcode::flush: ::io_uring_prep_fsync(entry, op.fd_, IORING_FSYNC_DATASYNC); break;
        case opcode::zero:
        case opcode::discard:
        case opcode::extend:
            ::io_uring_prep_fallocate(entry, op.fd_, fallocate_mode(what.code),
                                      static_cast<off_t>(what.offset),
                                      static_cast<off_t>(what.size));
            break;
        case opcode::truncate: GAUR_ASSERT(false); break; // done in submit()
        }
        if (op.slot_ >= 0) {
            entry->fd = op.slot_;
            ::io_uring_sqe_set_flags(entry, IOSQE_FIXED_FILE);
        }
        ::io_uring_sqe_set_data(entry, static_cast<void*>(&op));
        op.handed_over_.store(true, std::memory_order_release);
    }

    /// The registered region that contains all of a transfer with one buffer, or -1.
    int region_of(const request& what, std::size_t size) const noexcept {
        return what.vectors == nullptr ? ring_.region_of(what.data, size) : -1;
    }

    /// Entries that share one system call in submit(). Small, so that the device is not idle
    /// between calls: with all entries submitted at once, in wait(), it was a fifth slower
    /// (measured).
    static constexpr unsigned batch = 4;

    bool has_entries() const noexcept { return ::io_uring_sq_ready(&ring_.get()) != 0; }

    /// Whether completions wait that the kernel makes, or moves into the ring, only in a call.
    bool kernel_has_work() const noexcept {
        return (IO_URING_READ_ONCE(*ring_.get().sq.kflags) &
                (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
    }

    /// Submits the entries to the kernel, and waits for `completions`. If the kernel cannot accept
    /// them now, they stay in the ring for the next call.
    void enter(unsigned completions) noexcept {
        const int taken = completions == 0 ? ::io_uring_submit_and_get_events(&ring_.get())
                                           : ::io_uring_submit_and_wait(&ring_.get(), completions);
        if (taken >= 0 || taken == -EINTR) { return; }
        // EEXIST would mean that another thread than the one of options::single_thread waits. Only
        // that one can end the operations in flight.
        GAUR_ASSERT(taken == -EAGAIN || taken == -EBUSY || taken == -ENOMEM);
        if (completions != 0) { ::sched_yield(); }
    }

    /// Ends the operations whose completions are in the ring now, without those that callbacks add.
    /// Returns their number.
    unsigned reap() noexcept {
        unsigned ended = 0;
        for (unsigned left = ::io_uring_cq_ready(&ring_.get()); left != 0; --left) {
            io_uring_cqe* completion = nullptr;
            if (::io_uring_peek_cqe(&ring_.get(), &completion) != 0) { break; }
            auto& op = *static_cast<operation*>(::io_uring_cqe_get_data(completion));
            const int moved = completion->res;
            ::io_uring_cqe_seen(&ring_.get(), completion);
            const bool handed_over = op.handed_over_.load(std::memory_order_acquire);
            GAUR_ASSERT(handed_over);
            const int outcome = outcome_of(op, moved);
            if (outcome == unfinished) [[unlikely]] {
                queue_entry(op);
                continue;
            }
            --in_flight_;
            if (backlog_.empty()) {
                --at_kernel_;
            } else {
                queue_entry(backlog_.pop());
            }
            op.complete(outcome);
            ++ended;
        }
        return ended;
    }

    static int outcome_of(operation& op, int moved) noexcept {
        request& what = op.asked();
        if (moved >= 0) [[likely]] {
            return what.moves_data()
                       ? after_transfer(op.asks_, what, static_cast<std::size_t>(moved))
                       : 0;
        }
        // ECANCELED: the thread that submitted the operation has exited. Submit it again.
        if (moved == -EINTR || moved == -EAGAIN || moved == -ECANCELED) { return unfinished; }
        if (what.moves_data() || what.code == opcode::flush) { return -moved; }
        // A request that the host does not support may have a fallback in other system calls.
        const int failed = refusal(-moved);
        const bool has_other_way =
            failed == EOPNOTSUPP || (op.asks_.fixed_size && what.code == opcode::extend);
        return has_other_way ? run_request(op.fd_, op.asks_, what) : failed;
    }

    ring ring_;
    unsigned depth_;
    unsigned at_kernel_ = 0; ///< in the ring or at the kernel
    unsigned in_flight_ = 0; ///< those, and the backlog
    operation_queue<operation> backlog_;
};

inline file::~file() {
    if (of_ != nullptr && slot_ >= 0) { of_->forget_file(static_cast<unsigned>(slot_)); }
}

static_assert(check_backend<backend>() && PollableBackend<backend>);

} // namespace gaur::io::uring
