// SPDX-License-Identifier: BSL-1.0
// An image over io_uring in a program that runs Boost.Asio's loop. A timer writes a record each
// millisecond and never waits for the disk. There is one thread, and it does not busy-poll: Asio
// watches the ring's descriptor.
#include <gaur/exec/asio.hpp>
#include <gaur/gaur.hpp>
#include <gaur/io/threads.hpp>
#include <gaur/io/uring.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <vector>

namespace {

constexpr std::size_t record_bytes = 5000; // some records cross a cluster border
constexpr std::size_t records = 100;
constexpr const char* path = "event_loop.qcow2";

/// Writes one record per tick, `records` in all.
template <class Image, class Driver>
class recorder {
  public:
    recorder(boost::asio::io_context& context, Image& disk, Driver& driver)
        : timer_(context), disk_(disk), driver_(driver) {}

    void tick() {
        const std::size_t i = written_.size();
        if (i == records) { return; } // the loop ends once the last write has ended
        record& r = written_.emplace_back(*this, i);
        r.write.start(&on_written, this);
        driver_.drive(); // the request was submitted outside the driver's work: hand it on
        timer_.expires_after(std::chrono::milliseconds(1));
        timer_.async_wait([this](const boost::system::error_code& cancelled) {
            if (!cancelled) { tick(); }
        });
    }

    std::size_t ended = 0;
    std::size_t most_in_flight = 0;
    gaur::result<void> status;

  private:
    struct record {
        record(recorder& by, std::size_t i)
            : data(record_bytes, std::byte(i)), write(by.disk_.write({i * record_bytes}, data)) {}
        std::vector<std::byte> data;
        typename Image::request write;
    };

    static void on_written(void* context, gaur::result<void> status) noexcept {
        auto& self = *static_cast<recorder*>(context);
        self.most_in_flight = std::max(self.most_in_flight, self.written_.size() - self.ended);
        ++self.ended;
        if (!status) { self.status = status; }
    }

    boost::asio::steady_timer timer_;
    Image& disk_;
    Driver& driver_;
    std::deque<record> written_; // a deque: records stay in place while they are in flight
};

template <class Backend>
gaur::result<void> run(Backend& io) {
    boost::asio::io_context context;
    gaur::exec::asio::driver driver(context, io);
    const auto executor = driver.get_executor();
    const auto made = gaur::sync_wait(
        io, executor, gaur::qcow2::create(io, executor, path, {.size = 1 << 30}));
    if (!made) { return made; }
    auto disk =
        gaur::sync_wait(io, executor, gaur::qcow2::open(io, executor, path, {.write = true}));
    if (!disk) { return disk.error(); }

    recorder writes(context, *disk, driver);
    writes.tick();
    context.restart();
    context.run(); // runs the program: its timers, its sockets and the image's requests
    if (!writes.status) { return writes.status; }
    std::printf("%zu records written over %s inside Boost.Asio, up to %zu in flight\n",
                writes.ended, Backend::name.data(), writes.most_in_flight);
    return gaur::sync_wait(io, executor, disk->close());
}

} // namespace

int main() {
    gaur::result<void> outcome = gaur::errc::not_supported;
    if (auto ring = gaur::io::uring::backend::make(); ring) {
        outcome = run(**ring);
    } else if (auto threads = gaur::io::threads::backend::make(); threads) {
        // Many containers forbid io_uring. This backend has a descriptor to watch as well.
        outcome = run(**threads);
    }
    if (!outcome) { std::fprintf(stderr, "event_loop: %s\n", outcome.error().message().c_str()); }
    return outcome ? 0 : 1;
}
