// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/contract.hpp>
#include <gaur/base/error.hpp>
#include <gaur/io/backend.hpp>
#include <gaur/io/host_file.hpp>
#include <gaur/io/operation_queue.hpp>
#include <gaur/io/system_call.hpp>

#include <aio.h>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <fcntl.h>
#include <memory>
#include <new>
#include <sched.h>
#include <span>
#include <string>
#include <string_view>
#include <unistd.h>
#include <utility>
#include <vector>

/// POSIX AIO: the asynchronous I/O of the 2009 patch, for hosts that have nothing else. Uses no
/// signals and no threads of its own; glibc implements it with threads.
namespace gaur::io::posix_aio {

struct options {
    /// Operations at the host at once, 1 or more. Further ones wait in the backend. aio_suspend
    /// scans all of them.
    unsigned depth = 64;
    /// Descriptors per file at most, 1 or more. glibc serializes the requests of one descriptor, so
    /// a busy file is duplicated: 8 descriptors gave 3 to 4 times the rate of one, 32 gave less.
    unsigned descriptors = 8;
};

namespace detail {

/// Several descriptors of one file. A new one is made if all others are busy.
class descriptor_pool {
  public:
    struct slot {
        int fd;
        unsigned in_flight;
    };

    descriptor_pool(int first, unsigned most) : most_(most) {
        slots_.reserve(most); // operations point into it: it must not reallocate
        slots_.push_back({first, 0});
    }
    descriptor_pool(const descriptor_pool&) = delete;
    descriptor_pool& operator=(const descriptor_pool&) = delete;
    ~descriptor_pool() {
        for (std::size_t i = 1; i < slots_.size(); ++i) { ::close(slots_[i].fd); }
    }

    /// The descriptor with the fewest operations, or a new one if all are busy.
    slot& pick() noexcept {
        slot* best = &slots_.front();
        for (slot& s : slots_) {
            if (s.in_flight < best->in_flight) { best = &s; }
        }
        if (best->in_flight == 0 || slots_.size() == most_) { return *best; }
        const int fd = ::fcntl(best->fd, F_DUPFD_CLOEXEC, 0);
        if (fd < 0) { return *best; } // no descriptors left: slower, but correct
        return slots_.emplace_back(slot{fd, 0});
    }

  private:
    std::vector<slot> slots_; // the first belongs to the host_file
    unsigned most_;
};

} // namespace detail

class operation : public io::operation {
  public:
    using io::operation::operation;

  private:
    friend class backend;
    aiocb& new_control() noexcept { return *::new (static_cast<void*>(control_)) aiocb{}; }
    aiocb& control() noexcept { return *std::launder(reinterpret_cast<aiocb*>(control_)); }

    // Raw bytes: glibc's aiocb ends in an array of size 0, which -Wpedantic forbids in a member.
    alignas(aiocb) std::byte control_[sizeof(aiocb)];
    detail::descriptor_pool* descriptors_ = nullptr;
    detail::descriptor_pool::slot* slot_ = nullptr;
    io::limits asks_;
};

class file {
  public:
    io::limits limits() const noexcept { return host_.limits(); }
    result<std::uint64_t> size() const noexcept { return host_.size(); }
    file_identity identity() const noexcept { return host_.identity(); }
    file_run run_at(std::uint64_t offset) const noexcept { return host_.run_at(offset); }

  private:
    friend class backend;
    file(host_file&& host, unsigned descriptors)
        : host_(std::move(host)),
          descriptors_(std::make_unique<detail::descriptor_pool>(host_.fd(), descriptors)) {}
    host_file host_;
    std::unique_ptr<detail::descriptor_pool> descriptors_; // operations point to it
};

/// Reads, writes and flushes use aio_read, aio_write and aio_fsync; the buffers of a vector are
/// transferred one after another. POSIX has no asynchronous call for the other requests: these run
/// in submit(). There is no descriptor to poll: wait() sleeps in aio_suspend.
class backend {
  public:
    static constexpr std::string_view name = "posix_aio";
    using operation = posix_aio::operation;
    using file = posix_aio::file;

    /// Fails with EINVAL (an option that is 0) or ENOMEM.
    static result<std::unique_ptr<backend>> make(const options& how = {}) noexcept {
        if (how.depth == 0 || how.descriptors == 0) { return error::from_errno(EINVAL); }
        try {
            return std::unique_ptr<backend>(new backend(how));
        } catch (const std::bad_alloc&) { return error::from_errno(ENOMEM); }
    }

    backend(const backend&) = delete;
    backend& operator=(const backend&) = delete;
    ~backend() { drain(*this); }

    /// Errors are open(2)'s; EISDIR for a directory.
    result<file> open(const std::string& path, open_mode mode) {
        result<host_file> host = host_file::open(path, mode);
        if (!host) { return host.error(); }
        return file(*std::move(host), options_.descriptors);
    }

    submit_status submit(file& on, operation& op, const request& what) noexcept {
        op.begin(what);
        op.asks_ = on.host_.limits();
        op.descriptors_ = on.descriptors_.get();
        int outcome = check_request(op.asks_, what);
        const bool asynchronous =
            what.code == opcode::flush || (what.moves_data() && what.size != 0);
        if (outcome == 0 && !asynchronous) {
            outcome = run_request(on.host_.fd(), op.asks_, op.asked());
        } else if (outcome == 0) {
            outcome = backlog_.empty() && active_.size() < options_.depth ? start(op) : EAGAIN;
            if (outcome == EAGAIN) { backlog_.push(op); }
            if (outcome == EAGAIN || outcome == 0) {
                ++in_flight_;
                return submit_status::pending;
            }
        }
        op.set_outcome(outcome);
        return submit_status::done;
    }

    unsigned poll() noexcept {
        start_backlog();
        return reap();
    }

    unsigned wait() noexcept {
        while (in_flight_ != 0) {
            if (const unsigned ended = poll(); ended != 0) { return ended; }
            if (active_.empty()) {
                ::sched_yield(); // the host has no room for even one operation
            } else {
                // Poll again after any return, EINTR included.
                ::aio_suspend(controls_.data(), static_cast<int>(controls_.size()), nullptr);
            }
        }
        return 0;
    }

    unsigned in_flight() const noexcept { return in_flight_; }

  private:
    explicit backend(const options& how) : options_(how) {
        active_.reserve(how.depth);
        controls_.reserve(how.depth);
    }

    /// Submits the operation, or its next part, to the host. Returns 0, EAGAIN if the host has no
    /// room now, or the errno with which the operation has ended.
    int start(operation& op) noexcept {
        const request& what = op.asked();
        detail::descriptor_pool::slot& slot = op.descriptors_->pick();
        aiocb& control = op.new_control();
        control.aio_fildes = slot.fd;
        control.aio_sigevent.sigev_notify = SIGEV_NONE;
        if (what.code == opcode::flush) {
            if (::aio_fsync(O_DSYNC, &control) != 0) { return errno; }
        } else {
            const std::span<std::byte> part = next_part(what);
            control.aio_offset = static_cast<off_t>(what.offset);
            control.aio_buf = part.data();
            control.aio_nbytes = part.size();
            const int failed =
                what.code == opcode::read ? ::aio_read(&control) : ::aio_write(&control);
            if (failed != 0) { return errno; }
        }
        ++slot.in_flight;
        op.slot_ = &slot;
        active_.push_back(&op);
        controls_.push_back(&control);
        return 0;
    }

    /// The part of a read or write that one aiocb can describe: the first buffer, and the following
    /// ones if they are contiguous in memory.
    static std::span<std::byte> next_part(const request& what) noexcept {
        if (what.vectors == nullptr) { return {what.data, what.size}; }
        std::byte* first = nullptr;
        std::size_t size = 0;
        for (std::uint32_t i = 0; i < what.vector_count; ++i) {
            auto* const data = static_cast<std::byte*>(what.vectors[i].iov_base);
            if (size == 0) { first = data; }
            if (data != first + size) { break; }
            size += what.vectors[i].iov_len;
        }
        return {first, size};
    }

    void start_backlog() noexcept {
        while (!backlog_.empty() && active_.size() < options_.depth) {
            operation& op = backlog_.pop();
            const int failed = start(op);
            if (failed == EAGAIN) { return backlog_.push_front(op); }
            if (failed != 0) { end(op, failed); }
        }
    }

    /// Runs the callbacks of the operations that have ended, and returns their number.
    unsigned reap() noexcept {
        for (std::size_t i = 0; i < active_.size();) {
            const int state = ::aio_error(controls_[i]);
            if (state == EINPROGRESS) {
                ++i;
                continue;
            }
            operation& op = *std::exchange(active_[i], active_.back());
            controls_[i] = controls_.back();
            active_.pop_back();
            controls_.pop_back();
            go_on(op, state);
        }
        start_backlog();
        unsigned count = 0;
        // Operations that end during callbacks wait for the next call. Otherwise this one might
        // never return.
        operation_queue<operation> ended;
        ended.take_all(ended_);
        for (; !ended.empty(); ++count) {
            operation& op = ended.pop();
            --in_flight_;
            op.complete(op.outcome());
        }
        return count;
    }

    /// The host has completed a part of the operation, or has failed.
    void go_on(operation& op, int failed) noexcept {
        const ssize_t moved = ::aio_return(&op.control());
        --op.slot_->in_flight;
        if (failed == 0 && op.asked().moves_data()) {
            failed = after_transfer(op.asks_, op.asked(), static_cast<std::size_t>(moved));
        }
        // The next part goes to the front: the operation has waited already.
        if (failed == unfinished || failed == EINTR || failed == EAGAIN) {
            return backlog_.push_front(op);
        }
        end(op, failed);
    }

    void end(operation& op, int outcome) noexcept {
        op.set_outcome(outcome);
        ended_.push(op);
    }

    options options_;
    unsigned in_flight_ = 0;
    operation_queue<operation> backlog_;
    operation_queue<operation> ended_; // callback not yet run
    std::vector<operation*> active_;   // at the host, in the order of controls_
    std::vector<const aiocb*> controls_;
};

static_assert(check_backend<backend>());

} // namespace gaur::io::posix_aio
