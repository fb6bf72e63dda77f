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

/// What to do about the other files that an image names. A name in an image is data that whoever
/// wrote the image chose: it is never followed unless the program says so, and no file's format is
/// ever guessed from its content.
enum class references : std::uint8_t {
    refuse, ///< an image that has a backing file does not open
    follow, ///< open them, for reading only, relative to the folder of the image that names them
    ignore, ///< open the image alone, to look at its metadata; what it lacks reads as zeroes
};

/// A file that an image names.
struct reference {
    std::string image;  ///< path of the image that names it
    std::string name;   ///< as it stands in the image
    std::string path;   ///< where that leads: see full_name
    std::string format; ///< "qcow2", "raw", …; empty where nobody says it: refused later
};

namespace detail {

/// A file of the host, found but not opened: it stays the same one, whatever happens to the names
/// that led to it.
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

    /// Where it is, in the kernel's words: no link and no `..` is left in it.
    const std::string& true_path() const noexcept { return true_path_; }
    /// A path that leads to this file and no other one, as long as it is pinned.
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
    std::string path;      ///< the names in it begin in the folder of this
    std::string opens;     ///< what the backend is to open, while the admission lives
    detail::pinned_file pinned = {};
};

/// Decides which other files an image may make us open. By default: none. Whatever the policy, they
/// are opened for reading only, and names that hold a NUL are refused.
///
///     qcow2::open(io, executor, "vm.qcow2", {.references =
///     qcow2::reference_policy::within("/images")})
class reference_policy {
  public:
    reference_policy(references policy = references::refuse) noexcept
        : kind_(policy == references::refuse   ? kind::refuse
                : policy == references::follow ? kind::follow
                                               : kind::ignore) {}

    /// Regular files of the host anywhere below the folder: neither `..` nor symbolic links lead
    /// out of it. What is checked is the file that is then opened, not its name, so that nobody can
    /// exchange it in between. A hard link in the folder is in the folder. Needs /proc: without it
    /// nothing is admitted.
    static reference_policy within(std::string folder) {
        reference_policy made(kind::within);
        made.paths_.push_back(std::move(folder));
        return made;
    }
    /// These files, and they are opened under the names given here: an image can only choose among
    /// them. Names are compared as text, absolute, without `.` and `..`; no link is looked at.
    static reference_policy listed(std::vector<std::string> paths) {
        reference_policy made(kind::listed);
        made.paths_ = std::move(paths);
        return made;
    }
    /// Those for which the program says true. It is asked once for each file, the nearest first,
    /// in the thread that opens, and may neither throw nor use the image that is being opened.
    static reference_policy asking(std::function<bool(const reference&)> allows) {
        reference_policy made(kind::ask);
        made.allows_ = std::move(allows);
        return made;
    }

    bool ignores() const noexcept { return kind_ == kind::ignore; }

    /// Errors: errc::reference_refused, errc::protocol_not_supported, and the host's where it has
    /// to look.
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
        std::error_code no_folder; // then relative paths stay so, on both sides
        const std::filesystem::path absolute = std::filesystem::absolute(path, no_folder);
        return (no_folder ? std::filesystem::path(path) : absolute).lexically_normal();
    }

    kind kind_;
    std::vector<std::string> paths_;
    std::function<bool(const reference&)> allows_;
};

} // namespace gaur::qcow2
