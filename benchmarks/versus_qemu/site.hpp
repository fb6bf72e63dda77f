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

/// Where the work is done: a backend, a folder on its file system, and QEMU where there is one.
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
    /// An empty disk made by qemu-img, to which `qemu-img bench` will write.
    qemu_image fresh_for_qemu(const std::string& format, std::uint64_t size,
                              const std::string& raw_backing = "");

    /// A raw disk and a qcow2 image, written full from end to end in large pieces: few extents, and
    /// everything allocated.
    struct full_disks {
        std::string raw;
        std::string qcow2;
    };
    /// Made when first asked for; for every other round of a work, others. Where a file came to lie
    /// on the device may matter more than what is in it, so of the one pair raw is made first, and
    /// of the other qcow2.
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
