// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "cache_mode.hpp"
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
    cache_mode cache;
    bool references = true;            ///< open the backing files that the image names
    bool force_share = false;          ///< even if another process writes to it; for reading only
    bool create = false;               ///< raw: create it, or empty it
    std::uint64_t size = 0;            ///< with `create`
    std::vector<gaur::io::file_identity> kept; ///< with `create`: files that must not be emptied
    bool invalidate_bitmaps = false;   ///< qcow2, for writing: give up its persistent bitmaps
    std::string ordering = "join"; ///< or "serialize": what overlapping writes do
    unsigned max_depth = 64;           ///< files in the chain, at most
    std::string backing_format;        ///< of backing files whose image does not name it
    std::string* failed_path = nullptr; ///< set on failure: the file of the chain that failed
    std::string* failed_format = nullptr; ///< and its format, if gaur does not know it
};

constexpr gaur::io::locking locking_of(bool force_share) noexcept {
    return force_share ? gaur::io::locking::force_share : gaur::io::locking::on;
}

/// A backend and the executor that drives it, chosen when the program starts. The code behind this
/// interface is compiled once for each backend, in a file of its own (on_*.cpp).
class host {
  public:
    host() = default;
    host(const host&) = delete;
    host& operator=(const host&) = delete;
    virtual ~host() = default;

    virtual std::string_view backend() const noexcept = 0;
    virtual gaur::result<std::unique_ptr<disk>> open(const image_options& how) = 0;
    /// Creates a qcow2 image. errc::target_is_read if `path` is one of `kept`.
    virtual gaur::result<void> create(const std::string& path,
                                      const gaur::qcow2::layout::create_options& how,
                                      const std::vector<gaur::io::file_identity>& kept) = 0;
    virtual gaur::result<gaur::qcow2::check_report>
    check(const std::string& path, const gaur::qcow2::check_options& how) = 0;
    virtual gaur::result<gaur::qcow2::repair_report>
    repair(const std::string& path, const gaur::qcow2::repair_options& how) = 0;
    /// Up to `size` bytes of a file from `at` on; fewer if it ends before.
    virtual gaur::result<std::vector<std::byte>> read_file(const std::string& path,
                                                           std::uint64_t at, std::size_t size,
                                                           bool force_share) = 0;
    /// Runs the task to its end.
    virtual gaur::result<void> wait(gaur::async::task<void> task) = 0;
};

/// Operations of one backend at the host at once, approximately.
inline constexpr unsigned usual_depth = 64;

/// The host over the backend of that name: "uring", "posix_aio", "sync" or "threads". Without a
/// name: uring if the kernel allows it, else threads. Throws failure.
std::unique_ptr<host> make_host(const std::string& backend, unsigned depth = usual_depth);

/// Opens the image. If `how` names no format, it is recognised. Throws failure with `exit_code`.
std::unique_ptr<disk> open_disk(host& on, image_options how, int exit_code = 1);

/// The path to which a name in the image at `image` refers: see gaur::qcow2::full_name.
std::string beside(const std::string& image, const std::string& name);

/// The size of a file or of a block device, bytes. Throws failure.
std::uint64_t file_size(const std::string& path);

/// The files that reading the image at `path` would open, as far as they exist and their headers
/// can be read. The image's own file is the first. For a comparison only: no file is kept open or
/// locked. `format`: empty if unknown.
std::vector<gaur::io::file_identity> files_of_chain(host& on, std::string path,
                                                    std::string format);

} // namespace gaur_img
