// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/error.hpp>
#include <gaur/io/backend.hpp>
#include <gaur/io/file_lock.hpp>

#include <cerrno>
#include <cstdint>
#include <fcntl.h>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#ifdef __linux__
#include <linux/fs.h>
#include <linux/stat.h>
#endif

namespace gaur::io {

/// An open descriptor of the host, closed by its destructor: what the file types of the backends
/// that speak to the kernel are made of.
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
        // A directory opens for reading and fails only at the first read: say so now.
        if (S_ISDIR(status.st_mode)) { return error::from_errno(EISDIR); }
        file.identity_ = {status.st_dev, status.st_ino};
        file.locked_ = !mode.lock.is_empty();
        const result<void> locked = take_lock(fd, mode.lock, mode.lock_wait);
        if (!locked) { return locked.error(); }
        // Not by O_TRUNC: what somebody else holds stays as it is.
        if (mode.truncate && S_ISREG(status.st_mode) && ::ftruncate(fd, 0) != 0) {
            return error::from_errno(errno);
        }
        if (mode.direct) { file.limits_ = direct_limits(fd); }
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

    /// Of a block device too. Not by fstat(2): whoever asks Linux 6.13 or later for a file's times
    /// makes its next write change the inode, and a write with a flush took half as long again.
    result<std::uint64_t> size() const noexcept {
        const off_t end = ::lseek(fd_, 0, SEEK_END);
        if (end < 0) { return error::from_errno(errno); }
        return static_cast<std::uint64_t>(end);
    }

  private:
    explicit host_file(int fd) noexcept : fd_(fd) {}

    /// What O_DIRECT asks here. Kernels before 6.1 do not say: then 4096, which every host takes.
    static io::limits direct_limits(int fd) noexcept {
        io::limits found{4096, 4096, 1024};
#ifdef STATX_DIOALIGN
        struct statx status {};
        if (::statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) == 0 &&
            (status.stx_mask & STATX_DIOALIGN) != 0 && status.stx_dio_offset_align != 0) {
            found.memory_alignment = status.stx_dio_mem_align;
            found.offset_alignment = status.stx_dio_offset_align;
        }
#endif
        return found;
    }

    int fd_;
    io::limits limits_;
    file_identity identity_;
    bool locked_ = false;
};

} // namespace gaur::io
