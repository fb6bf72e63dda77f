// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/contract.hpp>
#include <gaur/base/units.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace gaur::io {

/// The content of a sparse file in memory: 1 TiB with one byte at its end needs about 600 KiB.
///
/// A value. A copy shares its chunks until one of the two is written, so a simulator can keep
/// thousands of states of one disk. Bytes past the end are zero, and stay zero when the file grows.
/// Space is counted in pages of 4 KiB, as in a file system: written pages are allocated, and so are
/// pages from `allocate` (which need no memory until they are written).
class sparse_bytes {
  public:
    static constexpr std::uint64_t page_size = 4096;
    static constexpr std::uint64_t chunk_size = 65536;
    /// Largest size of a file, bytes: 16 TiB, as on ext4.
    static constexpr std::uint64_t max_size = std::uint64_t{1} << 44;

    sparse_bytes() = default;
    explicit sparse_bytes(std::span<const std::byte> bytes) {
        write(0, bytes.data(), bytes.size());
    }
    sparse_bytes(const sparse_bytes& other) : size_(other.size_), pages_(other.pages_) {
        leaves_.reserve(other.leaves_.size());
        for (const auto& l : other.leaves_) {
            leaves_.push_back(l == nullptr ? nullptr : std::make_unique<leaf>(*l));
        }
    }
    sparse_bytes(sparse_bytes&& other) noexcept
        : leaves_(std::move(other.leaves_)), size_(std::exchange(other.size_, 0)),
          pages_(std::exchange(other.pages_, 0)) {}
    sparse_bytes& operator=(sparse_bytes other) noexcept {
        leaves_.swap(other.leaves_);
        std::swap(size_, other.size_);
        std::swap(pages_, other.pages_);
        return *this;
    }
    ~sparse_bytes() = default;

    std::uint64_t size() const noexcept { return size_; }
    /// Bytes of host space that the file would use.
    std::uint64_t allocated() const noexcept { return pages_ * page_size; }

    /// Gives zeroes for holes and past the end.
    void read(std::uint64_t offset, std::byte* to, std::size_t size) const noexcept {
        while (size > 0) {
            const std::size_t within = offset % chunk_size;
            const std::size_t part = std::min<std::size_t>(size, chunk_size - within);
            const slot* s = find(offset / chunk_size);
            if (s != nullptr && s->data != nullptr) {
                std::memcpy(to, s->data->data() + within, part);
            } else {
                std::memset(to, 0, part);
            }
            offset += part;
            to += part;
            size -= part;
        }
    }

    /// Grows the file if the range passes its end. The range must end at or below `max_size`. May
    /// throw bad_alloc.
    void write(std::uint64_t offset, const std::byte* from, std::size_t size) {
        const std::uint64_t end = offset + size;
        GAUR_ASSERT(end <= max_size);
        for (std::uint64_t at = offset; at < end;) {
            const range r(at, end);
            slot& s = make(r.chunk);
            std::memcpy(own(s).data() + r.within, from + (at - offset), r.part);
            use(s, r.touched_pages());
            at += r.part;
        }
        if (size > 0) { size_ = std::max(size_, end); }
    }

    /// The range reads as zeroes. Allocated pages stay allocated; the size does not change.
    void zero(std::uint64_t offset, std::uint64_t size) {
        for_each_slot(offset, size, [](slot& s, const range& r) { clear(s, r); });
    }

    /// The range reads as zeroes. Pages that lie wholly in it are freed; the size does not change.
    void discard(std::uint64_t offset, std::uint64_t size) {
        for_each_slot(offset, size, [this](slot& s, const range& r) {
            const page_mask gone = s.pages & r.whole_pages();
            s.pages = static_cast<page_mask>(s.pages & ~gone);
            pages_ -= static_cast<unsigned>(std::popcount(gone));
            clear(s, r);
        });
    }

    /// Allocates space for the range, and grows the file if the range passes its end. May throw
    /// bad_alloc.
    void allocate(std::uint64_t offset, std::uint64_t size) {
        const std::uint64_t end = offset + size;
        GAUR_ASSERT(end <= max_size);
        for (std::uint64_t at = offset; at < end;) {
            const range r(at, end);
            use(make(r.chunk), r.touched_pages());
            at += r.part;
        }
        if (size > 0) { size_ = std::max(size_, end); }
    }

    /// Whether the page of `offset` is allocated. Past the end of the file no page is.
    bool is_allocated(std::uint64_t offset) const noexcept {
        if (offset >= size_) { return false; }
        const slot* s = find(offset / chunk_size);
        return s != nullptr && (s->pages >> (offset % chunk_size / page_size) & 1) != 0;
    }

    /// The end of the run of pages that are in the same state, allocated or not, as the page of
    /// `offset`. 0: the hole reaches past the end of the file.
    std::uint64_t run_end(std::uint64_t offset) const noexcept {
        constexpr std::uint64_t leaf_bytes = slots_in_leaf * chunk_size;
        const bool allocated = is_allocated(offset);
        for (std::uint64_t at = align_down(offset, page_size) + page_size; at < size_;) {
            const std::uint64_t l = at / leaf_bytes;
            if (!allocated && (l >= leaves_.size() || leaves_[l] == nullptr)) {
                at = (l + 1) * leaf_bytes;
                continue;
            }
            if (is_allocated(at) != allocated) { return at; }
            at += page_size;
        }
        return allocated ? size_ : 0;
    }

    /// Bytes of new space that `allocate` or a write of the range would need.
    std::uint64_t missing(std::uint64_t offset, std::uint64_t size) const noexcept {
        const std::uint64_t end = offset + size;
        std::uint64_t pages = 0;
        for (std::uint64_t at = offset; at < end;) {
            const range r(at, end);
            const slot* s = find(r.chunk);
            const page_mask here = s == nullptr ? page_mask{0} : s->pages;
            pages += static_cast<unsigned>(
                std::popcount(static_cast<page_mask>(r.touched_pages() & ~here)));
            at += r.part;
        }
        return pages * page_size;
    }

    void truncate(std::uint64_t size) {
        GAUR_ASSERT(size <= max_size);
        if (size < size_) { discard(size, align_up(size_, page_size) - size); }
        size_ = size;
    }

    /// The whole content, holes as zeroes: for small files.
    std::vector<std::byte> bytes() const {
        std::vector<std::byte> all(size_);
        read(0, all.data(), all.size());
        return all;
    }
    /// Whether size and bytes are equal. Allocation is not compared.
    friend bool operator==(const sparse_bytes& a, const sparse_bytes& b) {
        if (a.size_ != b.size_) { return false; }
        const std::uint64_t chunks = slots_in_leaf * std::max(a.leaves_.size(), b.leaves_.size());
        for (std::uint64_t i = 0; i < chunks; ++i) {
            const slot* left = a.find(i);
            const slot* right = b.find(i);
            const auto& l = left == nullptr ? nothing() : left->data;
            const auto& r = right == nullptr ? nothing() : right->data;
            if (l != r && (l == nullptr ? zeroes() : *l) != (r == nullptr ? zeroes() : *r)) {
                return false;
            }
        }
        return true;
    }

  private:
    using chunk_bytes = std::array<std::byte, chunk_size>;
    using page_mask = std::uint16_t; ///< one bit for each page of a chunk
    static constexpr std::uint64_t slots_in_leaf = 256;

    struct slot {
        std::shared_ptr<chunk_bytes> data; ///< null: zeroes
        page_mask pages = 0;               ///< allocated
    };
    using leaf = std::array<slot, slots_in_leaf>;

    /// The part of [at, end) in the chunk of `at`.
    struct range {
        range(std::uint64_t at, std::uint64_t end) noexcept
            : chunk(at / chunk_size), within(static_cast<std::uint32_t>(at % chunk_size)),
              part(static_cast<std::uint32_t>(
                  std::min<std::uint64_t>(end - at, chunk_size - within))) {}
        static page_mask pages(std::uint32_t first, std::uint32_t last) noexcept {
            return first >= last ? page_mask{0}
                                 : static_cast<page_mask>(((1U << (last - first)) - 1) << first);
        }
        page_mask touched_pages() const noexcept {
            return pages(within >> 12, (within + part + 4095) >> 12);
        }
        page_mask whole_pages() const noexcept {
            return pages((within + 4095) >> 12, (within + part) >> 12);
        }
        std::uint64_t chunk;
        std::uint32_t within;
        std::uint32_t part;
    };

    static const std::shared_ptr<chunk_bytes>& nothing() noexcept {
        static const std::shared_ptr<chunk_bytes> none;
        return none;
    }
    static const chunk_bytes& zeroes() noexcept {
        static const chunk_bytes all{};
        return all;
    }

    const slot* find(std::uint64_t chunk) const noexcept {
        const std::uint64_t at = chunk / slots_in_leaf;
        if (at >= leaves_.size() || leaves_[at] == nullptr) { return nullptr; }
        return &(*leaves_[at])[chunk % slots_in_leaf];
    }
    slot& make(std::uint64_t chunk) {
        const std::uint64_t at = chunk / slots_in_leaf;
        if (at >= leaves_.size()) { leaves_.resize(at + 1); }
        if (leaves_[at] == nullptr) { leaves_[at] = std::make_unique<leaf>(); }
        return (*leaves_[at])[chunk % slots_in_leaf];
    }
    /// The slot's bytes, for writing. Unshares them from copies first.
    static chunk_bytes& own(slot& s) {
        if (s.data == nullptr) {
            s.data = std::make_shared<chunk_bytes>();
        } else if (s.data.use_count() != 1) {
            s.data = std::make_shared<chunk_bytes>(*s.data);
        }
        return *s.data;
    }
    void use(slot& s, page_mask pages) noexcept {
        const auto fresh = static_cast<page_mask>(pages & ~s.pages);
        if (fresh == 0) { return; }
        s.pages |= fresh;
        pages_ += static_cast<unsigned>(std::popcount(fresh));
    }
    static void clear(slot& s, const range& r) {
        if (s.data == nullptr) { return; }
        if (r.part == chunk_size || s.pages == 0) {
            s.data.reset();
        } else {
            std::memset(own(s).data() + r.within, 0, r.part);
        }
    }
    template <class F>
    void for_each_slot(std::uint64_t offset, std::uint64_t size, F f) {
        const std::uint64_t leaves_end = leaves_.size() * slots_in_leaf * chunk_size;
        const std::uint64_t end = std::min(offset + size, leaves_end);
        constexpr std::uint64_t leaf_size = slots_in_leaf * chunk_size;
        for (std::uint64_t at = offset; at < end;) {
            if (leaves_[at / leaf_size] == nullptr) {
                at = (at / leaf_size + 1) * leaf_size;
                continue;
            }
            const range r(at, end);
            f(make(r.chunk), r);
            at += r.part;
        }
    }

    std::vector<std::unique_ptr<leaf>> leaves_;
    std::uint64_t size_ = 0;
    std::uint64_t pages_ = 0;
};

} // namespace gaur::io
