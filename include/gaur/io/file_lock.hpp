// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/contract.hpp>
#include <gaur/base/error.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <fcntl.h>
#include <memory>
#include <thread>
#include <unistd.h>
#include <utility>

namespace gaur::io {

/// What somebody may do with a file: QEMU's permissions. Permission n is bit n, and the bytes 100 +
/// n and 200 + n of the file stand for it.
namespace permission {

using set = std::uint8_t;
inline constexpr set consistent_read = 1 << 0; ///< and nobody changes what is read meanwhile
inline constexpr set write = 1 << 1;
inline constexpr set write_unchanged = 1 << 2; ///< only what is there already
inline constexpr set resize = 1 << 3;
inline constexpr unsigned count = 4;

} // namespace permission

/// What the holder of an open file does with it, and what nobody else may do meanwhile. It excludes
/// QEMU and other processes that keep to the same convention, and other open files of this process;
/// nothing stops a program that asks for no lock.
///
///            one | reader | writer | forced reader
///     reader     | shares | no     | shares
///     writer     | no     | no     | shares
struct file_lock {
    permission::set uses = 0;
    permission::set excludes = 0;

    bool is_empty() const noexcept { return uses == 0 && excludes == 0; }

    /// As QEMU's for a qcow2 file that it reads, or that is a guest's disk.
    static constexpr file_lock reader() noexcept {
        return {permission::consistent_read, permission::write | permission::resize};
    }
    static constexpr file_lock writer() noexcept {
        return {permission::consistent_read | permission::write | permission::resize,
                permission::write | permission::resize};
    }
    /// Reads what somebody else may be writing: what it reads may not fit together.
    static constexpr file_lock forced_reader() noexcept {
        return {permission::consistent_read, 0};
    }
    friend bool operator==(const file_lock&, const file_lock&) = default;
};

/// How an image locks its files.
enum class locking : std::uint8_t {
    /// Readers share with readers, a writer is alone. On a file system that has no such locks
    /// (some network file systems) nothing is locked, as with QEMU's locking=auto.
    on,
    force_share, ///< for reading only: beside a writer too, as qemu-img -U
    off,         ///< neither asks nor holds off
};

/// The lock for a file that is opened in this way. Error: errc::share_needs_read_only.
inline result<file_lock> lock_for(locking how, bool write) noexcept {
    switch (how) {
    case locking::on: break;
    case locking::off: return file_lock{};
    case locking::force_share:
        if (write) { return errc::share_needs_read_only; }
        return file_lock::forced_reader();
    }
    return write ? file_lock::writer() : file_lock::reader();
}

/// Whether `wanted` goes together with what all others do and exclude. Says who is in the way:
/// errc::held_for_writing, held_for_reading, readers_excluded, writers_excluded.
inline result<void> check_lock(file_lock wanted, file_lock others) noexcept {
    const auto has_reader = [](unsigned set) { return (set & permission::consistent_read) != 0; };
    if (const unsigned used = wanted.excludes & others.uses; used != 0) {
        const bool only_reads = has_reader(used) && std::has_single_bit(used);
        return only_reads ? errc::held_for_reading : errc::held_for_writing;
    }
    if (const unsigned refused = wanted.uses & others.excludes; refused != 0) {
        return has_reader(refused) ? errc::readers_excluded : errc::writers_excluded;
    }
    return {};
}

namespace detail {

// Bytes of the file that nobody reads or writes through them: only their locks mean something.
inline constexpr off_t uses_byte = 100;
inline constexpr off_t excludes_byte = 200;

/// fcntl(2) for one byte: 0, or its errno. Locks of the open file description, not of the process:
/// those of one process exclude each other too, and closing some other descriptor frees none.
inline int call_lock(int fd, int command, short type, off_t byte, off_t count,
                     struct flock& said) noexcept {
    said = {};
    said.l_type = type;
    said.l_whence = SEEK_SET;
    said.l_start = byte;
    said.l_len = count;
    int failed = 0;
    do { failed = ::fcntl(fd, command, &said); } while (failed != 0 && errno == EINTR);
    return failed != 0 ? errno : 0;
}

/// Whether an errno of call_lock says that there are no such locks here.
constexpr bool has_no_locks(int host_errno) noexcept {
    return host_errno == EINVAL || host_errno == ENOLCK || host_errno == ENOSYS ||
           host_errno == EOPNOTSUPP;
}

/// Of the permissions `asked`, those whose byte somebody else has locked.
inline result<permission::set> locked_by_others(int fd, off_t first,
                                                permission::set asked) noexcept {
    unsigned found = 0;
    for (unsigned n = 0; n < permission::count; ++n) {
        if ((asked >> n & 1) == 0) { continue; }
        struct flock said;
        const int failed = call_lock(fd, F_OFD_GETLK, F_WRLCK, first + n, 1, said);
        if (failed != 0) { return error::from_errno(failed); }
        if (said.l_type != F_UNLCK) { found |= 1U << n; }
    }
    return static_cast<permission::set>(found);
}

/// Shared locks on the bytes of `set`: 0 or an errno.
inline int lock_bytes(int fd, off_t first, permission::set set) noexcept {
    for (unsigned n = 0; n < permission::count; ++n) {
        if ((set >> n & 1) == 0) { continue; }
        struct flock said;
        const int failed = call_lock(fd, F_OFD_SETLK, F_RDLCK, first + n, 1, said);
        if (failed != 0) { return failed; }
    }
    return 0;
}

} // namespace detail

namespace detail {

/// check_lock against what others hold of the file now.
inline result<void> check_others(int fd, file_lock wanted) noexcept {
    const auto uses = locked_by_others(fd, uses_byte, wanted.excludes);
    if (!uses) { return uses.error(); }
    const auto excludes = locked_by_others(fd, excludes_byte, wanted.uses);
    if (!excludes) { return excludes.error(); }
    return check_lock(wanted, {*uses, *excludes});
}

} // namespace detail

/// Takes the lock for an open file of the host, whose descriptor is open for reading; nothing where
/// its file system has no locks. Where it fails, a part of it may be held: drop it. Errors: those
/// of check_lock, and the host's.
///
/// First mark, then look, as QEMU does: of two that come at once both may fail, never both succeed.
inline result<void> take_lock(int fd, file_lock wanted) noexcept {
    using namespace detail;
    if (wanted.is_empty()) { return {}; }
    int failed = lock_bytes(fd, uses_byte, wanted.uses);
    if (failed == 0) { failed = lock_bytes(fd, excludes_byte, wanted.excludes); }
    if (has_no_locks(failed)) { return {}; }
    // A byte that somebody has locked for himself alone (StratoVirt does) is found below as well.
    if (failed != 0 && failed != EAGAIN && failed != EACCES) { return error::from_errno(failed); }
    const result<void> fits = check_others(fd, wanted);
    if (fits && failed != 0) { return errc::readers_excluded; }
    return fits;
}

/// Gives back what take_lock took, at once: after close(2) a lock stays until the kernel, or a
/// child of fork(2), is done with the file as well.
inline void drop_lock(int fd) noexcept {
    struct flock said;
    detail::call_lock(fd, F_OFD_SETLK, F_UNLCK, detail::uses_byte,
                      detail::excludes_byte - detail::uses_byte + permission::count, said);
}

/// How long an open waits for a lock that is held, unless it is told otherwise. A process that ends
/// with I/O in flight keeps its locks until the kernel has ended that: over io_uring some 40 ms.
inline constexpr std::chrono::milliseconds usual_lock_wait{200};

/// The same, and tries again for up to `patience` while the lock is held. Blocks the thread: sleeps
/// of 1 ms at first, of 16 to 32 ms later. Where it fails, a part of the lock may be held: drop it.
inline result<void> take_lock(int fd, file_lock wanted,
                              std::chrono::milliseconds patience) noexcept {
    using clock = std::chrono::steady_clock;
    using std::chrono::microseconds;
    result<void> taken = take_lock(fd, wanted);
    if (taken || taken.error().is_host() || patience.count() <= 0) { return taken; }
    const clock::time_point end = clock::now() + patience;
    for (microseconds pause{1000};; pause = std::min(2 * pause, microseconds{16'000})) {
        // Marks of one that only waits would have others fail, QEMU among them.
        drop_lock(fd);
        const clock::time_point now = clock::now();
        if (now >= end) { return taken; }
        // At random a little longer, so that two who wait do not meet each time.
        const microseconds more{now.time_since_epoch().count() / 7 % pause.count()};
        std::this_thread::sleep_for(std::min<clock::duration>(pause + more, end - now));
        taken = detail::check_others(fd, wanted);
        if (taken) { taken = take_lock(fd, wanted); }
        if (taken || taken.error().is_host()) { return taken; }
    }
}

/// The same between the open files of one backend, for a file that is not the host's.
class lock_table {
  public:
    result<void> take(file_lock wanted) noexcept {
        const result<void> fits = check_lock(wanted, {set_of(users_), set_of(excluders_)});
        if (fits) { count(wanted, 1); }
        return fits;
    }
    void drop(file_lock held) noexcept { count(held, -1); }

  private:
    using counters = std::array<int, permission::count>;

    static permission::set set_of(const counters& of) noexcept {
        unsigned set = 0;
        for (unsigned n = 0; n < of.size(); ++n) { set |= of[n] != 0 ? 1U << n : 0U; }
        return static_cast<permission::set>(set);
    }
    void count(file_lock what, int by) noexcept {
        for (unsigned n = 0; n < permission::count; ++n) {
            if ((what.uses >> n & 1) != 0) { users_[n] += by; }
            if ((what.excludes >> n & 1) != 0) { excluders_[n] += by; }
            GAUR_ASSERT(users_[n] >= 0 && excluders_[n] >= 0);
        }
    }

    counters users_{};
    counters excluders_{};
};

/// A lock in a table, dropped by the destructor: a member of a backend's file.
class held_lock {
  public:
    static result<held_lock> take(std::shared_ptr<lock_table> from, file_lock wanted) noexcept {
        const result<void> taken = from->take(wanted);
        if (!taken) { return taken.error(); }
        return held_lock(std::move(from), wanted);
    }
    held_lock(held_lock&&) noexcept = default;
    held_lock& operator=(held_lock&& other) noexcept {
        std::swap(table_, other.table_);
        std::swap(what_, other.what_);
        return *this;
    }
    ~held_lock() {
        if (table_ != nullptr) { table_->drop(what_); }
    }

  private:
    held_lock(std::shared_ptr<lock_table>&& table, file_lock what) noexcept
        : table_(std::move(table)), what_(what) {}
    std::shared_ptr<lock_table> table_;
    file_lock what_;
};

} // namespace gaur::io
