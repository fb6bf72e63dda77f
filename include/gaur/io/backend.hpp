// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/io/file_lock.hpp>
#include <gaur/io/operation.hpp>

#include <chrono>
#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>

namespace gaur::io {

/// What the host file requires of every request, and what it can do.
struct limits {
    std::uint32_t memory_alignment = 1; ///< of buffer addresses, bytes
    std::uint32_t offset_alignment = 1; ///< of offsets and sizes, bytes; a power of two
    std::uint32_t max_vectors = 1024;   ///< buffers in one request
    /// A block device: it can neither shrink nor grow, and keeps its former content. `truncate`
    /// and `extend` within its size change nothing; a request beyond its size ends with ENOSPC.
    bool fixed_size = false;
};

struct open_mode {
    bool write = false;    ///< false: for reading only
    bool create = false;   ///< create the file if it does not exist
    bool truncate = false; ///< cut an existing file to 0 bytes; not a block device
    bool direct = false;   ///< bypass the host's page cache (O_DIRECT)
    file_lock lock = {};   ///< held while the file is open; empty: takes no lock
    /// How long open() retries while another process holds the file. Blocks the calling thread.
    std::chrono::milliseconds lock_wait = usual_lock_wait;
};

/// Identifies a file independently of its path. A block device is identified by its own number, not
/// by the node that was opened: inode ~0 and the number of the device.
struct file_identity {
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    friend bool operator==(const file_identity&, const file_identity&) = default;
};

/// Contiguous bytes of a file that are stored alike, from a given offset on.
struct file_run {
    bool is_hole = false;   ///< reads as zeroes, without space on the host
    std::uint64_t size = 0; ///< bytes, at least 1
};

/// A file that reports its holes. Optional: in a file that does not, every byte is data.
///
///   holes   run_at(offset) gives the whole run that begins at `offset`. A hole reads as zeroes and
///           takes no space; past the end of the file there is one that ends at 2^63 - 1. Data may
///           read as zeroes too. An operation that has ended is seen, one in flight may be. At most
///           two system calls in the caller's thread; nothing changes. `offset` < 2^63 - 1
template <class F>
concept ReportsHoles = requires(const F& file, std::uint64_t offset) {
    { file.run_at(offset) } noexcept -> std::same_as<file_run>;
};

enum class submit_status : std::uint8_t {
    done,    ///< the operation already holds its outcome; its callback does not run
    pending, ///< the callback runs once, from a later poll() or wait()
};

/// A queue of operations at the host, which also opens files. An image, its backing files and its
/// data file share one.
///
/// The concept checks the syntax. The lines below are the contract.
/// tests/support/backend_conformance.hpp has one test for each line, under the same name, and every
/// backend passes them all.
///
///   once          every operation ends exactly once: by `done`, or by one callback
///   not_in_submit no callback runs inside submit()
///   reentrant     a callback may submit, and may destroy its own operation
///   borrowed      the operation, its buffers and its vector belong to the backend from submit()
///                 until it ends
///   whole         the outcome is success for the full size, or an error; the backend retries
///                 short transfers and EINTR
///   never_full    submit() always accepts the operation; operations beyond the queue's depth wait
///                 inside the backend, in order of arrival, and need no memory there
///   past_end      a read past the end of the file gives zeroes; a write past it grows the file
///   flushed       after a flush succeeds, writes that ended before it began survive a crash
///   idle          poll() and wait() with nothing in flight return 0 at once
///   progress      wait() returns when at least one operation has ended; a submitted operation
///                 reaches the host at the latest in the next poll() or wait()
///   unordered     operations in flight together may end in any order
///   refused       a request that the host or the file does not support ends with EOPNOTSUPP, a
///                 misaligned one with EINVAL
///   locked        open() takes the lock of the mode before it truncates, or fails with an error of
///                 check_lock; for a host file only after `lock_wait`. The file holds the lock
///                 until it is destroyed, whatever operations it had. The lock of a host file
///                 excludes every process, that of another file excludes other files of this
///                 backend. If the host has no locks, the file opens without one
///   one_thread    all calls come from one thread at a time
///   drained       the destructor waits for all operations in flight and runs their callbacks,
///                 including operations that the callbacks submit. The callback of the last
///                 operation on a file may destroy the file
///
/// A file outlives its operations, a backend outlives its files.
template <class B>
concept IoBackend =
    std::destructible<B> && std::derived_from<typename B::operation, operation> &&
    std::constructible_from<typename B::operation, operation::callback> &&
    std::movable<typename B::file> &&
    requires(B& io, const B& cio, typename B::file& file, const typename B::file& cfile,
             typename B::operation& op, const request& what, const std::string& path,
             open_mode mode) {
        { B::name } -> std::convertible_to<std::string_view>;
        { io.open(path, mode) } -> std::same_as<result<typename B::file>>;
        { cfile.limits() } noexcept -> std::same_as<limits>;
        { cfile.size() } noexcept -> std::same_as<result<std::uint64_t>>;
        { cfile.identity() } noexcept -> std::same_as<file_identity>;
        { io.submit(file, op, what) } noexcept -> std::same_as<submit_status>;
        { io.poll() } noexcept -> std::same_as<unsigned>;
        { io.wait() } noexcept -> std::same_as<unsigned>;
        { cio.in_flight() } noexcept -> std::same_as<unsigned>;
    };

/// A backend that can be driven by an external event loop: if `descriptor()` is readable, poll()
/// has something to do. After a submit() call poll() once, for *progress*.
template <class B>
concept PollableBackend = IoBackend<B> && requires(const B& cio) {
    { cio.descriptor() } noexcept -> std::same_as<int>;
};

/// Waits until nothing is in flight: the body of a backend's destructor (*drained*).
template <class B>
void drain(B& io) noexcept {
    while (io.in_flight() != 0) { io.wait(); }
}

/// Reports in words which part of IoBackend a type lacks. Put `static_assert(check_backend<B>())`
/// below a backend of your own: the first assertion that fails names the part to add.
template <class B>
consteval bool check_backend() {
    static_assert(requires { { B::name } -> std::convertible_to<std::string_view>; },
                  "a backend needs `static constexpr std::string_view name`");
    static_assert(requires { typename B::operation; },
                  "a backend needs a nested type `operation`, derived from io::operation");
    static_assert(requires { typename B::file; },
                  "a backend needs a nested type `file`, which open() gives");
    if constexpr (requires { typename B::operation; typename B::file; }) {
        static_assert(std::derived_from<typename B::operation, operation>,
                      "`operation` must derive publicly from io::operation");
        static_assert(std::constructible_from<typename B::operation, operation::callback>,
                      "`operation` must be constructible from an io::operation::callback");
        static_assert(std::movable<typename B::file>, "`file` must be movable");
        static_assert(
            requires(const typename B::file& f) {
                { f.limits() } noexcept -> std::same_as<limits>;
                { f.size() } noexcept -> std::same_as<result<std::uint64_t>>;
                { f.identity() } noexcept -> std::same_as<file_identity>;
            },
            "`file` needs `limits limits() const noexcept`, `result<std::uint64_t> size() const "
            "noexcept` and `file_identity identity() const noexcept`");
        static_assert(
            requires(B& io, const std::string& path, open_mode mode) {
                { io.open(path, mode) } -> std::same_as<result<typename B::file>>;
            },
            "a backend needs `result<file> open(const std::string&, open_mode)`");
        static_assert(
            requires(B& io, typename B::file& f, typename B::operation& op, const request& what) {
                { io.submit(f, op, what) } noexcept -> std::same_as<submit_status>;
            },
            "a backend needs `submit_status submit(file&, operation&, const request&) noexcept`");
    }
    static_assert(
        requires(B& io, const B& cio) {
            { io.poll() } noexcept -> std::same_as<unsigned>;
            { io.wait() } noexcept -> std::same_as<unsigned>;
            { cio.in_flight() } noexcept -> std::same_as<unsigned>;
        },
        "a backend needs `unsigned poll() noexcept`, `unsigned wait() noexcept` and `unsigned "
        "in_flight() const noexcept`");
    return IoBackend<B>;
}

} // namespace gaur::io
