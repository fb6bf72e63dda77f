// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "disk.hpp"

#include <gaur/qcow2/check_report.hpp>
#include <gaur/qcow2/repair.hpp>
#include <gaur/qcow2/layout/new_image.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace gaur_img {

/// How to open an image.
struct image_options {
    std::string path;
    std::string format;  ///< "qcow2" or "raw"
    bool write = false;
    bool direct = false; ///< past the host's page cache
    bool references = true;            ///< open the backing files that the image names
    bool force_share = false;          ///< even while somebody writes to it; for reading only
    bool create = false;               ///< raw: make it, or cut it to nothing
    std::uint64_t size = 0;            ///< with `create`
    bool invalidate_bitmaps = false;   ///< qcow2, to write: give up its persistent bitmaps
    std::string ordering = "join"; ///< or "serialize": what a write does that meets another
    std::string* failed_path = nullptr; ///< where it fails: the file of the chain that did
};

constexpr gaur::io::locking locking_of(bool force_share) noexcept {
    return force_share ? gaur::io::locking::force_share : gaur::io::locking::on;
}

/// A backend and the executor that drives it, chosen when the program starts. Everything behind it
/// is compiled once for each backend, in a file of its own (on_*.cpp).
class host {
  public:
    host() = default;
    host(const host&) = delete;
    host& operator=(const host&) = delete;
    virtual ~host() = default;

    virtual std::string_view backend() const noexcept = 0;
    virtual gaur::result<std::unique_ptr<disk>> open(const image_options& how) = 0;
    virtual gaur::result<void> create(const std::string& path,
                                      const gaur::qcow2::layout::create_options& how) = 0;
    virtual gaur::result<gaur::qcow2::check_report>
    check(const std::string& path, const gaur::qcow2::check_options& how) = 0;
    virtual gaur::result<gaur::qcow2::repair_report>
    repair(const std::string& path, const gaur::qcow2::repair_options& how) = 0;
    /// Up to `size` bytes of a file; fewer where it ends before.
    virtual gaur::result<std::vector<std::byte>> read_file(const std::string& path,
                                                           std::uint64_t at, std::size_t size,
                                                           bool force_share) = 0;
    /// Runs the task to its end.
    virtual gaur::result<void> wait(gaur::async::task<void> task) = 0;
};

/// Operations of one backend at the host at once, more or less.
inline constexpr unsigned usual_depth = 64;

/// The host over the backend of that name, "uring", "posix_aio", "sync" or "threads"; without a
/// name uring where the kernel allows it, else threads. Throws failure.
std::unique_ptr<host> make_host(const std::string& backend, unsigned depth = usual_depth);

/// The image opened, its format looked at where `how` names none. Throws failure with `exit_code`.
std::unique_ptr<disk> open_disk(host& on, image_options how, int exit_code = 1);

/// Whether a cache mode of qemu-img goes past the host's page cache. Throws failure where it is
/// none, or one that gaur does not have.
bool is_direct(const std::string& cache_mode, const std::string& what);

/// The path of the file that the image at `image` names: relative names begin in its folder.
std::string beside(const std::string& image, const std::string& name);

/// The format of the file, from its first bytes. For images that a person has named only: what an
/// image names is never guessed. Throws failure with `exit_code`.
std::string format_of(host& on, const std::string& path, bool force_share, int exit_code = 1);

} // namespace gaur_img
