// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/contract.hpp>
#include <gaur/base/error.hpp>
#include <gaur/io/backend.hpp>
#include <gaur/io/host_file.hpp>
#include <gaur/io/operation_queue.hpp>
#include <gaur/io/system_call.hpp>

#include <cerrno>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <string_view>
#include <sys/eventfd.h>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

/// System calls on worker threads of the backend. An asynchronous backend that works everywhere,
/// even if io_uring is forbidden, as in most containers.
namespace gaur::io::threads {

struct options {
    /// Number of threads, and thereby of operations at the host at once: 1 or more.
    unsigned workers = 4;
};

class operation : public io::operation {
  public:
    using io::operation::operation;

  private:
    friend class backend;
    int fd_ = -1;
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
    explicit file(host_file&& host) noexcept : host_(std::move(host)) {}
    host_file host_;
};

/// submit() only queues, without a lock. The next poll() or wait() hands the queue to the workers.
/// Callbacks run in the thread that calls poll() or wait(), never in a worker.
class backend {
  public:
    static constexpr std::string_view name = "threads";
    using operation = threads::operation;
    using file = threads::file;

    /// Fails with EINVAL (no workers), EAGAIN (the host has no more threads), EMFILE or ENOMEM.
    static result<std::unique_ptr<backend>> make(const options& how = {}) noexcept {
        if (how.workers == 0) { return error::from_errno(EINVAL); }
        std::unique_ptr<backend> made(new (std::nothrow) backend);
        if (made == nullptr) { return error::from_errno(ENOMEM); }
        made->event_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (made->event_ < 0) { return error::from_errno(errno); }
        try {
            for (unsigned i = 0; i < how.workers; ++i) {
                made->workers_.emplace_back([self = made.get()] { self->work(); });
            }
        } catch (const std::system_error& failed) {
            return error::from_errno(failed.code().value());
        } catch (const std::bad_alloc&) { return error::from_errno(ENOMEM); }
        return made;
    }

    backend(const backend&) = delete;
    backend& operator=(const backend&) = delete;
    ~backend() {
        drain(*this);
        {
            const std::lock_guard lock(mutex_);
            stopping_ = true;
        }
        work_came_.notify_all();
        for (std::thread& worker : workers_) { worker.join(); }
        if (event_ >= 0) { ::close(event_); }
    }

    /// Errors are open(2)'s; EISDIR for a directory.
    result<file> open(const std::string& path, open_mode mode) {
        result<host_file> host = host_file::open(path, mode);
        if (!host) { return host.error(); }
        return file(*std::move(host));
    }

    submit_status submit(file& on, operation& op, const request& what) noexcept {
        op.begin(what);
        op.fd_ = on.host_.fd();
        op.asks_ = on.host_.limits();
        if (const int refused = check_request(op.asks_, what); refused != 0) {
            op.set_outcome(refused);
            return submit_status::done;
        }
        submitted_.push(op);
        ++submitted_count_;
        ++in_flight_;
        return submit_status::pending;
    }

    unsigned poll() noexcept {
        if (in_flight_ == 0) { return 0; }
        const unsigned ended = turn(false);
        hand_over(); // what callbacks submitted: otherwise descriptor() never signals it
        return ended;
    }

    unsigned wait() noexcept { return in_flight_ == 0 ? 0 : turn(true); }

    unsigned in_flight() const noexcept { return in_flight_; }

    /// An eventfd, readable while poll() has something to do. Signals are system calls, so workers
    /// signal it only from the first call of this function on.
    int descriptor() const noexcept {
        const std::lock_guard lock(mutex_);
        if (!watched_ && !ended_.empty()) { signal(); }
        watched_ = true;
        return event_;
    }

  private:
    backend() = default;

    void hand_over() noexcept {
        if (submitted_.empty()) { return; }
        {
            const std::lock_guard lock(mutex_);
            queue_.take_all(submitted_);
        }
        const auto count = std::exchange(submitted_count_, 0U);
        if (count >= workers_.size()) { return work_came_.notify_all(); }
        for (unsigned i = 0; i < count; ++i) { work_came_.notify_one(); }
    }

    /// Hands the queue over, takes the operations that have ended, and runs their callbacks. If
    /// `waits`, waits until at least one has ended. Returns their number.
    unsigned turn(bool waits) noexcept {
        hand_over();
        operation_queue<operation> ended;
        {
            std::unique_lock lock(mutex_);
            waiting_ = waits;
            while (waits && ended_.empty()) { work_ended_.wait(lock); }
            waiting_ = false;
            if (ended_.empty()) { return 0; }
            ended.take_all(ended_);
            // Under the lock, so that the signal of an operation that ends later is not consumed.
            if (watched_) {
                eventfd_t signals = 0;
                ::eventfd_read(event_, &signals);
            }
        }
        unsigned count = 0;
        for (; !ended.empty(); ++count) {
            operation& op = ended.pop();
            --in_flight_;
            op.complete(op.outcome());
        }
        return count;
    }

    /// Retries EINTR. Any other failure leaves the descriptor readable: its counter is full.
    void signal() const noexcept {
        while (::eventfd_write(event_, 1) != 0 && errno == EINTR) {}
    }

    /// The loop of a worker thread.
    void work() noexcept {
        std::unique_lock lock(mutex_);
        for (;;) {
            while (queue_.empty() && !stopping_) { work_came_.wait(lock); }
            if (queue_.empty()) { return; }
            operation& op = queue_.pop();
            lock.unlock();
            op.set_outcome(run_request(op.fd_, op.asks_, op.asked()));
            lock.lock();
            const bool first = ended_.empty();
            ended_.push(op);
            if (!first) { continue; } // the first of them has notified the caller already
            if (waiting_) { work_ended_.notify_one(); }
            if (watched_) { signal(); }
        }
    }

    // Used only in the caller's thread.
    operation_queue<operation> submitted_;
    unsigned submitted_count_ = 0;
    unsigned in_flight_ = 0;

    mutable std::mutex mutex_; // guards queue_ to stopping_
    operation_queue<operation> queue_;
    operation_queue<operation> ended_;
    bool waiting_ = false;
    mutable bool watched_ = false;
    bool stopping_ = false;

    std::condition_variable work_came_;
    std::condition_variable work_ended_;
    int event_ = -1;
    std::vector<std::thread> workers_;
};

static_assert(check_backend<backend>() && PollableBackend<backend>);

} // namespace gaur::io::threads
