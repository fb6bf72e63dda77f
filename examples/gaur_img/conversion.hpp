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

/// What is done with neighbouring bytes of the source.
struct conversion_step {
    enum class what : std::uint8_t { copy, write_zeroes, skip };
    what kind = what::skip;
    std::uint64_t at = 0;
    std::uint64_t size = 0;
};

struct copy_options {
    /// Runs of so many zero bytes are left out where the target reads as zeroes anyhow; 0:
    /// everything is written.
    std::uint64_t sparse = 4096;
    bool target_has_backing = false; ///< which holds what lies below the source's own layer
    bool target_is_zero = false;     ///< it reads as zeroes, wherever nothing was written
};

/// Copies a disk: several workers read, look for zeroes and write, each a piece at a time, so that
/// reads and writes overlap. What has to be copied is found on the way, in memory for one run.
class conversion {
  public:
    conversion(disk& from, disk& to, const copy_options& how, progress& shown) noexcept;

    /// All workers, to the end.
    gaur::async::task<void> run(unsigned workers) { return run_all(*this, workers); }
    static constexpr unsigned most_workers = 64;

    /// What failed, for the message; empty where nothing did.
    const std::string& failed() const noexcept { return failed_; }

  private:
    /// Read and written at once: large enough for every device, small enough to share out.
    static constexpr std::uint64_t piece_bytes = std::uint64_t{2} << 20;
    /// Zeroes that are fewer, between bytes that are copied, are copied too.
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
    std::uint64_t unit_ = 0; ///< zeroes are left out in whole units; 0: never
    progress& shown_;
    turns looking_;
    gaur::device::block_run run_; ///< of the source, the one that was found last
    std::uint64_t at_ = 0;        ///< bytes below are handed out, or left out
    std::uint64_t done_ = 0;
    std::string failed_;
    gaur::buffer_pool buffers_;
};

} // namespace gaur_img
