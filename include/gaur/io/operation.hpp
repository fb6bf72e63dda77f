// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/error.hpp>

#include <boost/intrusive/slist_hook.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <sys/uio.h>

namespace gaur::io {

enum class opcode : std::uint8_t {
    read,     ///< from the file into the buffers
    write,    ///< from the buffers into the file
    flush,    ///< makes all writes that have ended durable (fdatasync)
    zero,     ///< the range reads as zeroes; space may stay allocated; the file keeps its size
    discard,  ///< as `zero`, and the space of the range is freed (punch hole)
    extend,   ///< allocates space for the range, grows the file at least to its end; keeps content
    truncate, ///< sets the file's size to `offset`
};

/// An I/O request: a plain value that the engine builds and a backend reads.
///
/// Has either one buffer (`data`, `size`), or a vector (`vectors`, `vector_count`) whose sizes add
/// up to `size`. The backend owns the vector while the operation is in flight, and may advance it.
struct request {
    opcode code = opcode::flush;
    std::uint32_t vector_count = 0;
    std::uint64_t offset = 0; ///< bytes from the file's start
    std::uint64_t size = 0;   ///< bytes
    std::byte* data = nullptr;
    iovec* vectors = nullptr;

    static request read(std::uint64_t offset, std::span<std::byte> to) noexcept {
        return {opcode::read, 0, offset, to.size(), to.data(), nullptr};
    }
    static request write(std::uint64_t offset, std::span<const std::byte> from) noexcept {
        // Backends write through `data` only for a read.
        return {opcode::write, 0, offset, from.size(), const_cast<std::byte*>(from.data()),
                nullptr};
    }
    static request read(std::uint64_t offset, std::span<iovec> to, std::uint64_t size) noexcept {
        return {opcode::read, static_cast<std::uint32_t>(to.size()), offset, size, nullptr,
                to.data()};
    }
    static request write(std::uint64_t offset, std::span<iovec> from, std::uint64_t size) noexcept {
        return {opcode::write, static_cast<std::uint32_t>(from.size()), offset, size, nullptr,
                from.data()};
    }
    static request flush() noexcept { return {}; }
    static request range(opcode code, std::uint64_t offset, std::uint64_t size) noexcept {
        return {code, 0, offset, size, nullptr, nullptr};
    }
    static request truncate(std::uint64_t size) noexcept {
        return range(opcode::truncate, size, 0);
    }

    bool moves_data() const noexcept { return code == opcode::read || code == opcode::write; }
};

/// An operation in flight, and its outcome. The caller owns it and keeps it in place until it has
/// ended. A backend's own `operation` derives from it and adds what the kernel needs (an aiocb, …).
///
/// The backend uses the hook while the operation is in flight (a queue, a backlog).
class operation : public boost::intrusive::slist_base_hook<> {
  public:
    using callback = void (*)(operation&) noexcept;

    explicit operation(callback on_complete) noexcept : on_complete_(on_complete) {}
    operation(const operation&) = delete;
    operation& operator=(const operation&) = delete;

    /// Valid once the operation has ended.
    result<void> status() const noexcept {
        if (outcome_ == 0) { return {}; }
        return error::from_errno(outcome_, asked_.offset);
    }

    // For backends.

    /// Copies the request. The backend may change `asked()` while it retries.
    void begin(const request& what) noexcept { asked_ = what; }
    request& asked() noexcept { return asked_; }
    /// Sets the outcome, an errno or 0. Runs no callback: for submit_status::done.
    void set_outcome(int host_errno) noexcept { outcome_ = host_errno; }
    /// Ends the operation with an errno, or 0. The callback may destroy the operation.
    void complete(int host_errno) noexcept {
        outcome_ = host_errno;
        on_complete_(*this);
    }
    /// For wrappers (fault, aligned): the outcome of an inner operation, to pass it on.
    int outcome() const noexcept { return outcome_; }

  private:
    callback on_complete_;
    int outcome_ = 0;
    request asked_;
};

} // namespace gaur::io
