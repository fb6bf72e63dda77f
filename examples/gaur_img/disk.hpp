// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "bench.hpp"

#include <gaur/async/task.hpp>
#include <gaur/io/backend.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace gaur_img {

/// Neighbouring bytes of a virtual disk that are stored alike, as `qemu-img map` tells them.
struct block {
    std::uint64_t size = 0;
    unsigned depth = 0;   ///< the file of the chain that decides; 0: the image itself
    bool present = false; ///< something in the chain says what they are; otherwise nothing does
    bool zero = false;    ///< they read as zeroes without any I/O
    bool data = false;    ///< they have to be read
    std::optional<std::uint64_t> offset; ///< their place in that file
};

/// An open image of any format over any backend.
/// One virtual call for a request of up to megabytes costs nothing; in `bench` it is one a run.
class disk {
  public:
    disk() = default;
    disk(const disk&) = delete;
    disk& operator=(const disk&) = delete;
    virtual ~disk() = default;

    virtual std::uint64_t size() const noexcept = 0;
    virtual std::uint64_t cluster_size() const noexcept = 0;
    virtual bool has_backing_file() const noexcept = 0;
    /// The path of a file of the chain.
    virtual const std::string& path(unsigned depth) const noexcept = 0;
    /// The files of the chain, which it holds open: itself first.
    virtual std::vector<gaur::io::file_identity> files() = 0;

    /// What begins at `at`: at most `n` bytes, at least one.
    virtual gaur::async::task<block> block_at(std::uint64_t at, std::uint64_t n) = 0;
    virtual gaur::async::task<void> read(std::uint64_t at, std::span<std::byte> to) = 0;
    /// Durable when it ends, if the image was opened so (cache_mode::writes_through).
    virtual gaur::async::task<void> write(std::uint64_t at, std::span<const std::byte> from) = 0;
    virtual gaur::async::task<void> close() = 0;

    /// Runs it to its end and closes the image.
    virtual gaur::result<bench_figures> bench(const bench_options& how) = 0;
};

} // namespace gaur_img
