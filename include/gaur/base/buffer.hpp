// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/contract.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <utility>

namespace gaur {

class buffer_pool;

/// Memory for I/O, aligned to `buffer_pool::alignment`. The destructor returns it to its pool,
/// which must outlive it. Empty if the allocation failed: check `has_value()` before use.
class buffer {
  public:
    buffer() noexcept = default;
    buffer(buffer&& other) noexcept
        : pool_(std::exchange(other.pool_, nullptr)), data_(std::exchange(other.data_, nullptr)),
          size_(std::exchange(other.size_, 0)) {}
    buffer& operator=(buffer&& other) noexcept {
        if (this != &other) {
            give_back();
            pool_ = std::exchange(other.pool_, nullptr);
            data_ = std::exchange(other.data_, nullptr);
            size_ = std::exchange(other.size_, 0);
        }
        return *this;
    }
    ~buffer() { give_back(); }

    bool has_value() const noexcept { return data_ != nullptr; }
    std::byte* data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }
    std::span<std::byte> bytes() const noexcept { return {data_, size_}; }

  private:
    friend class buffer_pool;
    buffer(buffer_pool& pool, std::byte* data, std::size_t size) noexcept
        : pool_(&pool), data_(data), size_(size) {}
    inline void give_back() noexcept;

    buffer_pool* pool_ = nullptr;
    std::byte* data_ = nullptr;
    std::size_t size_ = 0;
};

/// Recycles aligned memory in size classes of powers of two, so that a request that has run once
/// allocates nothing when it runs again. Has no lock: one pool per shard. Keeps at most
/// `kept_bytes` of free memory; a buffer that would exceed this is freed.
class buffer_pool {
  public:
    /// Bytes. A page, and enough for O_DIRECT on every host seen.
    static constexpr std::size_t alignment = 4096;

    explicit buffer_pool(std::size_t kept_bytes = std::size_t{16} << 20) noexcept
        : kept_limit_(kept_bytes) {}
    buffer_pool(const buffer_pool&) = delete;
    buffer_pool& operator=(const buffer_pool&) = delete;
    ~buffer_pool() {
        GAUR_ASSERT(lent_ == 0);
        for (node*& head : free_) {
            while (head != nullptr) { release(std::exchange(head, head->next)); }
        }
    }

    /// A buffer of `size` bytes with unspecified content. Empty if the allocation fails.
    buffer take(std::size_t size) noexcept {
        const unsigned c = size_class(size);
        std::byte* data = nullptr;
        if (node* head = free_[c]; head != nullptr) {
            free_[c] = head->next;
            kept_ -= class_bytes(c);
            data = reinterpret_cast<std::byte*>(head);
        } else {
            data = static_cast<std::byte*>(
                ::operator new(class_bytes(c), std::align_val_t{alignment}, std::nothrow));
        }
        if (data == nullptr) { return {}; }
        ++lent_;
        return {*this, data, size};
    }

  private:
    friend class buffer;
    struct node {
        node* next;
    };

    static unsigned size_class(std::size_t size) noexcept {
        return static_cast<unsigned>(std::bit_width(size < 512 ? 511 : size - 1)) - 9U;
    }
    static std::size_t class_bytes(unsigned c) noexcept { return std::size_t{512} << c; }
    static void release(void* data) noexcept {
        ::operator delete(data, std::align_val_t{alignment});
    }

    void put(std::byte* data, std::size_t size) noexcept {
        const unsigned c = size_class(size);
        --lent_;
        if (kept_ + class_bytes(c) > kept_limit_) {
            release(data);
            return;
        }
        kept_ += class_bytes(c);
        free_[c] = ::new (static_cast<void*>(data)) node{free_[c]};
    }

    std::array<node*, 56> free_{};
    std::size_t kept_ = 0;
    std::size_t kept_limit_;
    std::size_t lent_ = 0;
};

inline void buffer::give_back() noexcept {
    if (data_ != nullptr) { pool_->put(std::exchange(data_, nullptr), size_); }
}

} // namespace gaur
