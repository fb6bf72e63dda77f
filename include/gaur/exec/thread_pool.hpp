// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/contract.hpp>
#include <gaur/exec/executor.hpp>

#include <boost/intrusive/list.hpp>

#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace gaur::exec {

/// Threads that run work in parallel. The destructor runs the posted work and what that work posts,
/// and joins the threads.
class thread_pool {
  public:
    /// For work that only computes (compression, encryption). It does not keep the *serial* line,
    /// so it must not be the executor of an image. An image takes the executor of a strand.
    class executor {
      public:
        void post(work& w) const noexcept { pool_->post(w); }
        friend bool operator==(const executor&, const executor&) = default;

      private:
        friend class thread_pool;
        explicit executor(thread_pool& pool) noexcept : pool_(&pool) {}
        thread_pool* pool_;
    };

    /// `threads` >= 1.
    explicit thread_pool(unsigned threads = std::thread::hardware_concurrency()) {
        threads_.reserve(threads);
        do { threads_.emplace_back([this] { run(); }); } while (threads_.size() < threads);
    }
    thread_pool(const thread_pool&) = delete;
    thread_pool& operator=(const thread_pool&) = delete;
    ~thread_pool() {
        {
            const std::lock_guard lock(mutex_);
            stopping_ = true;
        }
        changed_.notify_all();
        for (std::thread& t : threads_) { t.join(); }
    }

    executor get_executor() noexcept { return executor(*this); }

  private:
    void post(work& w) noexcept {
        {
            const std::lock_guard lock(mutex_);
            ready_.push_back(w);
        }
        changed_.notify_one();
    }

    void run() noexcept {
        std::unique_lock lock(mutex_);
        for (;;) {
            changed_.wait(lock, [this] { return stopping_ || !ready_.empty(); });
            if (ready_.empty()) { return; }
            work& next = ready_.front();
            ready_.pop_front();
            lock.unlock();
            next.run();
            lock.lock();
        }
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    work_queue ready_;
    bool stopping_ = false;
    std::vector<std::thread> threads_;
};

static_assert(check_executor<thread_pool::executor>());

/// One serial executor on a pool, which also drives one backend. Work and completions run one at a
/// time, on any free thread of the pool. A shard runs on it.
///
/// Any thread may post. If the strand has no work and I/O is in flight, the strand waits for the
/// I/O on a thread of the pool. Work that is posted meanwhile runs after the next completion. So a
/// pool needs one thread for each strand that does I/O at the same time.
///
/// Once the strand runs, only the strand's own work may submit to the backend. The pool and the
/// backend must outlive the strand. The destructor waits until the strand has nothing left to do.
template <class Backend>
class strand {
  public:
    class executor {
      public:
        void post(work& w) const noexcept { strand_->post(w); }
        friend bool operator==(const executor&, const executor&) = default;
        bool runs_here() const noexcept { return strand_->runs_here(); }

        /// Sleeps until `done()`, which work of the strand makes true. `done` is evaluated between
        /// two pieces of work, never while one runs: when this returns, the piece that made it true
        /// has returned. Must not be called from the work of the strand.
        template <class Io, class Done>
        void block_on(Io&, Done done) const {
            strand_->sleep_until(done);
        }

      private:
        friend class strand;
        explicit executor(strand& s) noexcept : strand_(&s) {}
        strand* strand_;
    };

    strand(thread_pool& pool, Backend& io) noexcept
        : pool_(pool.get_executor()), pump_(*this, io) {}
    strand(const strand&) = delete;
    strand& operator=(const strand&) = delete;
    ~strand() {
        std::unique_lock lock(mutex_);
        // I/O that was submitted outside the strand's own work.
        if (!scheduled_ && pump_.io->in_flight() != 0) {
            scheduled_ = true;
            pool_.post(pump_);
        }
        changed_.wait(lock, [this] { return !scheduled_; });
    }

    executor get_executor() noexcept { return executor(*this); }

  private:
    /// The work that the strand posts to the pool. It is posted again until nothing is left to do.
    struct pump : work {
        pump(strand& s, Backend& backend) noexcept
            : work([](work& w) noexcept {
                  auto& self = static_cast<pump&>(w);
                  self.owner->turn(*self.io);
              }),
              owner(&s), io(&backend) {}
        strand* owner;
        Backend* io;
    };

    /// A thread that sleeps in block_on.
    struct sleeper : boost::intrusive::list_base_hook<> {
        sleeper(bool (*ask)(void*), void* about) noexcept : done(ask), context(about) {}
        bool (*done)(void*);
        void* context;
        bool woken = false;
    };
    using sleeper_list =
        boost::intrusive::list<sleeper, boost::intrusive::constant_time_size<false>>;

    bool runs_here() noexcept {
        const std::lock_guard lock(mutex_);
        return runner_ == std::this_thread::get_id();
    }

    void post(work& w) noexcept {
        bool start = false;
        {
            const std::lock_guard lock(mutex_);
            ready_.push_back(w);
            start = !scheduled_;
            scheduled_ = true;
        }
        if (start) { pool_.post(pump_); }
    }

    /// Runs the ready work, or waits for I/O. Then yields the thread to the next work in the queue
    /// of the pool.
    void turn(Backend& io) noexcept {
        std::unique_lock lock(mutex_);
        if (ready_.empty()) {
            unlocked(lock, [&io] { io.wait(); });
        } else {
            run_ready(lock, io);
        }
        scheduled_ = !ready_.empty() || io.in_flight() != 0;
        if (scheduled_) {
            lock.unlock();
            pool_.post(pump_);
        } else {
            changed_.notify_all();
            // The strand may be destroyed as soon as the lock is released.
        }
    }

    void run_ready(std::unique_lock<std::mutex>& lock, Backend& io) noexcept {
        const work* last = &ready_.back();
        for (bool at_last = false; !at_last && !ready_.empty();) {
            work& next = ready_.front();
            ready_.pop_front();
            at_last = &next == last;
            unlocked(lock, [&next] { next.run(); });
        }
        // Work that keeps posting work must not starve the I/O.
        if (!ready_.empty()) {
            unlocked(lock, [&io] { io.poll(); });
        }
    }

    /// Runs one piece of work without the lock, then wakes the sleepers whose `done` is true.
    template <class Piece>
    void unlocked(std::unique_lock<std::mutex>& lock, Piece piece) noexcept {
        runner_ = std::this_thread::get_id();
        lock.unlock();
        piece();
        lock.lock();
        runner_ = {};
        for (auto next = sleepers_.begin(); next != sleepers_.end();) {
            sleeper& s = *next++;
            if (!s.done(s.context)) { continue; }
            sleepers_.erase(sleepers_.iterator_to(s));
            s.woken = true;
            changed_.notify_all();
        }
    }

    template <class Done>
    void sleep_until(Done done) {
        std::unique_lock lock(mutex_);
        GAUR_ASSERT(runner_ != std::this_thread::get_id());
        if (runner_ == std::thread::id() && done()) { return; }
        sleeper self([](void* about) { return static_cast<bool>((*static_cast<Done*>(about))()); },
                     &done);
        sleepers_.push_back(self);
        changed_.wait(lock, [&self] { return self.woken; });
    }

    thread_pool::executor pool_;
    pump pump_;
    std::mutex mutex_; ///< guards all members below
    std::condition_variable changed_;
    work_queue ready_;
    sleeper_list sleepers_;
    bool scheduled_ = false; ///< the pump is queued in the pool, or runs
    std::thread::id runner_; ///< the pool thread that runs a piece of work; none otherwise
};

} // namespace gaur::exec
