// SPDX-License-Identifier: BSL-1.0
// A complete custom executor, for a program with a loop of its own (a game, a simulation) that has
// other work in each round and runs gaur's work in between. To write your own, copy it, replace
// `ticker` with your loop, and run tests/support/executor_conformance.hpp on it, as
// tests/exec/inline.cpp does.
#include <gaur/gaur.hpp>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

class ticker {
  public:
    /// The handle that gaur holds. Copies compare equal. Work posted through equal handles runs one
    /// item at a time.
    class executor {
      public:
        void post(gaur::exec::work& w) const noexcept { loop_->ready_.push_back(w); }
        friend bool operator==(const executor&, const executor&) = default;

        /// Objects that have I/O in flight. The loop knows no backend, so its destructor drives
        /// them to their end (*drained*).
        void attach(gaur::exec::teardown& t) const noexcept { loop_->attached_.push_back(t); }
        void detach(gaur::exec::teardown& t) const noexcept {
            loop_->attached_.erase(loop_->attached_.iterator_to(t));
        }

        /// Used by gaur::sync_wait only. A program that never blocks needs no block_on.
        template <class Io, class Done>
        void block_on(Io& io, Done done) const {
            while (!done()) { loop_->tick(io); }
        }

      private:
        friend class ticker;
        explicit executor(ticker& loop) : loop_(&loop) {}
        ticker* loop_;
    };

    ticker() = default;
    ticker(const ticker&) = delete;
    ticker& operator=(const ticker&) = delete;
    ~ticker() {
        gaur::exec::drain(attached_, [this] {
            while (!ready_.empty()) { run_ready(); }
        });
    }

    executor get_executor() { return executor(*this); }

    /// One round of the program.
    template <class Io>
    void tick(Io& io) {
        ++rounds_; // the program's own work goes here
        io.poll(); // ends I/O that is ready; never blocks
        run_ready();
    }

    unsigned rounds() const { return rounds_; }

  private:
    void run_ready() {
        gaur::exec::work_queue now;
        now.swap(ready_); // work posted by this work waits for the next round
        while (!now.empty()) {
            gaur::exec::work& next = now.front();
            now.pop_front(); // pop first: run() may post it again or destroy it
            next.run();
        }
    }

    gaur::exec::teardown_list attached_;
    gaur::exec::work_queue ready_; // intrusive: posting neither allocates nor fails
    unsigned rounds_ = 0;
};

static_assert(gaur::exec::check_executor<ticker::executor>()); // says which piece is missing

/// Returns the value, or prints the error and ends the program.
template <class T>
T expect(gaur::result<T> outcome) {
    if (outcome) { return std::move(outcome).value(); }
    std::fprintf(stderr, "custom_executor: %s\n", outcome.error().message().c_str());
    std::exit(1);
}

int main() {
    gaur::io::memory::backend io({.latency = 5}); // a poll that ends nothing takes 1 ns
    ticker loop;
    const auto wait = [&](auto task) {
        return expect(gaur::sync_wait(io, loop.get_executor(), std::move(task)));
    };
    wait(gaur::qcow2::create(io, loop.get_executor(), "disk", {.size = 1 << 20}));
    auto disk = wait(gaur::qcow2::open(io, loop.get_executor(), "disk", {.write = true}));

    std::vector<std::byte> out(100'000, std::byte{42});
    std::vector<std::byte> in(out.size());
    expect(gaur::sync_wait(disk.write({12'345}, out)));
    expect(gaur::sync_wait(disk.read({12'345}, in)));
    wait(disk.close());
    const bool same = std::ranges::equal(in, out);
    std::printf("%u rounds of the loop; read back: %s\n", loop.rounds(),
                same ? "the same" : "DIFFERENT");
    return same ? 0 : 1;
}
