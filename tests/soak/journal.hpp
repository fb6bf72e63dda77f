// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <string_view>

namespace gaur::test::soak {

/// What a client did. The journal keeps the order.
struct event {
    enum class kind : std::uint8_t {
        none,    ///< the process died while it was written
        write,   ///< is about to be submitted
        written, ///< has succeeded
        flush,   ///< is about to be submitted
        flushed, ///< has succeeded; `id` is the index of its `flush`
        settled, ///< the first sectors are mapped durably: writes there change no table
    };
    std::uint32_t id = 0;
    std::uint32_t first = 0; ///< sector
    std::uint32_t count = 0;
    kind what = kind::none;
};

/// Written by the process that is killed, read by the process that killed it. It lies in memory
/// that both share, so it survives the writer. Made before the fork, in the parent.
class journal {
  public:
    static constexpr std::size_t room = std::size_t{1} << 17;

    journal() {
        void* const memory = ::mmap(nullptr, sizeof(shared), PROT_READ | PROT_WRITE,
                                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) { std::abort(); }
        shared_ = new (memory) shared;
    }
    journal(const journal&) = delete;
    journal& operator=(const journal&) = delete;
    ~journal() { ::munmap(shared_, sizeof(shared)); }

    void clear() noexcept {
        std::fill_n(shared_->events, size(), event{});
        shared_->size = 0;
        shared_->wrong[0] = '\0';
    }

    // For the writer.

    bool is_full() const noexcept { return size() + 1000 >= room; }
    /// Returns the event's index.
    std::uint32_t add(event told) noexcept {
        const std::uint32_t at = shared_->size.load(std::memory_order_relaxed);
        shared_->events[at] = told;
        shared_->size.store(at + 1, std::memory_order_release);
        return at;
    }
    void fail(std::string_view why) noexcept {
        if (shared_->wrong[0] != '\0') { return; }
        const std::size_t n = std::min(why.size(), sizeof(shared_->wrong) - 1);
        std::memcpy(shared_->wrong, why.data(), n);
        shared_->wrong[n] = '\0';
    }

    // For the reader.

    std::uint32_t size() const noexcept { return shared_->size.load(std::memory_order_acquire); }
    const event& operator[](std::size_t i) const noexcept { return shared_->events[i]; }
    /// The error that the writer found itself.
    std::string wrong() const { return shared_->wrong; }

  private:
    struct shared {
        std::atomic<std::uint32_t> size = 0;
        char wrong[500] = {};
        event events[room];
    };
    shared* shared_;
};

} // namespace gaur::test::soak
