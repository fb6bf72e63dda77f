// SPDX-License-Identifier: BSL-1.0
#include "unfinished_target.hpp"

#include <gaur/io/host_file.hpp>

#include <array>
#include <cstdlib>
#include <fcntl.h>
#include <unistd.h>
#include <utility>

namespace gaur_img {

namespace {

std::optional<struct stat> look_at(const std::string& path) noexcept {
    struct stat found {};
    if (::stat(path.c_str(), &found) != 0) { return {}; }
    return found;
}

/// The first bytes of a regular file; fewer if it is shorter, none if it cannot be read.
std::string first_bytes(const std::string& path) {
    std::string bytes(512, '\0');
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    const ssize_t read = fd >= 0 ? ::pread(fd, bytes.data(), bytes.size(), 0) : -1;
    if (fd >= 0) { ::close(fd); }
    bytes.resize(read > 0 ? static_cast<std::size_t>(read) : 0);
    return bytes;
}

/// Removes the file, not a symbolic link that leads to it.
bool remove_file(const std::string& path) noexcept {
    char* const real = ::realpath(path.c_str(), nullptr);
    const bool done = real != nullptr && ::unlink(real) == 0;
    std::free(real);
    return done;
}

bool wipe_start(const std::string& path) noexcept {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (fd < 0) { return false; }
    constexpr std::array<char, 4096> zeroes{};
    const bool done =
        ::pwrite(fd, zeroes.data(), zeroes.size(), 0) == static_cast<ssize_t>(zeroes.size()) &&
        ::fdatasync(fd) == 0;
    ::close(fd);
    return done;
}

} // namespace

unfinished_target::unfinished_target(std::string path)
    : path_(std::move(path)), before_(look_at(path_)) {
    if (before_ && S_ISREG(before_->st_mode)) { start_before_ = first_bytes(path_); }
}

void unfinished_target::give_up() noexcept {
    removed_ = removed_ || (!before_ && remove_file(path_));
}

std::string unfinished_target::discard() const {
    const std::string it = "\n'" + path_ + "' ";
    if (removed_) { return it + "was removed"; }
    const std::optional<struct stat> now = look_at(path_);
    if (!now) { return ""; }
    if (!before_) {
        return remove_file(path_) ? it + "was removed"
                                  : it + "is incomplete, and could not be removed";
    }
    // The file has been replaced since: the new one is not ours to change.
    if (!(gaur::io::identity_of(*before_) == gaur::io::identity_of(*now))) { return ""; }
    if (S_ISBLK(now->st_mode)) {
        if (!made_) { return ""; } // as before, or its header was wiped by what failed
        return wipe_start(path_) ? it + "no longer begins with a header"
                                 : it + "is incomplete, and its header could not be wiped";
    }
    if (!S_ISREG(now->st_mode)) { return ""; }
    if (!made_ && before_->st_size == now->st_size && first_bytes(path_) == start_before_) {
        return "";
    }
    return ::truncate(path_.c_str(), 0) == 0 ? it + "is empty: what was in it is gone"
                                             : it + "is incomplete";
}

} // namespace gaur_img
