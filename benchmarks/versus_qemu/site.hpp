// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "options.hpp"

#include "support/host.hpp"
#include "support/qemu_bench.hpp"
#include "support/scratch.hpp"

#include <array>
#include <cstdint>
#include <memory>
#include <string>

namespace gaur::bench {

/// Where the work is done: a backend, a folder on its file system, and QEMU if it is installed.
class site {
  public:
    explicit site(const options& how);

    const options& how() const noexcept { return how_; }
    host& io() noexcept { return *io_; }
    bool direct() const noexcept { return direct_; }
    bool has_qemu() const noexcept { return has_qemu_; }

    /// A new name; `suffix` says what it is for.
    std::string add(const std::string& suffix) { return files_.add(suffix); }
    image fresh(kind k, std::uint64_t size);
    image existing(kind k, const std::string& path) const;
    qemu_image for_qemu(const std::string& path, const std::string& format) const;
    /// An empty disk created by qemu-img, to which `qemu-img bench` writes.
    qemu_image fresh_for_qemu(const std::string& format, std::uint64_t size,
                              const std::string& raw_backing = "");

    /// A raw disk and a qcow2 image, written full sequentially in large pieces: few extents, and
    /// everything allocated.
    struct full_disks {
        std::string raw;
        std::string qcow2;
    };
    /// Created when first asked for. Odd rounds of a work use another pair. The place of a file on
    /// the device may matter more than its content, so raw is created first in one pair, and qcow2
    /// in the other.
    const full_disks& full(std::uint64_t size, unsigned round = 0);

  private:
    void fill(kind k, const std::string& path, std::uint64_t size);

    const options& how_;
    std::unique_ptr<host> io_;
    scratch files_;
    bool direct_ = false;
    bool has_qemu_ = false;
    std::array<full_disks, 2> full_;
};

} // namespace gaur::bench
