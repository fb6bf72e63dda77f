// SPDX-License-Identifier: BSL-1.0
// Images that gaur creates and writes: QEMU finds no fault, and reads what was written.
#include "support/interop.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace gaur::test {
namespace {

template <class B>
class created : public ::testing::Test {};
TYPED_TEST_SUITE(created, host_backends, backend_names);

/// Creates an image and writes to it twice, opening it anew. QEMU checks after each write.
template <class B>
void create_and_write(bench<B>& b, const qcow2::create_options& how, unsigned pieces = 150) {
    SCOPED_TRACE("cluster bits " + std::to_string(how.cluster_bits) + ", refcount bits " +
                 std::to_string(how.refcount_bits) + ", version " + std::to_string(how.version));
    const std::string image = b.path("image.qcow2");
    const result<void> made = b.disks.create(image, how);
    ASSERT_TRUE(made) << made.error().message();
    std::vector<std::byte> twin(how.size);
    const std::size_t most = how.size / 10;
    b.write(image, twin, load::random(how.cluster_bits + 1, how.size, pieces, most));
    b.expect_holds(image, twin);
    b.write(image, twin, load::random(how.refcount_bits + 100, how.size, pieces / 4, most));
    b.expect_holds(image, twin);
}

TYPED_TEST(created, every_cluster_size) {
    GAUR_NEEDS_QEMU_IMG();
    GAUR_NEEDS_BACKEND(TypeParam, io);
    bench<TypeParam> b(*io);
    for (std::uint32_t bits = 9; bits <= 21; ++bits) {
        // The size is no multiple of the cluster, and larger than the reach of an L2 table if that
        // is small.
        const std::uint64_t size = (bits < 13 ? 2 << 20 : 12 << 20) + 512 * 5;
        create_and_write(b, {.size = size, .cluster_bits = bits});
        if (this->HasFatalFailure()) { return; }
    }
}

TYPED_TEST(created, every_refcount_width) {
    GAUR_NEEDS_QEMU_IMG();
    GAUR_NEEDS_BACKEND(TypeParam, io);
    bench<TypeParam> b(*io);
    for (std::uint32_t bits = 1; bits <= 64; bits *= 2) {
        create_and_write(b, {.size = 1 << 20, .cluster_bits = 9, .refcount_bits = bits});
        if (this->HasFatalFailure()) { return; }
    }
}

TYPED_TEST(created, nothing_written) {
    GAUR_NEEDS_QEMU_IMG();
    GAUR_NEEDS_BACKEND(TypeParam, io);
    bench<TypeParam> b(*io);
    for (const std::uint64_t size :
         {std::uint64_t{0}, std::uint64_t{512}, std::uint64_t{5} << 20}) {
        const std::string image = b.path("image.qcow2");
        ASSERT_TRUE(b.disks.create(image, {.size = size, .cluster_bits = 12}));
        b.expect_holds(image, std::vector<std::byte>(size));
    }
}

TYPED_TEST(created, version_2) {
    GAUR_NEEDS_QEMU_IMG();
    GAUR_NEEDS_BACKEND(TypeParam, io);
    bench<TypeParam> b(*io);
    create_and_write(b, {.size = 4 << 20, .version = 2, .cluster_bits = 16});
    create_and_write(b, {.size = 2 << 20, .version = 2, .cluster_bits = 9});
}

TYPED_TEST(created, lazy_refcounts) {
    GAUR_NEEDS_QEMU_IMG();
    GAUR_NEEDS_BACKEND(TypeParam, io);
    bench<TypeParam> b(*io);
    create_and_write(b, {.size = 4 << 20, .cluster_bits = 12, .lazy_refcounts = true});
}

TYPED_TEST(created, over_backing_files) {
    GAUR_NEEDS_QEMU_IMG();
    GAUR_NEEDS_BACKEND(TypeParam, io);
    bench<TypeParam> b(*io);
    // top (12 KiB + 3 MiB) on middle (2 MiB) on raw (1 MiB and a bit): each backing file is shorter
    // than the layer above it.
    const std::vector<std::byte> lowest = some_content(3, (1 << 20) + 700 * 512);
    write_file(b.path("low.raw"), lowest);
    ASSERT_TRUE(b.disks.create(
        b.path("mid.qcow2"),
        {.size = 2 << 20, .cluster_bits = 12, .backing_file = "low.raw", .backing_format = "raw"}));
    std::vector<std::byte> twin = lowest;
    twin.resize(2 << 20);
    b.write(b.path("mid.qcow2"), twin, load::random(4, twin.size(), 40, 90'000));
    b.expect_holds(b.path("mid.qcow2"), twin);

    const std::uint64_t size = (3 << 20) + 12 * 1024;
    for (const std::uint32_t bits : {9U, 16U, 21U}) {
        SCOPED_TRACE(bits);
        const std::string top = b.path("top.qcow2");
        ASSERT_TRUE(b.disks.create(top, {.size = size,
                                         .cluster_bits = bits,
                                         .backing_file = "mid.qcow2",
                                         .backing_format = "qcow2"}));
        std::vector<std::byte> over = twin;
        over.resize(size);
        b.expect_holds(top, over);
        b.write(top, over, load::random(5, size, 60, 150'000));
        b.expect_holds(top, over);
    }
    b.expect_holds(b.path("mid.qcow2"), twin);
}

TYPED_TEST(created, refcount_table_moves) {
    GAUR_NEEDS_QEMU_IMG();
    GAUR_NEEDS_BACKEND(TypeParam, io);
    bench<TypeParam> b(*io);
    // 64 refcounts of 64 bits a block, 64 blocks a table cluster: each cluster counts 2 MiB of
    // file.
    const std::uint64_t size = 9 << 20;
    const std::string image = b.path("image.qcow2");
    ASSERT_TRUE(b.disks.create(image, {.size = size, .cluster_bits = 9, .refcount_bits = 64}));
    const auto before = qcow2::layout::parse(read_file(image), 1 << 30);
    ASSERT_TRUE(before);
    std::vector<std::byte> twin(size);
    b.write(image, twin, load::whole(1, size, 50'000));
    const auto after = qcow2::layout::parse(read_file(image), 1 << 30);
    ASSERT_TRUE(after);
    EXPECT_NE(after->refcount_table_offset, before->refcount_table_offset);
    EXPECT_GE(after->refcount_table_clusters * 64 * 64 * 512, size);
    b.expect_holds(image, twin);
}

TYPED_TEST(created, past_the_page_cache) {
    GAUR_NEEDS_QEMU_IMG();
    GAUR_NEEDS_BACKEND(TypeParam, io);
    bench<TypeParam> b(*io, std::filesystem::current_path());
    for (const std::uint32_t bits : {9U, 16U}) {
        const std::string image = b.path("image.qcow2");
        ASSERT_TRUE(b.disks.create(image, {.size = 2 << 20, .cluster_bits = bits}));
        const qcow2::open_options direct{.direct = true};
        if (const auto disk = b.disks.open(image, direct);
            !disk && disk.error().host_errno() == EINVAL) {
            GTEST_SKIP() << "the working directory's file system has no O_DIRECT";
        }
        std::vector<std::byte> twin(2 << 20);
        b.write(image, twin, load::random(bits, twin.size(), 120, 70'000), direct);
        b.expect_holds(image, twin);
        const auto read = b.disks.read(image, 8, direct);
        ASSERT_TRUE(read) << read.error().message();
        EXPECT_TRUE(*read == twin);
    }
}

/// After a flush the file is an image that holds everything: nothing is deferred to the close.
TYPED_TEST(created, flushed_but_not_closed) {
    GAUR_NEEDS_QEMU_IMG();
    GAUR_NEEDS_BACKEND(TypeParam, io);
    bench<TypeParam> b(*io);
    const std::string image = b.path("image.qcow2");
    ASSERT_TRUE(b.disks.create(image, {.size = 4 << 20, .cluster_bits = 12}));
    auto disk = b.disks.open(image, {.write = true});
    ASSERT_TRUE(disk) << disk.error().message();
    std::vector<std::byte> twin(4 << 20);
    for (std::uint32_t round = 0; round < 3; ++round) {
        load what = load::random(round, twin.size(), 60, 100'000);
        ASSERT_TRUE(b.disks.write(*disk, what, 16));
        what.apply(twin);
        ASSERT_TRUE(b.disks.write(*disk, {0, {piece{}}}, 1)); // a flush, alone
        write_file(b.path("copy.qcow2"), read_file(image));
        EXPECT_EQ(qemu_check(b.path("copy.qcow2")).corruptions, 0U);
        b.expect_qemu_holds(b.path("copy.qcow2"), twin);
    }
    ASSERT_TRUE(b.disks.wait(disk->close()));
    b.expect_holds(image, twin);
}

} // namespace
} // namespace gaur::test
