// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/contract.hpp>
#include <gaur/exec/executor.hpp>

#include <boost/asio/execution/context.hpp>
#include <boost/asio/execution_context.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/query.hpp>
#include <boost/system/error_code.hpp>

#include <memory>
#include <mutex>
#include <utility>

/// gaur in a program that runs on Boost.Asio (1.74 or later).
namespace gaur::exec::asio {

namespace detail {

/// Work that was posted to Asio and has not run. Each handler shares ownership of it. A handler
/// that is called, or destroyed, after the loop or the driver is destroyed does nothing.
class posted_work {
  public:
    /// False if run_all() will run it: the caller must not post it to Asio.
    bool add(work& w) noexcept {
        const std::lock_guard lock(mutex_);
        ready_.push_back(w);
        return !taken_over_;
    }
    /// False if run_all() has run it already.
    bool take(work& w) noexcept {
        const std::lock_guard lock(mutex_);
        if (taken_over_) { return false; }
        ready_.erase(ready_.iterator_to(w));
        return true;
    }
    /// From the first call on, Asio runs no work any more: run_all() runs all of it, including what
    /// that work posts.
    void run_all() noexcept {
        for (;;) {
            work* next = nullptr;
            {
                const std::lock_guard lock(mutex_);
                taken_over_ = true;
                if (ready_.empty()) { return; }
                next = &ready_.front();
                ready_.pop_front();
            }
            next->run();
        }
    }

    void attach(teardown& t) noexcept {
        const std::lock_guard lock(mutex_);
        attached_.push_back(t);
    }
    void detach(teardown& t) noexcept {
        const std::lock_guard lock(mutex_);
        attached_.erase(attached_.iterator_to(t));
    }
    /// The end of the loop. Precondition: no other thread runs the loop.
    void end() noexcept {
        drain(attached_, [this] { run_all(); });
    }

  private:
    std::mutex mutex_;
    work_queue ready_;
    teardown_list attached_;
    bool taken_over_ = false;
};

/// Is told when an execution context shuts down, before the context destroys its handlers without
/// running them.
class end_of_context : public boost::asio::execution_context::service {
  public:
    inline static boost::asio::execution_context::id id;

    explicit end_of_context(boost::asio::execution_context& of)
        : service(of), posted_(std::make_shared<posted_work>()) {}

    static std::shared_ptr<posted_work> of(boost::asio::execution_context& context) {
        return boost::asio::use_service<end_of_context>(context).posted_;
    }

  private:
    void shutdown() noexcept override { posted_->end(); }

    std::shared_ptr<posted_work> posted_;
};

} // namespace detail

/// Runs work on the Asio executor `Ex`. `Ex` must run one handler at a time: an io_context that one
/// thread runs, or an asio::strand. Asio allocates memory for each post (and recycles it). If that
/// allocation fails, the program terminates.
///
/// The destructor of the io_context runs the work that has not run yet, and drives the I/O that
/// destroyed images have left in flight. The backend must outlive the io_context.
template <class Ex = boost::asio::io_context::executor_type>
class executor {
  public:
    explicit executor(Ex where) noexcept
        : where_(std::move(where)),
          posted_(detail::end_of_context::of(
              boost::asio::query(where_, boost::asio::execution::context))) {}

    void post(work& w) const noexcept {
        if (!posted_->add(w)) { return; }
        boost::asio::post(where_, [&w, posted = posted_] {
            if (posted->take(w)) { w.run(); }
        });
    }
    friend bool operator==(const executor& a, const executor& b) noexcept {
        return a.where_ == b.where_;
    }
    void attach(teardown& t) const noexcept { posted_->attach(t); }
    void detach(teardown& t) const noexcept { posted_->detach(t); }
    /// Also false if `Ex` cannot tell. That is safe: the caller posts instead.
    bool runs_here() const noexcept {
        if constexpr (requires(const Ex& ex) { ex.running_in_this_thread(); }) {
            return where_.running_in_this_thread();
        } else {
            return false;
        }
    }

    /// Runs the io_context and drives `io` until `done()`. Only from the thread that may run both.
    template <class Io, class Done>
        requires requires(Ex& ex, boost::asio::io_context*& c) { c = &ex.context(); }
    void block_on(Io& io, Done done) const {
        boost::asio::io_context& context = where_.context();
        while (!done()) {
            if (context.stopped()) { context.restart(); }
            if (context.poll_one() != 0 || io.wait() != 0 || done()) { continue; }
            // No I/O is in flight. Only the program's own handlers can make progress now (a timer,
            // a post from another thread).
            const bool ran = context.run_one() != 0;
            GAUR_ASSERT(ran || done());
        }
    }

  private:
    Ex where_;
    std::shared_ptr<detail::posted_work> posted_;
};

static_assert(check_executor<executor<>>() && TeardownExecutor<executor<>> &&
              ThreadAwareExecutor<executor<>>);

/// Drives a backend inside an io_context. It polls the backend after each piece of work, and
/// whenever the descriptor of the backend becomes readable. `Backend` is an io::PollableBackend
/// that is used only from the one thread of the io_context. The run() of the io_context does not
/// return while I/O is in flight.
///
///     boost::asio::io_context context;
///     exec::asio::driver driver(context, ring);
///     … an image on `ring` and driver.get_executor() …
///     context.run();
///
/// A caller that submits outside such work (for example a handler of the program that reads from an
/// image) must call drive() afterwards.
template <class Backend>
class driver {
  public:
    class executor {
      public:
        void post(work& w) const noexcept { driver_->post(w); }
        friend bool operator==(const executor&, const executor&) = default;
        bool runs_here() const noexcept {
            return driver_->context_.get_executor().running_in_this_thread();
        }

        template <class Io, class Done>
        void block_on(Io& io, Done done) const {
            asio::executor<>(driver_->context_.get_executor()).block_on(io, std::move(done));
            driver_->drive(); // stop watching for what ended inside io.wait()
        }

      private:
        friend class driver;
        explicit executor(driver& d) noexcept : driver_(&d) {}
        driver* driver_;
    };

    driver(boost::asio::io_context& context, Backend& io)
        : context_(context), io_(io), posted_(std::make_shared<detail::posted_work>()),
          watched_(context, io.descriptor()) {}
    driver(const driver&) = delete;
    driver& operator=(const driver&) = delete;
    /// Precondition: the io_context has run out of work, or is not run again. Runs the posted work,
    /// what that work posts, and the backend, until nothing is in flight. Runs no handler of the
    /// program.
    ~driver() {
        // The backend keeps the ownership of the descriptor.
        watched_.release();
        do { posted_->run_all(); } while (io_.wait() != 0);
    }

    executor get_executor() noexcept { return executor(*this); }

    /// Hands the submitted requests to the host, and watches the descriptor for their end.
    void drive() {
        io_.poll();
        const bool was_watching = std::exchange(watching_, io_.in_flight() != 0);
        if (was_watching && !watching_) { watched_.cancel(); }
        if (was_watching || !watching_) { return; }
        watched_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                            [this](const boost::system::error_code& failed) {
                                if (failed) { return; } // cancelled: the driver may be destroyed
                                watching_ = false;
                                drive();
                            });
    }

  private:
    void post(work& w) noexcept {
        if (!posted_->add(w)) { return; }
        boost::asio::post(context_, [this, &w, posted = posted_] {
            if (!posted->take(w)) { return; } // the driver may be destroyed
            w.run();
            drive();
        });
    }

    boost::asio::io_context& context_;
    Backend& io_;
    std::shared_ptr<detail::posted_work> posted_;
    boost::asio::posix::stream_descriptor watched_;
    bool watching_ = false;
};

} // namespace gaur::exec::asio
