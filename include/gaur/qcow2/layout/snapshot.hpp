// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/bytes.hpp>
#include <gaur/base/contract.hpp>
#include <gaur/base/error.hpp>
#include <gaur/base/units.hpp>
#include <gaur/qcow2/layout/geometry.hpp>
#include <gaur/qcow2/layout/text.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace gaur::qcow2::layout {

/// One entry of the snapshot table (specification, "Snapshots"). Its size varies: 40 bytes, extra
/// data, id, name, and padding with zeroes to a multiple of 8.
struct snapshot {
    static constexpr std::uint64_t no_icount = ~std::uint64_t{0};

    host_offset l1_table_offset;
    std::uint32_t l1_size = 0; ///< entries
    std::uint32_t date_sec = 0;
    std::uint32_t date_nsec = 0;
    std::uint64_t vm_clock_nsec = 0;
    std::uint64_t vm_state_size = 0;        ///< bytes
    std::optional<std::uint64_t> disk_size; ///< bytes; old images do not store it
    std::uint64_t icount = no_icount;
    std::vector<std::byte> unknown_extra; ///< extra data behind icount
    std::string id;                       ///< any bytes but NUL; so is the name
    std::string name;

    std::size_t extra_bytes() const noexcept {
        return disk_size ? known_extra_bytes + unknown_extra.size() : 8;
    }
    std::size_t stored_bytes() const noexcept {
        return static_cast<std::size_t>(
            align_up(min_snapshot_bytes + extra_bytes() + id.size() + name.size(), 8));
    }
    friend bool operator==(const snapshot&, const snapshot&) = default;

    /// Bytes of vm_state_size, disk_size and icount.
    static constexpr std::size_t known_extra_bytes = 24;
};

/// A snapshot, and the bytes that it takes in the table.
struct parsed_snapshot {
    snapshot entry;
    std::size_t stored_bytes = 0;
};

/// Reads the entry that `table` begins with. Error: snapshot_malformed with `at`, the entry's
/// offset in the file. Its L1 table is not checked: see `check`.
inline result<parsed_snapshot> parse_snapshot(std::span<const std::byte> table, host_offset at,
                                              std::uint64_t max_extra = max_snapshot_extra_bytes) {
    const gaur::error malformed(errc::snapshot_malformed, at.value);
    if (table.size() < min_snapshot_bytes) { return malformed; }
    const auto u16 = [&](std::size_t o) { return load_be<std::uint16_t>(table.data() + o); };
    const auto u32 = [&](std::size_t o) { return load_be<std::uint32_t>(table.data() + o); };
    const auto u64 = [&](std::size_t o) { return load_be<std::uint64_t>(table.data() + o); };
    const std::size_t id_bytes = u16(12);
    const std::size_t name_bytes = u16(14);
    const std::size_t extra_bytes = u32(36);
    if (extra_bytes > max_extra) { return malformed; }
    const std::size_t id_at = min_snapshot_bytes + extra_bytes;
    const std::size_t end = id_at + id_bytes + name_bytes;
    if (end > table.size()) { return malformed; }

    snapshot s;
    s.l1_table_offset = {u64(0)};
    s.l1_size = u32(8);
    s.date_sec = u32(16);
    s.date_nsec = u32(20);
    s.vm_clock_nsec = u64(24);
    s.vm_state_size = extra_bytes >= 8 ? u64(40) : u32(32);
    if (extra_bytes >= 16) { s.disk_size = u64(48); }
    if (extra_bytes >= snapshot::known_extra_bytes) {
        s.icount = u64(56);
        const auto unknown = table.first(id_at).subspan(64);
        s.unknown_extra.assign(unknown.begin(), unknown.end());
    }
    s.id = text_of(table.subspan(id_at, id_bytes));
    s.name = text_of(table.subspan(id_at + id_bytes, name_bytes));
    // The last entry's padding may be cut off.
    const auto stored = std::min<std::size_t>(align_up(end, 8), table.size());
    return parsed_snapshot{std::move(s), stored};
}

/// The largest size of an entry.
inline constexpr std::uint64_t largest_snapshot_bytes =
    align_up(min_snapshot_bytes + max_snapshot_extra_bytes + 2 * 65535, 8);

/// How many bytes to read for a table of `count` entries: the size of `count` largest entries, but
/// at most the limit of a table.
constexpr std::uint64_t max_table_bytes(std::uint64_t count) noexcept {
    return std::min(count * largest_snapshot_bytes, max_snapshot_table_bytes);
}

/// Reads a table of `count` entries that lies at `at`; `bytes` may extend past its end. `count` is
/// at most `max_snapshots`, which `parse` of the header checks. Errors: snapshot_malformed,
/// snapshot_table_too_large.
inline result<std::vector<snapshot>> parse_snapshots(std::span<const std::byte> bytes,
                                                     std::uint32_t count, host_offset at) {
    if (count > max_snapshots) { return {errc::snapshot_table_too_large, count}; }
    const bool cut = bytes.size() >= max_snapshot_table_bytes;
    bytes = bytes.first(std::min<std::size_t>(bytes.size(), max_snapshot_table_bytes));
    std::vector<snapshot> all;
    for (std::size_t used = 0; all.size() < count;) {
        auto next = parse_snapshot(bytes.subspan(used), at + used);
        if (!next) {
            return cut ? gaur::error(errc::snapshot_table_too_large, count) : next.error();
        }
        used += next->stored_bytes;
        all.push_back(std::move(next->entry));
    }
    return all;
}

/// Appends an entry to `table`, whose size is a multiple of 8. If `disk_size` is known, which
/// version 3 requires, all extra data is written; else vm_state_size only.
inline void append_snapshot(std::vector<std::byte>& table, const snapshot& s) {
    GAUR_ASSERT(table.size() % 8 == 0 && s.extra_bytes() <= max_snapshot_extra_bytes);
    GAUR_ASSERT(s.id.size() <= 65535 && s.name.size() <= 65535);
    const std::size_t begin = table.size();
    table.resize(begin + s.stored_bytes());
    std::byte* const to = table.data() + begin;
    store_be<std::uint64_t>(to, s.l1_table_offset.value);
    store_be<std::uint32_t>(to + 8, s.l1_size);
    store_be<std::uint16_t>(to + 12, static_cast<std::uint16_t>(s.id.size()));
    store_be<std::uint16_t>(to + 14, static_cast<std::uint16_t>(s.name.size()));
    store_be<std::uint32_t>(to + 16, s.date_sec);
    store_be<std::uint32_t>(to + 20, s.date_nsec);
    store_be<std::uint64_t>(to + 24, s.vm_clock_nsec);
    // A reader that knows no extra data takes vm_state_size from here. A large one does not fit.
    store_be<std::uint32_t>(
        to + 32, s.vm_state_size >> 32 == 0 ? static_cast<std::uint32_t>(s.vm_state_size) : 0);
    store_be<std::uint32_t>(to + 36, static_cast<std::uint32_t>(s.extra_bytes()));
    store_be<std::uint64_t>(to + 40, s.vm_state_size);
    if (s.disk_size) {
        store_be<std::uint64_t>(to + 48, *s.disk_size);
        store_be<std::uint64_t>(to + 56, s.icount);
        std::ranges::copy(s.unknown_extra, to + 64);
    }
    std::byte* const text = to + min_snapshot_bytes + s.extra_bytes();
    std::ranges::copy(std::as_bytes(std::span(s.id)), text);
    std::ranges::copy(std::as_bytes(std::span(s.name)), text + s.id.size());
}

/// Whether a snapshot's L1 table may be read. Errors: l1_too_large, l1_offset.
inline result<void> check(const snapshot& s, unsigned cluster_bits) noexcept {
    const std::uint64_t at = s.l1_table_offset.value;
    if (s.l1_size > max_l1_entries) { return {errc::l1_too_large, s.l1_size}; }
    if (!is_aligned(at, std::uint64_t{1} << cluster_bits) || at >= host_limit ||
        (at == 0 && s.l1_size != 0)) {
        return {errc::l1_offset, at};
    }
    return {};
}

} // namespace gaur::qcow2::layout
