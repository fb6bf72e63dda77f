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

/// QEMU's permissions on a file. Permission n is bit n of a set. A lock on byte 100 + n of the file
/// says that a holder uses it, a lock on byte 200 + n that a holder excludes it.
namespace permission {

using set = std::uint8_t;
inline constexpr set consistent_read = 1 << 0; ///< reads that rely on consistent content
inline constexpr set write = 1 << 1;
inline constexpr set write_unchanged = 1 << 2; ///< writes that do not change the content
inline constexpr set resize = 1 << 3;
inline constexpr unsigned count = 4;

} // namespace permission

/// What the holder of an open file does with it, and what every other holder must not do meanwhile.
/// Excludes QEMU and other processes that follow the same convention, and other open files of this
/// process. Advisory: it does not stop a program that takes no lock.
///
///                | reader | writer | forced reader
///     reader     | shares | no     | shares
///     writer     | no     | no     | shares
struct file_lock {
    permission::set uses = 0;
    permission::set excludes = 0;

    bool is_empty() const noexcept { return uses == 0 && excludes == 0; }

    /// As QEMU's lock for a qcow2 file that it reads.
    static constexpr file_lock reader() noexcept {
        return {permission::consistent_read, permission::write | permission::resize};
    }
    /// As QEMU's lock for a qcow2 file that is a guest's disk.
    static constexpr file_lock writer() noexcept {
        return {permission::consistent_read | permission::write | permission::resize,
                permission::write | permission::resize};
    }
    /// Reads beside a writer: what it reads may be inconsistent.
    static constexpr file_lock forced_reader() noexcept {
        return {permission::consistent_read, 0};
    }
    friend bool operator==(const file_lock&, const file_lock&) = default;
};

/// How an image locks its files.
enum class locking : std::uint8_t {
    /// Readers share with readers, a writer is alone. On a file system without such locks (some
    /// network file systems) nothing is locked, as with QEMU's locking=auto.
    on,
    force_share, ///< for reading only: also beside a writer, as qemu-img -U
    off,         ///< takes no lock and checks none
};

/// The lock for a file that is opened in this way. Error: errc::share_needs_read_only, for
/// force_share with `write`.
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

/// Whether `wanted` is compatible with what all other holders use and exclude. The error names the
/// conflict: errc::held_for_writing, held_for_reading, readers_excluded, writers_excluded.
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

// Offsets in the file. Only the locks on these bytes matter, not their content.
inline constexpr off_t uses_byte = 100;
inline constexpr off_t excludes_byte = 200;

/// fcntl(2) for `count` bytes from `byte` on: 0, or its errno. Locks belong to the open file
/// description, not to the process: two open files of one process exclude each other too, and
/// closing another descriptor of the file releases none.
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

/// Whether an errno of call_lock means that the host or the file system has no such locks.
constexpr bool has_no_locks(int host_errno) noexcept {
    return host_errno == EINVAL || host_errno == ENOLCK || host_errno == ENOSYS ||
           host_errno == EOPNOTSUPP;
}

/// The permissions in `asked` whose byte another open file has locked.
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

/// Takes shared locks on the bytes of `set`: 0 or an errno.
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

/// check_lock against what other open files hold now.
inline result<void> check_others(int fd, file_lock wanted) noexcept {
    const auto uses = locked_by_others(fd, uses_byte, wanted.excludes);
    if (!uses) { return uses.error(); }
    const auto excludes = locked_by_others(fd, excludes_byte, wanted.uses);
    if (!excludes) { return excludes.error(); }
    return check_lock(wanted, {*uses, *excludes});
}

} // namespace detail

/// Takes the lock for an open file of the host. The descriptor must be open for reading. Takes
/// nothing, and succeeds, if the file system has no locks. After an error a part of the lock may be
/// held: the caller drops it. Errors: those of check_lock, and the host's.
///
/// Locks its own bytes first and then checks the other holders, as QEMU does: of two conflicting
/// opens at the same time both may fail, but never both succeed.
inline result<void> take_lock(int fd, file_lock wanted) noexcept {
    using namespace detail;
    if (wanted.is_empty()) { return {}; }
    int failed = lock_bytes(fd, uses_byte, wanted.uses);
    if (failed == 0) { failed = lock_bytes(fd, excludes_byte, wanted.excludes); }
    if (has_no_locks(failed)) { return {}; }
    // EAGAIN, EACCES: a byte has an exclusive lock (StratoVirt takes these). Checked below as well.
    if (failed != 0 && failed != EAGAIN && failed != EACCES) { return error::from_errno(failed); }
    const result<void> fits = check_others(fd, wanted);
    if (fits && failed != 0) { return errc::readers_excluded; }
    return fits;
}

/// Drops the lock of take_lock at once. After close(2) alone a lock stays until the kernel, or a
/// child of fork(2), has released the file as well.
inline void drop_lock(int fd) noexcept {
    struct flock said;
    detail::call_lock(fd, F_OFD_SETLK, F_UNLCK, detail::uses_byte,
                      detail::excludes_byte - detail::uses_byte + permission::count, said);
}

/// How long an open waits for a lock that is held, by default. A process that exits with I/O in
/// flight keeps its locks until the kernel has ended that I/O: about 40 ms with io_uring.
inline constexpr std::chrono::milliseconds usual_lock_wait{200};

/// As take_lock above, but retries for up to `patience` while the lock is held. Blocks the thread:
/// sleeps for 1 to 2 ms at first, and for 16 to 32 ms later. After an error a part of the lock may
/// be held: the caller drops it.
inline result<void> take_lock(int fd, file_lock wanted,
                              std::chrono::milliseconds patience) noexcept {
    using clock = std::chrono::steady_clock;
    using std::chrono::microseconds;
    result<void> taken = take_lock(fd, wanted);
    if (taken || taken.error().is_host() || patience.count() <= 0) { return taken; }
    const clock::time_point end = clock::now() + patience;
    for (microseconds pause{1000};; pause = std::min(2 * pause, microseconds{16'000})) {
        // Hold no locked bytes while waiting: they would make other opens fail, QEMU's included.
        drop_lock(fd);
        const clock::time_point now = clock::now();
        if (now >= end) { return taken; }
        // Random jitter, so that two waiters do not collide each time.
        const microseconds more{now.time_since_epoch().count() / 7 % pause.count()};
        std::this_thread::sleep_for(std::min<clock::duration>(pause + more, end - now));
        taken = detail::check_others(fd, wanted);
        if (taken) { taken = take_lock(fd, wanted); }
        if (taken || taken.error().is_host()) { return taken; }
    }
}

/// The same rules between the open files of one backend, for a file that is not a host file.
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

/// A lock in a table, dropped by the destructor. A member of a backend's file.
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
