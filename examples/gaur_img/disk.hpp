// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "bench.hpp"

#include <gaur/async/task.hpp>
#include <gaur/device/block_status.hpp>
#include <gaur/io/backend.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace gaur_img {

/// An open image of any format over any backend. The cost of a virtual call is negligible: it is
/// one for a request of up to megabytes, and one for a whole run of `bench`.
class disk {
  public:
    disk() = default;
    disk(const disk&) = delete;
    disk& operator=(const disk&) = delete;
    virtual ~disk() = default;

    virtual std::uint64_t size() const noexcept = 0;
    virtual std::uint64_t cluster_size() const noexcept = 0;
    virtual bool has_backing_file() const noexcept = 0;
    /// The files of the chain, which the disk holds open. The image's own file is the first.
    virtual std::vector<gaur::io::file_identity> files() = 0;
    /// The path of a file of the chain, and whether it is raw. Layer 0 is the image itself.
    virtual const std::string& path(std::size_t layer) const noexcept = 0;
    virtual bool is_raw(std::size_t layer) const noexcept = 0;
    /// Whether a qcow2 file of the chain has clearly less space on the host than it has clusters in
    /// use, as preallocation=metadata leaves it.
    virtual gaur::async::task<bool> lacks_space(std::size_t layer) = 0;

    /// See gaur::device::image.
    virtual gaur::async::task<gaur::device::block_run> block_status(std::uint64_t at,
                                                                    std::uint64_t n) = 0;
    virtual gaur::async::task<void> read(std::uint64_t at, std::span<std::byte> to) = 0;
    /// Durable when it ends, if the image was opened with cache_mode::writes_through.
    virtual gaur::async::task<void> write(std::uint64_t at, std::span<const std::byte> from) = 0;
    virtual gaur::async::task<void> close() = 0;

    /// Runs the benchmark to its end and closes the image.
    virtual gaur::result<bench_figures> bench(const bench_options& how) = 0;
};

} // namespace gaur_img
