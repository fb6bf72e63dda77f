// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "support/interop.hpp"
#include "support/qemu_img.hpp"

#include <gaur/base/bytes.hpp>
#include <gaur/qcow2/layout/parse_header.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace gaur::test {

/// The bytes of an image, to be damaged. Reads and writes 64-bit entries by file offset.
class damaged {
  public:
    explicit damaged(const std::string& image)
        : bytes(read_file(image)), head(*qcow2::layout::parse(bytes, bytes.size())) {}

    std::vector<std::byte> bytes;
    qcow2::layout::header head;

    std::uint64_t get(std::uint64_t at) const { return load_be<std::uint64_t>(&bytes[at]); }
    void set(std::uint64_t at, std::uint64_t value) { store_be<std::uint64_t>(&bytes[at], value); }
    void flip(std::uint64_t at, std::uint64_t bits) { set(at, get(at) ^ bits); }

    std::uint64_t cluster() const { return head.tables().cluster_size(); }
    static std::uint64_t offset(std::uint64_t entry) { return entry & 0x00ff'ffff'ffff'fe00; }
    std::uint64_t l1() const { return head.l1_table_offset; }
    /// The file offset of the n-th L2 entry of the first table.
    std::uint64_t l2(std::uint64_t n = 0) const { return offset(get(l1())) + n * 8; }
    /// The file offset of the first L2 entry for which `wanted` is true.
    std::uint64_t find_l2(const std::function<bool(std::uint64_t)>& wanted) const {
        for (std::uint64_t i = 0; i < head.l1_size; ++i) {
            const std::uint64_t table = offset(get(l1() + i * 8));
            for (std::uint64_t at = table; table != 0 && at < table + cluster(); at += 8) {
                if (wanted(get(at))) { return at; }
            }
        }
        ADD_FAILURE() << "no such L2 entry";
        return l2();
    }
    std::uint64_t refcount_table() const { return head.refcount_table_offset; }
    void set_refcount(std::uint64_t cluster_index, std::uint64_t value) {
        const std::uint64_t per_block = head.refcounts().entries_per_block(cluster());
        const std::uint64_t block = get(refcount_table() + cluster_index / per_block * 8);
        head.refcounts().set(&bytes[block], cluster_index % per_block, value);
    }
};

/// Made by QEMU: data, holes, zero clusters of both kinds, compressed clusters, the snapshots "one"
/// and "two" and, if the version supports it, a bitmap.
inline void make_many_kinds(const std::string& image, const std::string& options,
                            bool with_bitmap = true) {
    const scratch_folder folder;
    write_file(folder.file("raw"), some_content(1, 6 << 20));
    expect_runs("qemu-img convert -O qcow2 -c -o " + options + ' ' + folder.file("raw") + ' ' +
                image);
    expect_runs("qemu-io -f qcow2 -c 'write -P 1 0 700k' -c 'write -z 0 100k' "
                "-c 'write -P 2 3M 800k' " +
                image);
    expect_runs("qemu-img snapshot -c one " + image);
    expect_runs("qemu-io -f qcow2 -c 'write -P 3 3200k 400k' " + image);
    expect_runs("qemu-img snapshot -c two " + image);
    expect_runs("qemu-io -f qcow2 -c 'write -P 4 3300k 400k' "
                "-c 'write -P 5 500k 400k' " +
                image);
    if (with_bitmap && options.find("0.10") == std::string::npos) {
        expect_runs("qemu-img bitmap --add -g 64k " + image + " b");
    }
}

inline bool is_compressed(std::uint64_t e) { return (e >> 62 & 1) != 0; }
inline bool is_data(std::uint64_t e) { return !is_compressed(e) && damaged::offset(e) != 0; }
inline bool is_own_data(std::uint64_t e) { return is_data(e) && (e >> 63) != 0; }

} // namespace gaur::test
