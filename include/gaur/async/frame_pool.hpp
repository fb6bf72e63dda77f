// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/contract.hpp>

#include <array>
#include <cstddef>
#include <new>
#include <utility>

namespace gaur::async {

/// Recycles coroutine frames, in size classes of 64 bytes. A request that has run once costs no
/// heap allocation when it runs again. Each shard has one pool, so it needs no lock. Frames larger
/// than 4032 bytes (with their header) come from the heap, and so do frames of coroutines whose
/// first argument lends no pool.
class frame_pool {
  public:
    frame_pool() = default;
    frame_pool(const frame_pool&) = delete;
    frame_pool& operator=(const frame_pool&) = delete;
    ~frame_pool() {
        GAUR_ASSERT(lent_ == 0);
        for (node*& head : free_) {
            while (head != nullptr) { ::operator delete(std::exchange(head, head->next)); }
        }
    }

    /// Memory for a frame of `size` bytes; null if there is none. If `pool` is null the memory
    /// comes from the heap.
    static void* take(frame_pool* pool, std::size_t size) noexcept {
        const std::size_t whole = size + header_size;
        void* memory = pool != nullptr ? pool->take(whole) : ::operator new(whole, std::nothrow);
        if (memory == nullptr) { return nullptr; }
        ::new (memory) header{pool};
        return static_cast<std::byte*>(memory) + header_size;
    }

    static void put(void* frame, std::size_t size) noexcept {
        void* memory = static_cast<std::byte*>(frame) - header_size;
        frame_pool* pool = static_cast<header*>(memory)->pool;
        if (pool != nullptr) {
            pool->put_back(memory, size + header_size);
        } else {
            ::operator delete(memory);
        }
    }

  private:
    struct header {
        frame_pool* pool;
    };
    struct node {
        node* next;
    };
    static constexpr std::size_t header_size = __STDCPP_DEFAULT_NEW_ALIGNMENT__;
    static constexpr std::size_t step = 64;
    static constexpr std::size_t classes = 64;
    static_assert(sizeof(header) <= header_size);

    static std::size_t size_class(std::size_t size) noexcept { return (size + step - 1) / step; }

    void* take(std::size_t size) noexcept {
        const std::size_t c = size_class(size);
        if (c < classes && free_[c] != nullptr) {
            ++lent_;
            return std::exchange(free_[c], free_[c]->next);
        }
        void* memory = ::operator new(c * step, std::nothrow);
        if (memory != nullptr) { ++lent_; }
        return memory;
    }

    void put_back(void* memory, std::size_t size) noexcept {
        --lent_;
        const std::size_t c = size_class(size);
        if (c < classes) {
            free_[c] = ::new (memory) node{free_[c]};
        } else {
            ::operator delete(memory);
        }
    }

    std::array<node*, classes> free_{};
    std::size_t lent_ = 0;
};

} // namespace gaur::async
