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

/// What the host file asks of every request, and what it can do.
struct limits {
    std::uint32_t memory_alignment = 1; ///< of buffer addresses, bytes
    std::uint32_t offset_alignment = 1; ///< of offsets and sizes, bytes; a power of two
    std::uint32_t max_vectors = 1024;   ///< buffers in one request
    /// A block device: it can be neither cut nor grown, and holds what was written to it before.
    /// `truncate` and `extend` within its size change nothing; what lies beyond ends with ENOSPC.
    bool fixed_size = false;
};

struct open_mode {
    bool write = false;    ///< otherwise for reading only
    bool create = false;   ///< make the file where there is none
    bool truncate = false; ///< cut an existing file to nothing; a block device stays as it is
    bool direct = false;   ///< past the host's page cache (O_DIRECT)
    file_lock lock = {};   ///< held as long as the file is open; none: does not ask
    /// While another process holds the file, open() tries again for so long, and blocks its thread.
    std::chrono::milliseconds lock_wait = usual_lock_wait;
};

/// Tells files apart, whatever path led to them. A block device is known by its own number, not by
/// the node that was opened: inode ~0 and the device's number.
struct file_identity {
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    friend bool operator==(const file_identity&, const file_identity&) = default;
};

/// Bytes of a file, from some offset on, that are stored alike.
struct file_run {
    bool is_hole = false;   ///< reads as zeroes, without space on the host
    std::uint64_t size = 0; ///< bytes, at least 1
};

/// A file that knows its holes. Optional: every byte of a file that does not is data.
///
///   holes   run_at(offset) gives the whole run that begins at `offset`. A hole reads as zeroes and
///           has no space; past the end of the file there is one that ends at 2^63 - 1. Data may
///           read as zeroes too. An operation that has ended is seen, one in flight may be. At most
///           a system call or two in the caller's thread; nothing changes. `offset` < 2^63 - 1
template <class F>
concept ReportsHoles = requires(const F& file, std::uint64_t offset) {
    { file.run_at(offset) } noexcept -> std::same_as<file_run>;
};

enum class submit_status : std::uint8_t {
    done,    ///< the outcome is in the operation already; its callback will not run
    pending, ///< the callback will run, once, from a later poll() or wait()
};

/// A queue to the host that opens files. One image, its backing files and its data file share one.
///
/// Syntax is checked below. The rest is the contract; tests/support/backend_conformance.hpp has one
/// test for each line, under the same name, and every model passes them all.
///
///   once          every operation ends exactly once: by `done`, or by one callback
///   not_in_submit no callback runs inside submit()
///   reentrant     a callback may submit, and may destroy its own operation
///   borrowed      the operation, its buffers and its vector belong to the backend from submit()
///                 until it ends
///   whole         an outcome is the full size or an error; the backend retries short transfers
///                 and EINTR
///   never_full    submit() always takes the operation; what exceeds the queue's depth waits inside
///                 the backend, in the order in which it came, and costs it no memory
///   past_end      a read past the end of the file gives zeroes; a write past it grows the file
///   flushed       after a flush that succeeded, writes that ended before it began survive a crash
///   idle          poll() and wait() with nothing in flight return 0 at once
///   progress      wait() returns when at least one operation has ended; what was submitted reaches
///                 the host at the latest in the next poll() or wait()
///   unordered     operations in flight together may end in any order
///   refused       what host or file cannot do ends with EOPNOTSUPP; a misaligned request with
///                 EINVAL
///   locked        open() takes the mode's lock before it truncates, or fails as check_lock says,
///                 for a file of the host not before `lock_wait` is over. The file holds it until
///                 it is gone, whatever operations it had. It holds off every process where the
///                 file is the host's, else other files of this backend. Where the host has no
///                 locks the file opens without
///   one_thread    all calls come from one thread at a time
///   drained       the destructor waits for what is in flight and calls back, also for what the
///                 callbacks submit. A file may be destroyed by the callback of its last operation
///
/// A file outlives its operations, a backend its files.
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

/// A backend that can live in somebody else's event loop: when `descriptor()` is readable, poll()
/// has something to do. Call poll() once more after submitting, for *progress*.
template <class B>
concept PollableBackend = IoBackend<B> && requires(const B& cio) {
    { cio.descriptor() } noexcept -> std::same_as<int>;
};

/// Waits until nothing is in flight: the body of a backend's destructor (*drained*).
template <class B>
void drain(B& io) noexcept {
    while (io.in_flight() != 0) { io.wait(); }
}

/// Says in words which part of IoBackend a type lacks. Put `static_assert(check_backend<B>())`
/// under a backend of your own: the first failing line below is the thing to add.
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
