// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "options.hpp"

#include "support/host.hpp"
#include "support/qemu_bench.hpp"
#include "support/scratch.hpp"

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

    /// A raw disk and a qcow2 image of that size, written full from end to end in large pieces: few
    /// extents, and everything allocated. Made when first asked for.
    const std::string& full_raw(std::uint64_t size);
    const std::string& full_qcow2(std::uint64_t size);

  private:
    void fill(kind k, const std::string& path, std::uint64_t size);

    const options& how_;
    std::unique_ptr<host> io_;
    scratch files_;
    bool direct_ = false;
    bool has_qemu_ = false;
    std::string full_raw_;
    std::string full_qcow2_;
};

} // namespace gaur::bench
