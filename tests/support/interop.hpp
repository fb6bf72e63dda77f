// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "support/backends.hpp"
#include "support/disk.hpp"
#include "support/qemu_img.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace gaur::test {

/// The verdict and figures of a check equal those of `qemu-img check`.
inline void expect_same_verdict(const qcow2::check_report& ours, const qemu_verdict& qemu) {
    EXPECT_EQ(ours.corruptions, qemu.corruptions) << qemu.said;
    EXPECT_EQ(ours.leaks, qemu.leaks) << qemu.said;
    EXPECT_EQ(ours.check_errors, qemu.check_errors) << qemu.said;
    EXPECT_EQ(ours.total_clusters, qemu.total_clusters) << qemu.said;
    EXPECT_EQ(ours.allocated_clusters, qemu.allocated_clusters) << qemu.said;
    EXPECT_EQ(ours.fragmented_clusters, qemu.fragmented_clusters) << qemu.said;
    EXPECT_EQ(ours.compressed_clusters, qemu.compressed_clusters) << qemu.said;
    EXPECT_EQ(ours.image_end_offset, qemu.image_end_offset) << qemu.said;
    for (const qcow2::check_finding& f : ours.findings) {
        if (::testing::Test::HasFailure()) { ADD_FAILURE() << f.text; }
    }
}

/// One backend in a folder of its own, with QEMU as the oracle.
template <class B>
class bench {
  public:
    explicit bench(B& io,
                   const std::filesystem::path& inside = std::filesystem::temp_directory_path())
        : disks(io), folder_(inside) {}

    driver<B> disks;
    std::string path(const std::string& name) const { return folder_.file(name); }

    /// Both QEMU and gaur check it clean, and read `content` from it.
    void expect_holds(const std::string& image, const std::vector<std::byte>& content) {
        const qemu_verdict v = qemu_check(image);
        EXPECT_EQ(v.exit_code, 0) << image << '\n' << v.said;
        const auto report = disks.check(image);
        ASSERT_TRUE(report) << report.error().message();
        expect_same_verdict(*report, v);
        expect_qemu_holds(image, content);
        expect_reads(image, content);
    }
    void expect_qemu_holds(const std::string& image, const std::vector<std::byte>& content) {
        write_file(path("twin.raw"), content);
        expect_qemu_reads(image, path("twin.raw"));
    }
    void expect_reads(const std::string& image, const std::vector<std::byte>& content) {
        const auto read = disks.read(image, 8);
        ASSERT_TRUE(read) << read.error().message();
        // Not EXPECT_EQ: it would print megabytes.
        ASSERT_EQ(read->size(), content.size());
        const auto differ = std::ranges::mismatch(*read, content);
        EXPECT_TRUE(differ.in1 == read->end())
            << image << " differs first at " << differ.in1 - read->begin();
    }
    /// Applies the same writes to image and twin.
    void write(const std::string& image, std::vector<std::byte>& twin, const load& what,
               qcow2::open_options how = {}) {
        const result<void> r = disks.write(image, what, 24, how);
        ASSERT_TRUE(r) << r.error().message();
        what.apply(twin);
    }

  private:
    scratch_folder folder_;
};

/// A disk with holes, long runs, odd pieces, and parts that compress well.
inline std::vector<std::byte> some_content(std::uint64_t seed, std::size_t size) {
    std::vector<std::byte> content(size);
    load::random(seed, size, 40, size / 8).apply(content);
    for (std::size_t at = size / 4; at < size / 2; ++at) {
        content[at] = static_cast<std::byte>(at >> 9 ^ seed);
    }
    return content;
}

} // namespace gaur::test
