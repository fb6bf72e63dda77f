// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/contract.hpp>
#include <gaur/exec/executor.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/system/error_code.hpp>

#include <utility>

/// gaur inside a program that lives in Boost.Asio (1.74 or later).
namespace gaur::exec::asio {

/// Work runs where the Asio executor `Ex` runs its handlers. That must be one at a time: an
/// io_context that one thread runs, or an asio::strand. Asio allocates for a post (and recycles
/// that memory); without memory the program ends.
template <class Ex = boost::asio::io_context::executor_type>
class executor {
  public:
    explicit executor(Ex where) noexcept : where_(std::move(where)) {}

    void post(work& w) const noexcept {
        boost::asio::post(where_, [&w] { w.run(); });
    }
    friend bool operator==(const executor& a, const executor& b) noexcept {
        return a.where_ == b.where_;
    }

    /// Runs the io_context, and `io`, until `done()`: in the one thread that may run both.
    template <class Io, class Done>
        requires requires(Ex& ex, boost::asio::io_context*& c) { c = &ex.context(); }
    void block_on(Io& io, Done done) const {
        boost::asio::io_context& context = where_.context();
        while (!done()) {
            if (context.stopped()) { context.restart(); }
            if (context.poll_one() != 0 || io.wait() != 0 || done()) { continue; }
            // Only a handler of the program's own can help now (a timer, another thread's post).
            const bool ran = context.run_one() != 0;
            GAUR_ASSERT(ran || done());
        }
    }

  private:
    Ex where_;
};

static_assert(check_executor<executor<>>());

/// Keeps a backend going inside an io_context: polls it after each piece of work, and whenever its
/// descriptor calls. `Backend` is an io::PollableBackend, used from the io_context's one thread
/// only. The io_context's run() does not return while I/O is in flight.
///
///     boost::asio::io_context context;
///     exec::asio::driver driver(context, ring);
///     … an image on `ring` and driver.get_executor() …
///     context.run();
///
/// What submits outside such work (a handler of the program's own that reads from an image) calls
/// drive() afterwards.
template <class Backend>
class driver {
  public:
    class executor {
      public:
        void post(work& w) const noexcept {
            boost::asio::post(driver_->context_, [d = driver_, &w] {
                w.run();
                d->drive();
            });
        }
        friend bool operator==(const executor&, const executor&) = default;

        template <class Io, class Done>
        void block_on(Io& io, Done done) const {
            asio::executor<>(driver_->context_.get_executor()).block_on(io, std::move(done));
            driver_->drive(); // what ended inside io.wait() is not watched for any longer
        }

      private:
        friend class driver;
        explicit executor(driver& d) noexcept : driver_(&d) {}
        driver* driver_;
    };

    driver(boost::asio::io_context& context, Backend& io)
        : context_(context), io_(io), watched_(context, io.descriptor()) {}
    driver(const driver&) = delete;
    driver& operator=(const driver&) = delete;
    /// Once the io_context has run out of work, or where it is not run again.
    ~driver() {
        // The descriptor stays the backend's.
        watched_.release();
    }

    executor get_executor() noexcept { return executor(*this); }

    /// Hands on what was submitted, and sees to it that its end is noticed.
    void drive() {
        io_.poll();
        const bool was_watching = std::exchange(watching_, io_.in_flight() != 0);
        if (was_watching && !watching_) { watched_.cancel(); }
        if (was_watching || !watching_) { return; }
        watched_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                            [this](const boost::system::error_code& failed) {
                                if (failed) { return; } // cancelled: the driver may be gone
                                watching_ = false;
                                drive();
                            });
    }

  private:
    boost::asio::io_context& context_;
    Backend& io_;
    boost::asio::posix::stream_descriptor watched_;
    bool watching_ = false;
};

} // namespace gaur::exec::asio
