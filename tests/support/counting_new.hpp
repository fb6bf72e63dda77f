// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <malloc.h>
#include <new>

/// Counts each call of operator new in a program that includes this header, and the bytes that are
/// allocated. Refuses memory if a test asks for that. The replacements are weak, so that several
/// sources of one program may include the header.
///
///     const allocations_in_scope news;
///     …
///     EXPECT_EQ(news.count(), 0U);
namespace gaur::test {

inline std::atomic<std::uint64_t> allocation_count = 0; ///< by all threads, since the program began

/// Number of allocations since this object was made.
class allocations_in_scope {
  public:
    std::uint64_t count() const noexcept {
        return allocation_count.load(std::memory_order_relaxed) - before_;
    }

  private:
    std::uint64_t before_ = allocation_count.load(std::memory_order_relaxed);
};

inline std::atomic<std::size_t> allocated_bytes = 0; ///< now, as malloc counts them
inline std::atomic<std::size_t> most_allocated = 0;  ///< since the last `peak_in_scope` was made

/// The peak of allocated memory since this object was made, less what was allocated then.
class peak_in_scope {
  public:
    peak_in_scope() noexcept { most_allocated = before_; }
    std::size_t bytes() const noexcept { return most_allocated - before_; }

  private:
    std::size_t before_ = allocated_bytes;
};

inline std::atomic<bool> allocations_refused = false;

/// While it lives, every allocation fails.
class no_memory_in_scope {
  public:
    no_memory_in_scope() noexcept { allocations_refused.store(true, std::memory_order_relaxed); }
    no_memory_in_scope(const no_memory_in_scope&) = delete;
    no_memory_in_scope& operator=(const no_memory_in_scope&) = delete;
    ~no_memory_in_scope() { allocations_refused.store(false, std::memory_order_relaxed); }
};

inline std::atomic<std::uint64_t> refused_allocation = 0; ///< a value of allocation_count; 0: none

/// While it lives, the `nth` allocation since its construction fails; the first is 1.
class nth_allocation_refused {
  public:
    explicit nth_allocation_refused(std::uint64_t nth) noexcept
        : refused_(allocation_count.load(std::memory_order_relaxed) + nth) {
        refused_allocation.store(refused_, std::memory_order_relaxed);
    }
    nth_allocation_refused(const nth_allocation_refused&) = delete;
    nth_allocation_refused& operator=(const nth_allocation_refused&) = delete;
    ~nth_allocation_refused() { refused_allocation.store(0, std::memory_order_relaxed); }

    bool was_refused() const noexcept {
        return allocation_count.load(std::memory_order_relaxed) >= refused_;
    }

  private:
    std::uint64_t refused_;
};

inline void* counted_allocation(std::size_t size, std::size_t alignment) noexcept {
    const std::uint64_t number = allocation_count.fetch_add(1, std::memory_order_relaxed) + 1;
    if (allocations_refused.load(std::memory_order_relaxed)) { return nullptr; }
    if (number == refused_allocation.load(std::memory_order_relaxed)) { return nullptr; }
    // aligned_alloc requires a multiple of the alignment.
    void* const memory =
        alignment <= alignof(std::max_align_t)
            ? std::malloc(size == 0 ? 1 : size)
            : std::aligned_alloc(alignment, (size + alignment) & ~(alignment - 1));
    const std::size_t now = allocated_bytes += ::malloc_usable_size(memory);
    for (std::size_t most = most_allocated;
         most < now && !most_allocated.compare_exchange_weak(most, now);) {}
    return memory;
}

inline void counted_free(void* memory) noexcept {
    allocated_bytes -= ::malloc_usable_size(memory);
    std::free(memory);
}

inline void* counted_allocation_or_throw(std::size_t size, std::size_t alignment) {
    void* const memory = counted_allocation(size, alignment);
    if (memory == nullptr) { throw std::bad_alloc(); }
    return memory;
}

} // namespace gaur::test

// All of them: our `new` with a sanitizer's `delete` would be a mismatch.
[[gnu::weak]] void* operator new(std::size_t size) {
    return gaur::test::counted_allocation_or_throw(size, 1);
}
[[gnu::weak]] void* operator new[](std::size_t size) {
    return gaur::test::counted_allocation_or_throw(size, 1);
}
[[gnu::weak]] void* operator new(std::size_t size, std::align_val_t alignment) {
    return gaur::test::counted_allocation_or_throw(size, static_cast<std::size_t>(alignment));
}
[[gnu::weak]] void* operator new[](std::size_t size, std::align_val_t alignment) {
    return gaur::test::counted_allocation_or_throw(size, static_cast<std::size_t>(alignment));
}
[[gnu::weak]] void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
    return gaur::test::counted_allocation(size, 1);
}
[[gnu::weak]] void* operator new[](std::size_t size, const std::nothrow_t&) noexcept {
    return gaur::test::counted_allocation(size, 1);
}
[[gnu::weak]] void* operator new(std::size_t size, std::align_val_t alignment,
                                 const std::nothrow_t&) noexcept {
    return gaur::test::counted_allocation(size, static_cast<std::size_t>(alignment));
}
[[gnu::weak]] void* operator new[](std::size_t size, std::align_val_t alignment,
                                   const std::nothrow_t&) noexcept {
    return gaur::test::counted_allocation(size, static_cast<std::size_t>(alignment));
}
[[gnu::weak]] void operator delete(void* memory) noexcept {
    gaur::test::counted_free(memory);
}
[[gnu::weak]] void operator delete[](void* memory) noexcept {
    gaur::test::counted_free(memory);
}
[[gnu::weak]] void operator delete(void* memory, std::size_t) noexcept {
    gaur::test::counted_free(memory);
}
[[gnu::weak]] void operator delete[](void* memory, std::size_t) noexcept {
    gaur::test::counted_free(memory);
}
[[gnu::weak]] void operator delete(void* memory, std::align_val_t) noexcept {
    gaur::test::counted_free(memory);
}
[[gnu::weak]] void operator delete[](void* memory, std::align_val_t) noexcept {
    gaur::test::counted_free(memory);
}
[[gnu::weak]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
    gaur::test::counted_free(memory);
}
[[gnu::weak]] void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept {
    gaur::test::counted_free(memory);
}
[[gnu::weak]] void operator delete(void* memory, const std::nothrow_t&) noexcept {
    gaur::test::counted_free(memory);
}
[[gnu::weak]] void operator delete[](void* memory, const std::nothrow_t&) noexcept {
    gaur::test::counted_free(memory);
}
[[gnu::weak]] void operator delete(void* memory, std::align_val_t,
                                   const std::nothrow_t&) noexcept {
    gaur::test::counted_free(memory);
}
[[gnu::weak]] void operator delete[](void* memory, std::align_val_t,
                                     const std::nothrow_t&) noexcept {
    gaur::test::counted_free(memory);
}
