// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "disk.hpp"
#include "progress.hpp"
#include "turns.hpp"

#include <gaur/base/buffer.hpp>

#include <cstdint>
#include <span>
#include <string>

namespace gaur_img {

/// What is done with a range of the source.
struct conversion_step {
    enum class what : std::uint8_t { copy, write_zeroes, skip };
    what kind = what::skip;
    std::uint64_t at = 0;
    std::uint64_t size = 0;
};

struct copy_options {
    /// Runs of this many zero bytes are left out if the target reads as zeroes anyway. 0:
    /// everything is written.
    std::uint64_t sparse = 4096;
    bool target_has_backing = false; ///< the backing file holds what is below the source's layer
    bool target_is_zero = false;     ///< what was not written reads as zeroes
};

/// Copies a disk. Several workers each read a piece, look for zeroes and write it, so that reads
/// and writes overlap. The ranges to copy are found on the way, with memory for one run.
class conversion {
  public:
    conversion(disk& from, disk& to, const copy_options& how, progress& shown) noexcept;

    /// Runs all workers to their end.
    gaur::async::task<void> run(unsigned workers) { return run_all(*this, workers); }
    static constexpr unsigned most_workers = 64;

    /// The operation that failed, for the message; empty if none did.
    const std::string& failed() const noexcept { return failed_; }

  private:
    /// Bytes read and written at once: large enough for every device, small enough to spread over
    /// the workers.
    static constexpr std::uint64_t piece_bytes = std::uint64_t{2} << 20;
    /// A run of zeroes shorter than this, between bytes that are copied, is copied too.
    static constexpr std::uint64_t small_hole = std::uint64_t{64} << 10;

    conversion_step::what kind_of(const gaur::device::block_run& run) const noexcept;
    std::uint64_t run_of(bool zeroes, std::span<const std::byte> bytes,
                         std::uint64_t at) const noexcept;
    void fail(const char* doing, std::uint64_t at);

    static gaur::async::task<void> run_all(conversion& self, unsigned workers);
    static gaur::async::task<void> work(conversion& self);
    static gaur::async::task<void> next_piece(conversion& self, conversion_step& piece);
    static gaur::async::task<void> find_piece(conversion& self, conversion_step& piece);
    static gaur::async::task<void> write(conversion& self, std::span<const std::byte> bytes,
                                         std::uint64_t at, bool skips_zeroes);

    disk& from_;
    disk& to_;
    copy_options how_;
    std::uint64_t unit_ = 0; ///< zeroes are left out in units of this size; 0: never
    progress& shown_;
    turns looking_;
    gaur::device::block_run run_; ///< of the source: the one found last
    std::uint64_t at_ = 0;        ///< bytes below are handed out or left out
    std::uint64_t done_ = 0;
    std::string failed_;
    gaur::buffer_pool buffers_;
};

} // namespace gaur_img
