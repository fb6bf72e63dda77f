// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "block_list.hpp"
#include "disk.hpp"
#include "progress.hpp"

#include <gaur/base/buffer.hpp>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace gaur_img {

/// What is done with neighbouring bytes of the source.
struct conversion_step {
    enum class what : std::uint8_t { copy, write_zeroes };
    what kind;
    std::uint64_t at;
    std::uint64_t size;
};

/// Copies a disk: several workers read, look for zeroes and write, each a piece at a time, so that
/// reads and writes overlap.
class conversion {
  public:
    /// `sparse`: runs of so many zero bytes are left out where the target reads as zeroes anyhow;
    /// 0: everything is written.
    conversion(disk& from, disk& to, std::vector<conversion_step> steps, std::uint64_t sparse,
               bool target_is_zero, progress& shown);

    /// All workers, to the end.
    gaur::async::task<void> run(unsigned workers) { return run_all(*this, workers); }

    /// What failed, for the message; empty where nothing did.
    const std::string& failed() const noexcept { return failed_; }

  private:
    /// Read and written at once: large enough for every device, small enough to share out.
    static constexpr std::uint64_t piece_bytes = std::uint64_t{2} << 20;

    conversion_step next_piece() noexcept;
    std::uint64_t run_of(bool zeroes, std::span<const std::byte> bytes,
                         std::uint64_t at) const noexcept;
    void fail(const char* doing, std::uint64_t at);

    static gaur::async::task<void> run_all(conversion& self, unsigned workers);
    static gaur::async::task<void> work(conversion& self);
    static gaur::async::task<void> write(conversion& self, std::span<const std::byte> bytes,
                                         std::uint64_t at, bool skips_zeroes);

    disk& from_;
    disk& to_;
    std::vector<conversion_step> steps_;
    std::uint64_t unit_; ///< zeroes are left out in whole units; 0: never
    progress& shown_;
    std::size_t step_ = 0;       ///< next to hand out
    std::uint64_t in_step_ = 0;  ///< bytes of it handed out already
    std::uint64_t done_ = 0;
    std::uint64_t total_ = 0;
    std::string failed_;
    gaur::buffer_pool buffers_;
};

} // namespace gaur_img
