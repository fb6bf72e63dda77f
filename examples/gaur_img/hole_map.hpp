// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/error.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <fcntl.h>
#include <string>
#include <unistd.h>
#include <utility>

namespace gaur_img {

/// Where a raw file has holes, which read as zeroes and need not be read.
class hole_map {
  public:
    static gaur::result<hole_map> open(const std::string& path) {
        const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
        if (fd < 0) { return gaur::error::from_errno(errno); }
        return hole_map(fd);
    }
    hole_map(hole_map&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    hole_map& operator=(hole_map&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    ~hole_map() {
        if (fd_ >= 0) { ::close(fd_); }
    }

    struct run {
        bool hole;
        std::uint64_t size;
    };
    /// What begins at `at`, up to `n` bytes. A file system that does not know has no holes.
    run at(std::uint64_t at, std::uint64_t n) const noexcept {
        const off_t here = static_cast<off_t>(at);
        const off_t data = ::lseek(fd_, here, SEEK_DATA);
        if (data < 0) { return {errno == ENXIO, n}; } // ENXIO: no data up to the file's end
        if (data > here) { return {true, std::min(n, static_cast<std::uint64_t>(data - here))}; }
        const off_t hole = ::lseek(fd_, here, SEEK_HOLE);
        return {false, hole > here ? std::min(n, static_cast<std::uint64_t>(hole - here)) : n};
    }

  private:
    explicit hole_map(int fd) noexcept : fd_(fd) {}
    int fd_;
};

} // namespace gaur_img
