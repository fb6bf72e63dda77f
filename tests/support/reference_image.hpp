// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace gaur::test {

/// A qcow2 file at rest, read by the specification alone. It uses no code of gaur, so that it does
/// not share a mistake of gaur's layout code.
class reference_image {
  public:
    explicit reference_image(std::vector<std::byte> bytes) : bytes_(std::move(bytes)) { parse(); }

    const std::vector<std::byte>& bytes() const noexcept { return bytes_; }
    std::uint64_t virtual_size() const noexcept { return size_; }
    bool is_dirty() const noexcept { return (incompatible_ & 1) != 0; }

    struct verdict {
        std::uint64_t corruptions = 0;
        std::uint64_t leaks = 0; ///< includes clusters past the end of the file
        std::string first; ///< the first corruption
    };

    /// Checks references against refcounts, COPIED flags, bounds. `stale_refcounts`: the dirty bit
    /// says that the refcounts are invalid; checks what must hold by the references alone.
    verdict check(bool stale_refcounts = false) {
        verdict_ = {};
        count_references();
        if (stale_refcounts) {
            check_owners();
            return verdict_;
        }
        const std::uint64_t blocks = std::max(
            table_clusters_ * cluster_ / 8, (references_.size() + per_block() - 1) / per_block());
        for (std::uint64_t b = 0; b < blocks; ++b) {
            // A missing block counts nothing, and neither does one past all references.
            if (block_of(b) == 0 && b * per_block() >= references_.size()) { continue; }
            for (std::uint64_t c = b * per_block(); c < (b + 1) * per_block(); ++c) {
                const std::uint64_t wanted = c < references_.size() ? references_[c] : 0;
                const std::uint64_t found = refcount(c);
                if (found < wanted) {
                    fault("refcount below references", c * cluster_, found, wanted);
                }
                if (found > wanted) { ++verdict_.leaks; }
            }
        }
        check_copied();
        return verdict_;
    }

    /// End of the last cluster whose refcount is above 0, in bytes.
    std::uint64_t counted_end() const {
        std::uint64_t c = clusters();
        while (c > 0 && refcount(c - 1) == 0) { --c; }
        return c * cluster_;
    }

    /// What the guest reads from the active tables. `below` fills what this image does not map. Of
    /// compressed clusters only those that compress() made are supported.
    void read_over(std::span<std::byte> below) const { read_over(below, l1_, l1_size_); }
    void read_snapshot_over(std::size_t index, std::span<std::byte> below) const {
        const snapshot_place s = snapshots()[index];
        read_over(below, s.l1, s.l1_size);
    }
    std::size_t snapshot_count() const { return snapshots().size(); }

    /// File offset of the first nonzero byte behind the end of the virtual disk, in the host
    /// cluster of the disk's last cluster; 0 if there is none.
    std::uint64_t first_byte_past_disk() const {
        const std::uint64_t held = size_ % cluster_;
        if (held == 0) { return 0; }
        const std::uint64_t last = size_ / cluster_;
        std::vector<snapshot_place> all = snapshots();
        all.push_back({l1_, l1_size_});
        for (const snapshot_place& s : all) {
            const std::uint64_t host = host_of(last, s.l1, s.l1_size);
            const std::uint64_t end = std::min<std::uint64_t>(host + cluster_, bytes_.size());
            for (std::uint64_t at = host + held; host != 0 && at < end; ++at) {
                if (bytes_[at] != std::byte{0}) { return at; }
            }
        }
        return 0;
    }

    /// Adds an internal snapshot of the current disk. Writes all refcounts and COPIED flags anew,
    /// at the end of the file. False if the refcounts are too narrow for it.
    bool add_snapshot() {
        std::vector<snapshot_place> all = snapshots();
        if (all.size() + 2 > max_refcount()) { return false; }
        const std::uint64_t copy = append(std::max<std::uint64_t>(l1_size_ * 8, 1));
        for (std::uint64_t i = 0; i < l1_size_; ++i) {
            put64(copy + i * 8, get64(l1_ + i * 8) & ~copied);
        }
        all.push_back({copy, l1_size_});
        write_snapshot_table(all);
        write_refcounts();
        return true;
    }

    /// Compresses the clusters that are not shared and for which `chosen()` returns true. Packs
    /// them one behind the other, so that a host cluster holds parts of several.
    template <class F>
    void compress(F chosen) {
        count_references();
        std::uint64_t end = append(1);
        for (std::uint64_t i = 0; i < l1_size_; ++i) {
            const std::uint64_t table = get64(l1_ + i * 8) & offset_bits;
            if (table == 0 || references_[table / cluster_] != 1) { continue; }
            for (std::uint64_t o = 0; o < cluster_; o += 8) {
                const std::uint64_t entry = get64(table + o);
                const std::uint64_t host = entry & offset_bits;
                if ((entry & (compressed | 1)) != 0 || host == 0) { continue; }
                if (host / cluster_ >= references_.size() || references_[host / cluster_] != 1 ||
                    !chosen()) {
                    continue;
                }
                put64(table + o, pack(host, end));
            }
        }
        bytes_.resize((bytes_.size() + cluster_ - 1) / cluster_ * cluster_);
        write_refcounts();
    }

    /// Makes every cluster that has a host cluster read as zeroes. Keeps or frees the host cluster.
    void zero_all(bool keep) {
        for (std::uint64_t i = 0; i < l1_size_; ++i) {
            const std::uint64_t table = get64(l1_ + i * 8) & offset_bits;
            for (std::uint64_t o = 0; table != 0 && o < cluster_; o += 8) {
                const std::uint64_t entry = get64(table + o);
                if ((entry & offset_bits) != 0) { put64(table + o, keep ? entry | 1 : 1); }
            }
        }
        write_refcounts();
    }

    /// Inflates what compress() makes: deflate's stored blocks. For open_options::inflate.
    static bool inflate_stored(std::span<const std::byte> from, std::span<std::byte> to) {
        for (std::size_t at = 0, filled = 0; at + 5 <= from.size();) {
            const auto size = std::to_integer<std::size_t>(from[at + 1]) |
                              std::to_integer<std::size_t>(from[at + 2]) << 8;
            const bool last = from[at] == std::byte{1};
            at += 5;
            if (size > from.size() - at || size > to.size() - filled) { return false; }
            std::memcpy(to.data() + filled, from.data() + at, size);
            at += size;
            filled += size;
            if (last) { return filled == to.size(); }
        }
        return false;
    }

  private:
    static constexpr std::uint64_t copied = std::uint64_t{1} << 63;
    static constexpr std::uint64_t compressed = std::uint64_t{1} << 62;
    static constexpr std::uint64_t offset_bits = 0x00ff'ffff'ffff'fe00;

    struct snapshot_place {
        std::uint64_t l1 = 0;
        std::uint64_t l1_size = 0;
    };

    std::uint64_t get(std::uint64_t at, unsigned size) const {
        std::uint64_t value = 0;
        for (unsigned i = 0; i < size; ++i) {
            const std::uint64_t b = at + i;
            value = value << 8 | (b < bytes_.size() ? std::to_integer<unsigned>(bytes_[b]) : 0U);
        }
        return value;
    }
    std::uint64_t get64(std::uint64_t at) const {
        if (at + 8 > bytes_.size() || at + 8 < at) { return get(at, 8); }
        std::uint64_t value;
        std::memcpy(&value, bytes_.data() + at, 8);
        return __builtin_bswap64(value);
    }
    void put(std::uint64_t at, std::uint64_t value, unsigned size) {
        for (unsigned i = 0; i < size; ++i) {
            bytes_[at + i] = static_cast<std::byte>(value >> (8 * (size - 1 - i)));
        }
    }
    void put64(std::uint64_t at, std::uint64_t value) { put(at, value, 8); }

    void parse() {
        const std::uint64_t version = get(4, 4);
        cluster_ = std::uint64_t{1} << get(20, 4);
        bits_ = static_cast<unsigned>(get(20, 4));
        size_ = get64(24);
        l1_size_ = get(36, 4);
        l1_ = get64(40);
        table_ = get64(48);
        table_clusters_ = get(56, 4);
        incompatible_ = version >= 3 ? get64(72) : 0;
        order_ = version >= 3 ? static_cast<unsigned>(get(96, 4)) : 4;
    }

    unsigned split() const { return 62 - (bits_ - 8); }

    /// The entry for the cluster at `host`, stored from `end` on.
    std::uint64_t pack(std::uint64_t host, std::uint64_t& end) {
        std::vector<std::byte> packed;
        for (std::uint64_t done = 0; done < cluster_;) {
            const std::uint64_t n = std::min<std::uint64_t>(cluster_ - done, 0xffff);
            const auto low = static_cast<std::byte>(n);
            const auto high = static_cast<std::byte>(n >> 8);
            const auto last = static_cast<std::byte>(done + n == cluster_ ? 1 : 0);
            packed.insert(packed.end(), {last, low, high, ~low, ~high});
            for (std::uint64_t b = host + done; b < host + done + n; ++b) {
                packed.push_back(b < bytes_.size() ? bytes_[b] : std::byte{0});
            }
            done += n;
        }
        // Narrow refcounts cannot count several references to a cluster, nor those of a snapshot.
        if (order_ <= 2) { end = (end + cluster_ - 1) / cluster_ * cluster_; }
        // The sector count of an entry covers at most one cluster of further sectors.
        if (end % 512 + packed.size() > cluster_ + 512) { end = (end + 511) / 512 * 512; }
        const std::uint64_t sectors = (end % 512 + packed.size() - 1) / 512;
        if (bytes_.size() < end + packed.size()) { bytes_.resize(end + packed.size()); }
        std::memcpy(bytes_.data() + end, packed.data(), packed.size());
        const std::uint64_t entry = compressed | sectors << split() | end;
        end += packed.size();
        return entry;
    }

    std::uint64_t clusters() const { return (bytes_.size() + cluster_ - 1) / cluster_; }
    std::uint64_t max_refcount() const { return ~std::uint64_t{0} >> (64 - (1U << order_)); }
    std::uint64_t per_block() const { return cluster_ * 8 >> order_; }
    std::uint64_t block_of(std::uint64_t index) const {
        return index < table_clusters_ * cluster_ / 8 ? get64(table_ + index * 8) : 0;
    }

    std::uint64_t refcount(std::uint64_t c) const {
        const std::uint64_t block = block_of(c / per_block());
        if (block == 0) { return 0; }
        const std::uint64_t index = c % per_block();
        if (order_ >= 3) { return get(block + (index << order_ >> 3), 1U << (order_ - 3)); }
        const std::uint64_t held = get(block + (index << order_ >> 3), 1);
        return held >> ((index << order_) & 7) & max_refcount();
    }
    void set_refcount(std::uint64_t block, std::uint64_t index, std::uint64_t value) {
        const std::uint64_t at = block + (index << order_ >> 3);
        if (order_ >= 3) { return put(at, value, 1U << (order_ - 3)); }
        put(at, get(at, 1) | value << ((index << order_) & 7), 1);
    }

    void fault(const char* what, std::uint64_t at, std::uint64_t found, std::uint64_t wanted) {
        if (verdict_.corruptions++ != 0) { return; }
        char text[200];
        std::snprintf(text, sizeof text, "%s at %#llx: %llu, %llu", what,
                      static_cast<unsigned long long>(at), static_cast<unsigned long long>(found),
                      static_cast<unsigned long long>(wanted));
        verdict_.first = text;
    }

    /// Notes a reference to a table or a cluster.
    void refer(std::uint64_t at, std::uint64_t size) {
        if (at % cluster_ != 0) { fault("unaligned", at, 0, 0); }
        refer_bytes(at, size);
    }
    void refer_bytes(std::uint64_t at, std::uint64_t size) {
        if (size == 0) { return; }
        const std::uint64_t last = (at + size - 1) / cluster_;
        if (last >= clusters()) { return fault("past the end", at, size, bytes_.size()); }
        if (references_.size() <= last) { references_.resize(last + 1); }
        for (std::uint64_t c = at / cluster_; c <= last; ++c) { ++references_[c]; }
    }

    void count_references() {
        references_.assign(clusters(), 0);
        refer(0, cluster_);
        refer(l1_, l1_size_ * 8);
        refer(table_, table_clusters_ * cluster_);
        for (std::uint64_t i = 0; i < table_clusters_ * cluster_ / 8; ++i) {
            const std::uint64_t block = get64(table_ + i * 8);
            if (block != 0) { refer(block, cluster_); }
        }
        refer_tables(l1_, l1_size_);
        for (const snapshot_place& s : snapshots()) {
            refer(s.l1, s.l1_size * 8);
            refer_tables(s.l1, s.l1_size);
        }
        refer(get64(64), snapshot_table_size());
    }

    void refer_tables(std::uint64_t l1, std::uint64_t entries) {
        for (std::uint64_t i = 0; i < entries; ++i) {
            const std::uint64_t entry = get64(l1 + i * 8);
            const std::uint64_t table = entry & offset_bits;
            if (table == 0) { continue; }
            refer(table, cluster_);
            for (std::uint64_t o = 0; o < cluster_; o += 8) { refer_cluster(get64(table + o)); }
        }
    }
    void refer_cluster(std::uint64_t entry) {
        if ((entry & compressed) != 0) {
            const std::uint64_t at = entry & ((std::uint64_t{1} << split()) - 1);
            const std::uint64_t sectors = ((entry & (compressed - 1)) >> split()) + 1;
            const std::uint64_t end = std::min(at / 512 * 512 + sectors * 512, bytes_.size());
            refer_bytes(at, end - at);
        } else if ((entry & offset_bits) != 0) {
            refer(entry & offset_bits, cluster_);
        }
    }

    /// Checks that tables do not share clusters, and that a COPIED flag marks the only reference.
    void check_owners() {
        const auto must_be_alone = [this](const char* what, std::uint64_t at, std::uint64_t bytes) {
            for (std::uint64_t c = at / cluster_; c * cluster_ < at + bytes; ++c) {
                if (c < references_.size() && references_[c] != 1) {
                    fault(what, c * cluster_, references_[c], 1);
                }
            }
        };
        must_be_alone("overlap of the header", 0, cluster_);
        must_be_alone("overlap of the L1 table", l1_, l1_size_ * 8);
        must_be_alone("overlap of the refcount table", table_, table_clusters_ * cluster_);
        for (std::uint64_t i = 0; i < table_clusters_ * cluster_ / 8; ++i) {
            const std::uint64_t block = get64(table_ + i * 8);
            if (block != 0) { must_be_alone("overlap of a refcount block", block, cluster_); }
        }
        for_each_active_entry([&](std::uint64_t entry) {
            if ((entry & copied) != 0) {
                must_be_alone("overlap of a COPIED cluster", entry & offset_bits, cluster_);
            }
        });
    }

    /// Visits the entries of the active tables that have a host cluster, including L1 entries.
    template <class F>
    void for_each_active_entry(F use) const {
        for (std::uint64_t i = 0; i < l1_size_; ++i) {
            const std::uint64_t entry = get64(l1_ + i * 8);
            const std::uint64_t table = entry & offset_bits;
            if (table == 0) { continue; }
            use(entry);
            for (std::uint64_t o = 0; o < cluster_; o += 8) {
                const std::uint64_t mapped = get64(table + o);
                if ((mapped & compressed) == 0 && (mapped & offset_bits) != 0) { use(mapped); }
            }
        }
    }

    void check_copied() {
        for (std::uint64_t i = 0; i < l1_size_; ++i) {
            const std::uint64_t entry = get64(l1_ + i * 8);
            const std::uint64_t table = entry & offset_bits;
            if (table == 0) { continue; }
            check_flag("COPIED of an L1 entry", entry, table);
            for (std::uint64_t o = 0; o < cluster_; o += 8) {
                const std::uint64_t mapped = get64(table + o);
                if ((mapped & compressed) != 0 || (mapped & offset_bits) == 0) { continue; }
                check_flag("COPIED of an L2 entry", mapped, mapped & offset_bits);
            }
        }
    }
    void check_flag(const char* what, std::uint64_t entry, std::uint64_t host) {
        const std::uint64_t count = refcount(host / cluster_);
        if (((entry & copied) != 0) != (count == 1)) { fault(what, host, entry >> 63, count); }
    }

    std::uint64_t snapshot_table_size() const {
        std::uint64_t at = get64(64);
        const std::uint64_t begin = at;
        for (std::uint64_t i = 0; i < get(60, 4); ++i) { at = next_snapshot(at); }
        return at - begin;
    }
    std::uint64_t next_snapshot(std::uint64_t at) const {
        const std::uint64_t end = at + 40 + get(at + 36, 4) + get(at + 12, 2) + get(at + 14, 2);
        return (end + 7) / 8 * 8;
    }
    std::vector<snapshot_place> snapshots() const {
        std::vector<snapshot_place> all;
        std::uint64_t at = get64(64);
        for (std::uint64_t i = 0; i < get(60, 4); ++i) {
            all.push_back({get64(at), get(at + 8, 4)});
            at = next_snapshot(at);
        }
        return all;
    }

    /// The host offset of a guest cluster's uncompressed data, or 0.
    std::uint64_t host_of(std::uint64_t c, std::uint64_t l1, std::uint64_t l1_size) const {
        const std::uint64_t i = c / (cluster_ / 8);
        const std::uint64_t table = i < l1_size ? get64(l1 + i * 8) & offset_bits : 0;
        const std::uint64_t entry = table != 0 ? get64(table + c % (cluster_ / 8) * 8) : 0;
        return (entry & (compressed | 1)) != 0 ? 0 : entry & offset_bits;
    }

    void read_over(std::span<std::byte> to, std::uint64_t l1, std::uint64_t l1_size) const {
        const std::uint64_t per_table = cluster_ / 8;
        for (std::uint64_t c = 0; c * cluster_ < to.size(); ++c) {
            const std::uint64_t i = c / per_table;
            const std::uint64_t table = i < l1_size ? get64(l1 + i * 8) & offset_bits : 0;
            const std::uint64_t entry = table != 0 ? get64(table + c % per_table * 8) : 0;
            if (entry == 0) { continue; }
            const std::uint64_t at = entry & offset_bits;
            const auto part = to.subspan(c * cluster_).first(
                std::min<std::size_t>(cluster_, to.size() - c * cluster_));
            std::memset(part.data(), 0, part.size());
            if ((entry & compressed) != 0) {
                const std::uint64_t packed = entry & ((std::uint64_t{1} << split()) - 1);
                std::vector<std::byte> whole(cluster_);
                inflate_stored(std::span(bytes_).subspan(packed), whole);
                std::memcpy(part.data(), whole.data(), part.size());
                continue;
            }
            if ((entry & 1) != 0 || at >= bytes_.size()) { continue; }
            std::memcpy(part.data(), bytes_.data() + at,
                        std::min<std::size_t>(part.size(), bytes_.size() - at));
        }
    }

    /// Appends `size` bytes, in clusters of their own.
    std::uint64_t append(std::uint64_t size) {
        const std::uint64_t at = clusters() * cluster_;
        bytes_.resize(at + (size + cluster_ - 1) / cluster_ * cluster_);
        return at;
    }

    void write_snapshot_table(const std::vector<snapshot_place>& all) {
        constexpr std::uint64_t entry = 40 + 16 + 8; // with 16 extra bytes and an id of 8
        const std::uint64_t at = append(all.size() * entry);
        for (std::size_t i = 0; i < all.size(); ++i) {
            const std::uint64_t s = at + i * entry;
            put64(s, all[i].l1);
            put(s + 8, all[i].l1_size, 4);
            put(s + 12, 8, 2);
            put(s + 36, 16, 4);
            put64(s + 48, size_);
            put64(s + 56, 0x3030'3030'3030'3030U + i);
        }
        put(60, all.size(), 4);
        put64(64, at);
    }

    /// Counts all references anew, in a table and blocks at the end of the file, which count
    /// themselves. The clusters of the old table and blocks are free.
    void write_refcounts() {
        std::uint64_t blocks = 1;
        std::uint64_t table = 1;
        while (blocks * per_block() < clusters() + blocks + table ||
               table * cluster_ < blocks * 8) {
            blocks = (clusters() + blocks + table + per_block() - 1) / per_block();
            table = (blocks * 8 + cluster_ - 1) / cluster_;
        }
        table_ = append(table * cluster_);
        table_clusters_ = table;
        const std::uint64_t first = append(blocks * cluster_);
        put64(48, table_);
        put(56, table, 4);
        for (std::uint64_t b = 0; b < blocks; ++b) { put64(table_ + b * 8, first + b * cluster_); }
        count_references();
        for (std::uint64_t c = 0; c < references_.size(); ++c) {
            set_refcount(first + c / per_block() * cluster_, c % per_block(), references_[c]);
        }
        for (std::uint64_t i = 0; i < l1_size_; ++i) { set_copied(l1_ + i * 8, true); }
    }
    void set_copied(std::uint64_t at, bool is_table) {
        const std::uint64_t entry = get64(at);
        const std::uint64_t host = entry & offset_bits;
        if (host == 0 || (!is_table && (entry & compressed) != 0)) { return; }
        const bool alone = references_[host / cluster_] == 1;
        put64(at, (entry & ~copied) | (alone ? copied : 0));
        if (!is_table) { return; }
        for (std::uint64_t o = 0; o < cluster_; o += 8) { set_copied(host + o, false); }
    }

    std::vector<std::byte> bytes_;
    std::vector<std::uint64_t> references_;
    verdict verdict_;
    std::uint64_t cluster_ = 0;
    unsigned bits_ = 0;
    std::uint64_t size_ = 0;
    std::uint64_t l1_size_ = 0;
    std::uint64_t l1_ = 0;
    std::uint64_t table_ = 0;
    std::uint64_t table_clusters_ = 0;
    std::uint64_t incompatible_ = 0;
    unsigned order_ = 4;
};

} // namespace gaur::test
