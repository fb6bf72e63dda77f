// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "support/model_disk.hpp"

#include <gaur/async/sync_wait.hpp>
#include <gaur/async/task.hpp>
#include <gaur/async/when_all.hpp>
#include <gaur/exec/run_loop.hpp>
#include <gaur/io/seeded.hpp>
#include <gaur/qcow2/check.hpp>
#include <gaur/qcow2/create.hpp>
#include <gaur/qcow2/image.hpp>
#include <gaur/qcow2/zlib.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace gaur::test {

/// One write, or a flush if it has no bytes.
struct piece {
    std::uint64_t at = 0;
    std::size_t size = 0;
};

/// Writes of many sizes and alignments that may be in flight together. Writes that overlap write
/// the same bytes: those of `round` at their offset. So the outcome does not depend on the order in
/// which they end.
struct load {
    std::uint32_t round = 0;
    std::vector<piece> pieces;

    /// `count` pieces of at most `most` bytes on a disk of `disk_size` bytes. Every 50th is a
    /// flush. Half of the writes fall into one sixteenth of the disk.
    static load random(std::uint64_t seed, std::uint64_t disk_size, unsigned count,
                       std::size_t most) {
        io::seeded random(seed);
        load made{static_cast<std::uint32_t>(seed), {}};
        const std::uint64_t hot = random.below(disk_size);
        for (unsigned i = 0; i < count; ++i) {
            if (i % 50 == 49) { made.pieces.push_back({}); }
            // As many small ones as large ones: 2^k plus a random remainder.
            std::size_t size = std::size_t{1} << random.below(std::bit_width(most));
            size += random.below(size);
            std::uint64_t at = random.below(disk_size);
            if (random.below(2) == 0) { at = (hot + at / 16) % disk_size; }
            // Guests mostly write whole sectors.
            if (random.below(4) != 0) {
                at = align_down(at, 512);
                size = static_cast<std::size_t>(align_up(size, 512));
            }
            size = std::min({size, most, static_cast<std::size_t>(disk_size - at)});
            made.pieces.push_back({at, size});
        }
        return made;
    }
    /// The whole disk, in order.
    static load whole(std::uint32_t round, std::uint64_t disk_size, std::size_t step) {
        load made{round, {}};
        for (std::uint64_t at = 0; at < disk_size; at += step) {
            made.pieces.push_back(
                {at, static_cast<std::size_t>(std::min<std::uint64_t>(step, disk_size - at))});
        }
        return made;
    }

    /// Applies the writes to `disk`, the content before them.
    void apply(std::vector<std::byte>& disk) const {
        for (const piece& p : pieces) {
            fill_tagged(std::span(disk).subspan(p.at, p.size), p.at, round);
        }
    }
};

/// A backend and the loop that drives it in this thread. Operates on images from outside, one call
/// after another. Within each call, requests are in flight together.
template <class B>
class driver {
  public:
    using executor = typename exec::run_loop<B>::executor;
    using image = qcow2::image<B, executor>;

    explicit driver(B& io) : io_(io), loop_(io) {}

    B& io() noexcept { return io_; }
    executor get_executor() noexcept { return loop_.get_executor(); }

    template <class T>
    result<T> wait(async::task<T> task) {
        return sync_wait(io_, loop_.get_executor(), std::move(task));
    }

    result<void> create(const std::string& path, const qcow2::create_options& how) {
        return wait(qcow2::create(io_, get_executor(), path, how));
    }
    /// Follows backing files; inflates with zlib.
    result<image> open(const std::string& path, qcow2::open_options how) {
        how.references = qcow2::references::follow;
        how.inflate = &qcow2::zlib_inflate;
        return wait(qcow2::open(io_, get_executor(), path, how));
    }
    result<qcow2::check_report> check(const std::string& path) {
        return wait(qcow2::check(io_, get_executor(), path));
    }

    /// Opens an image, writes, closes it.
    result<void> write(const std::string& path, const load& what, unsigned depth,
                       qcow2::open_options how = {}) {
        how.write = true;
        result<image> disk = open(path, how);
        if (!disk) { return disk.error(); }
        if (result<void> r = write(*disk, what, depth); !r) { return r; }
        return wait(disk->close());
    }
    result<void> write(image& disk, const load& what, unsigned depth) {
        std::size_t next = 0;
        return run(depth, [&] { return write_some(disk, what, next); });
    }

    /// Opens an image and reads all of it.
    result<std::vector<std::byte>> read(const std::string& path, unsigned depth,
                                        qcow2::open_options how = {}) {
        result<image> disk = open(path, how);
        if (!disk) { return disk.error(); }
        return read(*disk, depth);
    }
    result<std::vector<std::byte>> read(image& disk, unsigned depth) {
        // Not zero, so that bytes that were not filled are detected.
        std::vector<std::byte> all(disk.size(), std::byte{0xa5});
        std::uint64_t next = 0;
        const result<void> r = run(depth, [&] { return read_some(disk, all, next); });
        if (!r) { return r.error(); }
        return all;
    }

  private:
    /// Several workers that share one queue.
    template <class Make>
    result<void> run(unsigned depth, Make make) {
        std::vector<async::task<void>> workers;
        for (unsigned i = 0; i < depth; ++i) { workers.push_back(make()); }
        return wait(first_error(workers));
    }
    static async::task<void> first_error(std::vector<async::task<void>>& workers) {
        async::when_all all{std::span(workers)};
        co_await all;
        result<void> first;
        for (async::task<void>& w : workers) {
            const result<void> r = w.take();
            if (first && !r) { first = r; }
        }
        co_return first;
    }

    static async::task<void> write_some(image& disk, const load& what, std::size_t& next) {
        std::vector<std::byte> bytes;
        while (next < what.pieces.size()) {
            const piece p = what.pieces[next++];
            bytes.resize(p.size);
            fill_tagged(bytes, p.at, what.round);
            auto request = p.size == 0 ? disk.flush() : disk.write({p.at}, bytes);
            result<void> r = co_await request;
            if (!r) { co_return r; }
        }
        co_return {};
    }

    /// The step is no multiple of a cluster, so that reads cut clusters.
    static async::task<void> read_some(image& disk, std::span<std::byte> all, std::uint64_t& next) {
        constexpr std::uint64_t step = 100'001;
        while (next < all.size()) {
            const std::uint64_t at = next;
            const std::uint64_t n = std::min<std::uint64_t>(step, all.size() - at);
            next += n;
            auto request = disk.read({at}, all.subspan(at, n));
            result<void> r = co_await request;
            if (!r) { co_return r; }
        }
        co_return {};
    }

    B& io_;
    exec::run_loop<B> loop_;
};

} // namespace gaur::test
