// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/error.hpp>
#include <gaur/io/backend.hpp>
#include <gaur/io/file_lock.hpp>

#include <cerrno>
#include <cstdint>
#include <fcntl.h>
#include <limits>
#include <string>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#ifdef __linux__
#include <linux/fs.h>
#include <linux/stat.h>
#endif

namespace gaur::io {

/// The identity of the file that `status` describes, as host_file::identity gives it.
inline file_identity identity_of(const struct stat& status) noexcept {
    if (S_ISBLK(status.st_mode)) { return {status.st_rdev, ~std::uint64_t{0}}; }
    return {status.st_dev, status.st_ino};
}

/// An open descriptor of the host. The destructor drops its lock and closes it. The file types of
/// the backends that use the kernel are built on it.
class host_file {
  public:
    static result<host_file> open(const std::string& path, open_mode mode) {
        int flags = O_CLOEXEC | (mode.write ? O_RDWR : O_RDONLY);
        if (mode.create) { flags |= O_CREAT; }
        if (mode.direct) { flags |= O_DIRECT; }
        int fd = -1;
        do { fd = ::open(path.c_str(), flags, 0644); } while (fd < 0 && errno == EINTR);
        if (fd < 0) { return error::from_errno(errno); }
        host_file file(fd);
        struct stat status {};
        if (::fstat(fd, &status) != 0) { return error::from_errno(errno); }
        // A directory can be opened for reading, and fails only at the first read: fail now.
        if (S_ISDIR(status.st_mode)) { return error::from_errno(EISDIR); }
        file.limits_.fixed_size = S_ISBLK(status.st_mode);
        file.identity_ = identity_of(status);
        file.locked_ = !mode.lock.is_empty();
        const result<void> locked = take_lock(fd, mode.lock, mode.lock_wait);
        if (!locked) { return locked.error(); }
        // Not by O_TRUNC: that would truncate before the lock is taken.
        if (mode.truncate && S_ISREG(status.st_mode)) {
            int failed = 0;
            do { failed = ::ftruncate(fd, 0); } while (failed != 0 && errno == EINTR);
            if (failed != 0) { return error::from_errno(errno); }
        }
        if (mode.direct) { file.ask_direct_limits(); }
        return file;
    }

    host_file(host_file&& other) noexcept
        : fd_(std::exchange(other.fd_, -1)), limits_(other.limits_), identity_(other.identity_),
          locked_(other.locked_) {}
    host_file& operator=(host_file&& other) noexcept {
        std::swap(fd_, other.fd_);
        std::swap(limits_, other.limits_);
        std::swap(identity_, other.identity_);
        std::swap(locked_, other.locked_);
        return *this;
    }
    ~host_file() {
        if (fd_ < 0) { return; }
        if (locked_) { drop_lock(fd_); }
        ::close(fd_);
    }

    int fd() const noexcept { return fd_; }
    io::limits limits() const noexcept { return limits_; }
    file_identity identity() const noexcept { return identity_; }

    /// Bytes. Not by fstat(2): on Linux 6.13 or later a query of a file's times makes its next
    /// write change the inode, and a write with a flush took 1.5 times as long.
    result<std::uint64_t> size() const noexcept {
#ifdef BLKGETSIZE64
        if (limits_.fixed_size) {
            std::uint64_t bytes = 0;
            if (::ioctl(fd_, BLKGETSIZE64, &bytes) != 0) { return error::from_errno(errno); }
            return bytes;
        }
#endif
        const off_t end = ::lseek(fd_, 0, SEEK_END);
        if (end < 0) { return error::from_errno(errno); }
        return static_cast<std::uint64_t>(end);
    }

    /// The run that begins at `offset`; see ReportsHoles. Uses lseek(2): no other code depends on
    /// the file position. A file system that does not track holes reports none.
    file_run run_at(std::uint64_t offset) const noexcept {
        constexpr std::uint64_t last = std::numeric_limits<std::int64_t>::max();
        const auto here = static_cast<off_t>(offset);
        const off_t data = ::lseek(fd_, here, SEEK_DATA);
        // ENXIO: no data from here to the end of the file, or past it.
        if (data < 0) { return {errno == ENXIO, last - offset}; }
        if (data > here) { return {true, static_cast<std::uint64_t>(data - here)}; }
        const off_t hole = ::lseek(fd_, here, SEEK_HOLE);
        return {false, hole > here ? static_cast<std::uint64_t>(hole - here) : last - offset};
    }

  private:
    explicit host_file(int fd) noexcept : fd_(fd) {}

    /// The alignment that O_DIRECT requires for this file. Kernels before 6.1 do not report it:
    /// then 4096, which every host accepts.
    void ask_direct_limits() noexcept {
        limits_.memory_alignment = 4096;
        limits_.offset_alignment = 4096;
#ifdef STATX_DIOALIGN
        struct statx status {};
        if (::statx(fd_, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) == 0 &&
            (status.stx_mask & STATX_DIOALIGN) != 0 && status.stx_dio_offset_align != 0) {
            limits_.memory_alignment = status.stx_dio_mem_align;
            limits_.offset_alignment = status.stx_dio_offset_align;
        }
#endif
    }

    int fd_;
    io::limits limits_;
    file_identity identity_;
    bool locked_ = false;
};

} // namespace gaur::io
