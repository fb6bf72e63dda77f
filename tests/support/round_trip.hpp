// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "support/backends.hpp"
#include "support/qemu_img.hpp"
#include "support/reference_image.hpp"

#include <gaur/async/sync_wait.hpp>
#include <gaur/async/task.hpp>
#include <gaur/async/when_all.hpp>
#include <gaur/io/fault.hpp>
#include <gaur/io/memory.hpp>
#include <gaur/qcow2/create.hpp>
#include <gaur/qcow2/image.hpp>
#include <gaur/track/ordering.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#endif

/// Every backend with every executor: an image is created, written with some requests in flight,
/// flushed, read, closed and checked.
namespace gaur::test {

/// What is paired with an executor.
template <class B, track::Ordering Order>
struct pair {
    using backend = B;
    using ordering = Order;
};

/// All backends. Each is paired with both orderings, but not with each executor: an engine takes
/// ten seconds to compile.
template <track::Ordering One, track::Ordering Other>
using pairs = ::testing::Types<
#if __has_include(<liburing.h>)
    pair<io::uring::backend, One>,
#endif
    pair<io::sync::backend, Other>, pair<io::posix_aio::backend, One>,
    pair<io::threads::backend, Other>, pair<io::memory::backend, Other>,
    pair<io::fault::backend<io::memory::backend>, One>>;

struct pair_names {
    template <class Pair>
    static std::string GetName(int) {
        return std::string(Pair::backend::name) + "_" + std::string(Pair::ordering::name);
    }
};

/// A backend for one of the pairs, driven by one thread or by several in turn.
template <class B>
result<std::unique_ptr<B>> make_backend(bool single_thread) {
    if constexpr (std::is_same_v<B, io::fault::backend<io::memory::backend>>) {
        auto inner = std::make_unique<io::memory::backend>();
        return std::make_unique<B>(
            std::move(inner), io::fault::options{.order = io::fault::order::random, .seed = 7});
    } else if constexpr (std::is_same_v<B, io::memory::backend>) {
        return B::make({.seed = 7});
    } else if constexpr (requires { B::make({.single_thread = true}); }) {
        return B::make({.single_thread = single_thread});
#ifdef __SANITIZE_THREAD__
    } else if constexpr (std::is_same_v<B, io::posix_aio::backend>) {
        // With several threads, glibc's threads start further threads, in which the thread
        // sanitizer's calloc crashes: it does not know them.
        return B::make({.descriptors = 1});
#endif
    } else {
        return B::make();
    }
}

/// Writes or reads every `workers`-th piece of the disk, from the `first` on. Pieces are not
/// aligned to clusters, so neighbours that are in flight together share a cluster.
template <class Image>
async::task<void> work_on(Image& disk, std::span<std::byte> content, std::size_t first,
                          std::size_t workers, bool writes) {
    constexpr std::size_t piece = 3000;
    for (std::size_t at = first * piece; at < content.size(); at += workers * piece) {
        const std::span<std::byte> part =
            content.subspan(at, std::min(piece, content.size() - at));
        auto request = writes ? disk.write({at}, part) : disk.read({at}, part);
        result<void> r = co_await request;
        if (!r) { co_return r; }
    }
    co_return {};
}

/// Some workers at once. A flush follows if they write.
template <class Image>
async::task<void> work_together(Image& disk, std::span<std::byte> content, bool writes) {
    constexpr std::size_t workers = 6;
    std::vector<async::task<void>> all;
    for (std::size_t i = 0; i < workers; ++i) {
        all.push_back(work_on(disk, content, i, workers, writes));
    }
    async::when_all together{std::span(all)};
    co_await together;
    result<void> first;
    for (async::task<void>& t : all) {
        const result<void> r = t.take();
        if (first && !r) { first = r; }
    }
    if (first && writes) {
        auto flush = disk.flush();
        first = co_await flush;
    }
    co_return first;
}

template <class B>
std::vector<std::byte> bytes_of(B& io, const std::string& path) {
    if constexpr (requires { io.inner().content(path); }) {
        return io.inner().content(path).bytes();
    } else if constexpr (requires { io.content(path); }) {
        return io.content(path).bytes();
    } else {
        return read_file(path);
    }
}

template <track::Ordering Order, class B, class Ex>
void round_trip(B& io, const Ex& executor, const std::string& path) {
    const auto wait = [&](auto task) { return sync_wait(io, executor, std::move(task)); };
    std::vector<std::byte> written(150'000);
    for (std::size_t i = 0; i < written.size(); ++i) {
        written[i] = static_cast<std::byte>(i % 251 + 1);
    }
    ASSERT_TRUE(wait(qcow2::create(io, executor, path, {.size = 1 << 20, .cluster_bits = 12})));
    {
        auto opened =
            wait(qcow2::open<qcow2::ordered_by<Order>>(io, executor, path, {.write = true}));
        ASSERT_TRUE(opened) << opened.error().message();
        for (int round = 0; round < 2; ++round) { // into new clusters, then in place
            std::reverse(written.begin(), written.end());
            ASSERT_TRUE(wait(work_together(*opened, written, true)));
        }
        std::vector<std::byte> read(written.size());
        ASSERT_TRUE(wait(work_together(*opened, read, false)));
        EXPECT_EQ(read, written);
        const result<void> closed = wait(opened->close());
        ASSERT_TRUE(closed) << closed.error().message();
    }
    const auto verdict = reference_image(bytes_of(io, path)).check();
    EXPECT_EQ(verdict.corruptions + verdict.leaks, 0U) << verdict.first;
    auto again = wait(qcow2::open<qcow2::ordered_by<Order>>(io, executor, path));
    ASSERT_TRUE(again) << again.error().message();
    std::vector<std::byte> read(written.size());
    ASSERT_TRUE(wait(work_together(*again, read, false)));
    EXPECT_EQ(read, written);
    ASSERT_TRUE(wait(again->close()));
}

} // namespace gaur::test

/// The same with the executor that `Loop<B>` makes of a backend.
#define GAUR_ROUND_TRIP(Pair, Loop, single_thread)                                                 \
    using backend_type = typename Pair::backend;                                                   \
    auto made = gaur::test::make_backend<backend_type>(single_thread);                             \
    if (!made && gaur::test::is_forbidden(made.error())) {                                         \
        GTEST_SKIP() << backend_type::name << ": " << made.error().message();                      \
    }                                                                                              \
    ASSERT_TRUE(made) << made.error().message();                                                   \
    const gaur::test::scratch_folder folder;                                                       \
    Loop<backend_type> loop(**made);                                                               \
    gaur::test::round_trip<typename Pair::ordering>(**made, loop.get_executor(),                   \
                                                    folder.file("image"))
