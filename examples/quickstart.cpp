// SPDX-License-Identifier: BSL-1.0
// Creates a qcow2 image, keeps 64 writes in flight that overlap in the same new clusters, and reads
// everything back: quickstart [image]. An image that exists already is used again.
#include <gaur/gaur.hpp>
#include <gaur/io/threads.hpp> // asynchronous, and works wherever there are threads

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

namespace {
using backend = gaur::io::threads::backend;
using loop = gaur::exec::run_loop<backend>;
using image = gaur::qcow2::image<backend, loop::executor>;
constexpr std::size_t piece = 16384; // a quarter of a cluster: four writes share each cluster
constexpr std::size_t pieces = 64;

gaur::async::task<void> write_piece(image& disk, std::size_t at, std::span<std::byte> data) {
    auto write = disk.write({at}, data.subspan(at, piece)); // starts nothing yet
    gaur::result<void> status = co_await write;
    co_return status;
}

/// Writes all pieces at once, flushes, then reads everything back.
gaur::async::task<bool> write_and_compare(image& disk, std::span<std::byte> data) {
    std::vector<gaur::async::task<void>> writes;
    for (std::size_t at = 0; at < data.size(); at += piece) {
        writes.push_back(write_piece(disk, at, data));
    }
    gaur::async::when_all all(std::span{writes});
    co_await all;
    gaur::result<void> status;
    for (auto& write : writes) {
        if (const gaur::result<void> s = write.take(); !s) { status = s; }
    }
    std::vector<std::byte> back(data.size());
    auto flush = disk.flush(); // once it has ended, a power cut loses none of these writes
    if (status) { status = co_await flush; }
    auto read = disk.read({0}, back);
    if (status) { status = co_await read; }
    if (!status) { co_return status.error(); }
    co_return std::ranges::equal(back, data);
}

/// Returns the value, or prints the error and ends the program.
template <class T>
T expect(gaur::result<T> outcome) {
    if (outcome) { return std::move(outcome).value(); }
    std::fprintf(stderr, "quickstart: %s\n", outcome.error().message().c_str());
    std::exit(1);
}

} // namespace

int main(int argc, char** argv) {
    const std::string path = argc > 1 ? argv[1] : "quickstart.qcow2";
    std::vector<std::byte> data(pieces * piece);
    for (std::size_t i = 0; i < data.size(); ++i) { data[i] = std::byte(i / piece + 1); }

    const auto io = expect(backend::make());
    loop here(*io); // runs the requests and drives the backend, in this thread
    const auto wait = [&](auto task) {
        return expect(gaur::sync_wait(*io, here.get_executor(), std::move(task)));
    };
    if (!std::filesystem::exists(path)) {
        wait(gaur::qcow2::create(*io, here.get_executor(), path, {.size = 1 << 30}));
    }
    image disk = wait(gaur::qcow2::open(*io, here.get_executor(), path, {.write = true}));
    const bool same = wait(write_and_compare(disk, data));
    const gaur::track::figures& met = disk.tracker_figures();
    std::printf("%zu writes took new clusters %ju times, joined an allocation %ju times and waited "
                "for one %ju times\nread back: %s\n", pieces, std::uintmax_t{met.admitted},
                std::uintmax_t{met.joined}, std::uintmax_t{met.waited}, same ? "same" : "NOT SAME");
    wait(disk.close()); // durable, and marked clean
    return same ? 0 : 1;
}
