// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/error.hpp>
#include <gaur/qcow2/file_name.hpp>

#include <cerrno>
#include <cstdint>
#include <fcntl.h>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>
#include <vector>

namespace gaur::qcow2 {

/// What to do about the other files that an image names. A name in an image is untrusted: the
/// writer of the image chose it. It is never followed unless the program allows that, and the
/// format of a file is never probed.
enum class references : std::uint8_t {
    refuse, ///< an image that has a backing file does not open
    follow, ///< open them, for reading only, relative to the folder of the image that names them
    ignore, ///< open the image alone, to inspect its metadata; unallocated clusters read as zeroes
};

/// A file that an image names.
struct reference {
    std::string image;  ///< path of the image that names it
    std::string name;   ///< as stored in the image
    std::string path;   ///< the path that the name means: see full_name
    std::string format; ///< "qcow2", "raw", …; empty if not specified: refused later
};

namespace detail {

/// A file of the host that is held by an O_PATH descriptor but not opened for I/O. It stays the
/// same file, even if its names change.
class pinned_file {
  public:
    static result<pinned_file> find(const std::string& path, int flags = 0) {
        const int fd = ::open(path.c_str(), O_PATH | O_CLOEXEC | flags);
        if (fd < 0) { return error::from_errno(errno); }
        pinned_file found(fd);
        std::string target(4096, '\0');
        const ssize_t size = ::readlink(found.handle().c_str(), target.data(), target.size());
        if (size < 0) { return error::from_errno(errno); }
        target.resize(static_cast<std::size_t>(size));
        found.true_path_ = std::move(target);
        return found;
    }
    pinned_file() noexcept = default;
    pinned_file(pinned_file&& other) noexcept
        : fd_(std::exchange(other.fd_, -1)), true_path_(std::move(other.true_path_)) {}
    pinned_file& operator=(pinned_file&& other) noexcept {
        std::swap(fd_, other.fd_);
        std::swap(true_path_, other.true_path_);
        return *this;
    }
    ~pinned_file() {
        if (fd_ >= 0) { ::close(fd_); }
    }

    /// Its path as the kernel gives it: without symbolic links and `..`.
    const std::string& true_path() const noexcept { return true_path_; }
    /// A path that opens this file and no other, as long as this object lives.
    std::string handle() const { return "/proc/self/fd/" + std::to_string(fd_); }
    bool is_regular() const noexcept {
        struct stat status {};
        return ::fstat(fd_, &status) == 0 && S_ISREG(status.st_mode);
    }
    bool is_inside(const pinned_file& folder) const {
        std::string start = folder.true_path_;
        if (!start.ends_with('/')) { start += '/'; }
        return true_path_.starts_with(start);
    }

  private:
    explicit pinned_file(int fd) noexcept : fd_(fd) {}
    int fd_ = -1;
    std::string true_path_;
};

} // namespace detail

/// A file that may be opened.
struct admission {
    std::string path;      ///< relative names in the file begin in the folder of this path
    std::string opens;     ///< the path that the backend opens; valid while the admission lives
    detail::pinned_file pinned = {};
};

/// Decides which other files an image may cause to be opened. Default: none. Under every policy
/// they are opened for reading only, and a name that holds a NUL is refused.
///
///     qcow2::open(io, executor, "vm.qcow2",
///                 {.references = qcow2::reference_policy::within("/images")})
class reference_policy {
  public:
    reference_policy(references policy = references::refuse) noexcept
        : kind_(policy == references::refuse   ? kind::refuse
                : policy == references::follow ? kind::follow
                                               : kind::ignore) {}

    /// Allows regular files of the host anywhere below the folder: neither `..` nor symbolic links
    /// lead out of it. The check applies to the file that is then opened, not to its name, so the
    /// file cannot be exchanged in between. A hard link in the folder is in the folder. Needs
    /// /proc: without it nothing is admitted.
    static reference_policy within(std::string folder) {
        reference_policy made(kind::within);
        made.paths_.push_back(std::move(folder));
        return made;
    }
    /// Allows these files, and opens them under the names given here: an image can only choose
    /// among them. Names are compared as text, as absolute paths without `.` and `..`; symbolic
    /// links are not resolved.
    static reference_policy listed(std::vector<std::string> paths) {
        reference_policy made(kind::listed);
        made.paths_ = std::move(paths);
        return made;
    }
    /// Allows the files for which `allows` returns true. It is called once for each file, the
    /// nearest first, in the thread that opens. It must not throw, and must not use the image that
    /// is being opened.
    static reference_policy asking(std::function<bool(const reference&)> allows) {
        reference_policy made(kind::ask);
        made.allows_ = std::move(allows);
        return made;
    }

    bool ignores() const noexcept { return kind_ == kind::ignore; }

    /// Errors: errc::reference_refused, errc::protocol_not_supported; the host's if the policy is
    /// `within`.
    result<admission> admit(const reference& named) const {
        if (named.path.find('\0') != std::string::npos) { return errc::reference_refused; }
        const bool opens_some = kind_ != kind::refuse && kind_ != kind::ignore;
        if (opens_some && !local_path(named.name)) { return errc::protocol_not_supported; }
        switch (kind_) {
        case kind::refuse:
        case kind::ignore: break;
        case kind::follow: return admission{named.path, named.path};
        case kind::within: return admit_within(paths_.front(), named.path);
        case kind::listed:
            for (const std::string& path : paths_) {
                if (plain(path) == plain(named.path)) { return admission{path, path}; }
            }
            break;
        case kind::ask:
            if (allows_(named)) { return admission{named.path, named.path}; }
            break;
        }
        return errc::reference_refused;
    }

  private:
    enum class kind : std::uint8_t { refuse, follow, ignore, within, listed, ask };

    explicit reference_policy(kind how) noexcept : kind_(how) {}

    static result<admission> admit_within(const std::string& folder, const std::string& path) {
        result<detail::pinned_file> all = detail::pinned_file::find(folder, O_DIRECTORY);
        if (!all) { return all.error(); }
        result<detail::pinned_file> file = detail::pinned_file::find(path);
        if (!file) { return file.error(); }
        if (!file->is_inside(*all) || !file->is_regular()) { return errc::reference_refused; }
        std::string found = file->true_path();
        std::string handle = file->handle();
        return admission{std::move(found), std::move(handle), *std::move(file)};
    }

    static std::filesystem::path plain(const std::string& path) {
        std::error_code no_folder; // then relative paths stay relative, on both sides
        const std::filesystem::path absolute = std::filesystem::absolute(path, no_folder);
        return (no_folder ? std::filesystem::path(path) : absolute).lexically_normal();
    }

    kind kind_;
    std::vector<std::string> paths_;
    std::function<bool(const reference&)> allows_;
};

} // namespace gaur::qcow2
