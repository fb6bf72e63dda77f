// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/task.hpp>
#include <gaur/base/error.hpp>
#include <gaur/base/units.hpp>
#include <gaur/device/format.hpp>
#include <gaur/io/backend.hpp>
#include <gaur/track/quarantine.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>

namespace gaur::device {

/// Argument of `block_status`: the image and all its backing files.
inline constexpr std::size_t all_layers = std::numeric_limits<std::size_t>::max();

/// A run of bytes of a virtual disk that are stored alike, as seen through the backing chain of an
/// image.
struct block_run {
    /// data, compressed: some layer has bytes for the run. zero, unallocated: the run reads as
    /// zeroes, without any I/O. unallocated: no layer that was asked maps the run.
    mapping kind = mapping::unallocated;
    bool has_host = false; ///< `host` is the offset of the first byte in the layer's file
    bool in_hole = false;  ///< the layer maps the run to a hole of its file: `kind` is zero
    /// The layer of the chain that maps the run: 0 is the image itself, 1 its backing file. If the
    /// run is unallocated: the lowest layer that was asked.
    std::size_t layer = 0;
    guest_offset at;
    std::uint64_t size = 0; ///< bytes
    host_offset host;       ///< not set for compressed bytes

    bool reads_as_zeroes() const noexcept {
        return kind == mapping::zero || kind == mapping::unallocated;
    }
    /// Whether `next` begins where this run ends and is stored alike: in one run of the same file.
    bool is_continued_by(const block_run& next) const noexcept {
        return at + size == next.at && kind == next.kind && layer == next.layer &&
               in_hole == next.in_hole && has_host == next.has_host &&
               (!has_host || host + size == next.host);
    }
};

namespace detail {

/// The answer from memory for the run at an offset: the run, or what its layer must resolve first.
struct known_block {
    block_run run;
    device::missing missing;
    result<void> status;
};

/// Reports data that lies in a hole of the layer's file as zero: a read of it would give zeroes.
template <class Layer>
void look_for_holes(Layer& layer, block_run& run) noexcept {
    if (run.kind != mapping::data) { return; }
    const io::file_run in_file = layer.file().run_at(run.host.value);
    run.size = std::min(run.size, in_file.size);
    if (!in_file.is_hole) { return; }
    run.kind = mapping::zero;
    run.in_hole = true;
}

template <class Layer>
known_block known_block_of(Layer& layer, std::size_t depth, guest_offset at,
                           std::uint64_t n) noexcept {
    const located l = layer.locate(at, n);
    known_block known;
    known.missing = l.missing;
    known.status = l.status;
    known.run = {l.what.kind, l.what.has_host, false, depth, at, l.what.size, l.what.host};
    if (l.status && !l.missing) { look_for_holes(layer, known.run); }
    return known;
}

/// The run that begins at `at`, at most `n` bytes, as seen through the first `layers` files of the
/// chain.
template <class Chain>
known_block look_at_block(Chain& chain, std::size_t layers, guest_offset at,
                          std::uint64_t n) noexcept {
    known_block known = known_block_of(chain.top(), 0, at, n);
    while (known.status && !known.missing && known.run.kind == mapping::unallocated) {
        const std::size_t depth = known.run.layer + 1;
        if (depth >= std::min(layers, chain.depth())) { break; }
        auto& below = chain.lower(depth - 1);
        // Past the end of a shorter backing file no lower layer is visible.
        if (at.value >= below.size()) { break; }
        known = known_block_of(below, depth, at,
                               std::min(known.run.size, below.size() - at.value));
    }
    return known;
}

/// A lookup covers at most this many bytes at first, later twice the size of the run so far. So
/// what a lookup wastes, if another layer maps the rest of its range, is in proportion to the run.
inline constexpr std::uint64_t first_look = std::uint64_t{16} << 20;

/// By pointer: the caller owns this frame and it may outlive the engine, so it must come from the
/// heap, not from the frame pool.
template <class Engine>
async::task<block_run> block_status(Engine* engine, guest_offset at, std::uint64_t n,
                                    std::size_t layers) {
    const result<void> may_begin = engine->check(at, n, false);
    if (!may_begin) { co_return may_begin.error(); }
    const track::quarantine::generation generation = engine->enter();
    auto& chain = engine->layers();
    block_run whole;
    whole.at = at;
    result<void> status;
    while (whole.size < n) {
        const std::uint64_t reach =
            std::min(n - whole.size, std::max(first_look, 2 * whole.size));
        const known_block next = look_at_block(chain, layers, at + whole.size, reach);
        if (whole.size > 0) {
            // A table that must be loaded first is left to the next call.
            if (!next.status || next.missing || !whole.is_continued_by(next.run)) { break; }
            whole.size += next.run.size;
            continue;
        }
        status = next.status;
        if (!status) { break; }
        if (!next.missing) {
            whole = next.run;
            continue;
        }
        async::task<void> resolving;
        if (next.run.layer == 0) {
            resolving = chain.top().resolve(next.missing);
        } else {
            resolving = chain.lower(next.run.layer - 1).resolve(next.missing);
        }
        status = co_await resolving;
        resolving.destroy();
        if (status && engine->is_abandoned()) { status = errc::cancelled; }
        if (!status) { break; }
    }
    // leave() of the last request may destroy the engine.
    engine->leave(generation);
    if (!status) { co_return status.error(); }
    co_return whole;
}

} // namespace detail

/// Iterates over the runs of a range of an image. Each run is as long as possible. Needs memory for
/// one run only, however large the disk.
///
///     block_walk walk(disk, {0}, disk.size());
///     for (;;) {
///         async::task<block_run> looking = walk.next();
///         result<block_run> run = co_await looking;
///         if (!run || run->size == 0) { break; } // an error, or the end
///     }
///
/// The image must not be moved or destroyed meanwhile. If other requests write meanwhile, each run
/// is as it was when it was looked up.
template <class Image>
class block_walk {
  public:
    block_walk(Image& image, guest_offset from, std::uint64_t size,
               std::size_t layers = all_layers) noexcept
        : image_(image), at_(from), end_(from + size), layers_(layers) {}
    block_walk(const block_walk&) = delete;
    block_walk& operator=(const block_walk&) = delete;

    /// The next run. At the end, a run of size 0. Errors as for `image::block_status`.
    async::task<block_run> next() { return next_of(*this); }

  private:
    static async::task<block_run> next_of(block_walk& self) {
        block_run whole = std::exchange(self.ahead_, {});
        while (self.at_ < self.end_) {
            async::task<block_run> looking =
                self.image_.block_status(self.at_, self.end_ - self.at_, self.layers_);
            const result<block_run> next = co_await looking;
            if (!next) { co_return next.error(); }
            self.at_ = self.at_ + next->size;
            if (whole.size != 0 && !whole.is_continued_by(*next)) {
                self.ahead_ = *next;
                break;
            }
            const std::uint64_t before = whole.size;
            if (before == 0) { whole = *next; }
            whole.size = before + next->size;
        }
        co_return whole;
    }

    Image& image_;
    guest_offset at_; ///< the first byte that has not been looked up
    guest_offset end_;
    std::size_t layers_;
    block_run ahead_; ///< looked up already: the start of the next run
};

} // namespace gaur::device
