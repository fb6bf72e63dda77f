// SPDX-License-Identifier: BSL-1.0
// Images that QEMU creates: gaur reads the same as QEMU, and after gaur has written to them QEMU
// finds no fault.
#include "support/interop.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace gaur::test {
namespace {

template <class B>
class from_qemu : public ::testing::Test {};
TYPED_TEST_SUITE(from_qemu, host_backends, backend_names);

/// Converts `content` to an image with qemu-img.
template <class B>
std::string convert(bench<B>& b, const std::vector<std::byte>& content,
                    const std::string& options) {
    const std::string image = b.path("image.qcow2");
    write_file(b.path("from.raw"), content);
    expect_runs("qemu-img convert -f raw -O qcow2 " + options + ' ' + b.path("from.raw") + ' ' +
                image);
    return image;
}

/// Reads the image and writes to it; QEMU checks both.
template <class B>
void read_and_write(bench<B>& b, const std::string& image, std::vector<std::byte>& twin,
                    unsigned pieces = 60) {
    b.expect_holds(image, twin);
    b.write(image, twin, load::random(twin.size() + pieces, twin.size(), pieces, 80'000));
    b.expect_holds(image, twin);
}

TYPED_TEST(from_qemu, every_cluster_size) {
    GAUR_NEEDS_QEMU_IMG();
    GAUR_NEEDS_BACKEND(TypeParam, io);
    bench<TypeParam> b(*io);
    for (std::uint32_t bits = 9; bits <= 21; ++bits) {
        const std::string size = std::to_string(1U << bits);
        SCOPED_TRACE(size);
        std::vector<std::byte> twin = some_content(bits, bits < 13 ? 1 << 20 : 8 << 20);
        const std::string compat = bits % 2 == 0 ? "0.10" : "1.1";
        read_and_write(b, convert(b, twin, "-o compat=" + compat + ",cluster_size=" + size), twin);
    }
}

TYPED_TEST(from_qemu, every_refcount_width) {
    GAUR_NEEDS_QEMU_IMG();
    GAUR_NEEDS_BACKEND(TypeParam, io);
    bench<TypeParam> b(*io);
    for (std::uint32_t bits = 1; bits <= 64; bits *= 2) {
        SCOPED_TRACE(bits);
        std::vector<std::byte> twin = some_content(bits, 1 << 20);
        read_and_write(
            b, convert(b, twin, "-o cluster_size=1k,refcount_bits=" + std::to_string(bits)), twin);
    }
}

TYPED_TEST(from_qemu, compressed) {
    GAUR_NEEDS_QEMU_IMG();
    GAUR_NEEDS_BACKEND(TypeParam, io);
    bench<TypeParam> b(*io);
    for (const char* size : {"512", "4k", "64k", "2M"}) {
        SCOPED_TRACE(size);
        std::vector<std::byte> twin = some_content(7, size[0] == '5' ? 1 << 20 : 8 << 20);
        const std::string image = convert(b, twin, std::string("-c -o cluster_size=") + size);
        EXPECT_GT(qemu_check(image).compressed_clusters, 0U);
        read_and_write(b, image, twin, 20);
    }
}

TYPED_TEST(from_qemu, preallocated) {
    GAUR_NEEDS_QEMU_IMG();
    GAUR_NEEDS_BACKEND(TypeParam, io);
    bench<TypeParam> b(*io);
    for (const char* how : {"metadata", "falloc", "full"}) {
        SCOPED_TRACE(how);
        const std::string image = b.path("image.qcow2");
        expect_runs(std::string("qemu-img create -q -f qcow2 -o cluster_size=4k,preallocation=") +
                    how + ' ' + image + " 3M");
        std::vector<std::byte> twin(3 << 20);
        read_and_write(b, image, twin);
    }
}

TYPED_TEST(from_qemu, zero_clusters) {
    GAUR_NEEDS_QEMU_IMG();
    GAUR_NEEDS_BACKEND(TypeParam, io);
    bench<TypeParam> b(*io);
    std::vector<std::byte> twin = some_content(8, 4 << 20);
    const std::string image = convert(b, twin, "-o cluster_size=4k");
    // With a host cluster kept, without one, and both over data.
    expect_runs("qemu-io -f qcow2 -c 'write -z 100k 200k' -c 'write -z -u 1M 300k' " + image);
    std::fill_n(twin.begin() + 100 * 1024, 200 * 1024, std::byte{0});
    std::fill_n(twin.begin() + (1 << 20), 300 * 1024, std::byte{0});
    read_and_write(b, image, twin, 100);
}

TYPED_TEST(from_qemu, backing_chain) {
    GAUR_NEEDS_QEMU_IMG();
    GAUR_NEEDS_BACKEND(TypeParam, io);
    bench<TypeParam> b(*io);
    const auto create = [&](const char* name, const char* on, const char* format,
                            const char* options, const char* size) {
        expect_runs("qemu-img create -q -f qcow2 -b " + std::string(on) + " -F " + format + " -o " +
                    options + ' ' + b.path(name) + ' ' + size);
    };
    // The lowest is the longest: what the middle cuts off must not become visible again.
    std::vector<std::byte> twin = some_content(9, 3 << 20);
    write_file(b.path("a.raw"), twin);
    create("b.qcow2", "a.raw", "raw", "cluster_size=64k", "1000k");
    create("c.qcow2", "b.qcow2", "qcow2", "cluster_size=512", "2M");
    expect_runs("qemu-io -f qcow2 -c 'write -P 5 300k 100k' -c 'write -z 50k 20k' " +
                b.path("b.qcow2"));
    expect_runs("qemu-io -f qcow2 -c 'write -P 6 350k 10k' -c 'write -z 500k 4k' " +
                b.path("c.qcow2"));
    twin.resize(1000 * 1024);
    twin.resize(2 << 20);
    const auto fill = [&](std::size_t at, std::size_t size, int with) {
        std::fill_n(twin.begin() + static_cast<std::ptrdiff_t>(at * 1024), size * 1024,
                    static_cast<std::byte>(with));
    };
    fill(300, 100, 5);
    fill(50, 20, 0);
    fill(350, 10, 6);
    fill(500, 4, 0);
    read_and_write(b, b.path("c.qcow2"), twin, 120);
}

/// The content of a snapshot does not change, whatever is written over it.
TYPED_TEST(from_qemu, internal_snapshots) {
    GAUR_NEEDS_QEMU_IMG();
    GAUR_NEEDS_BACKEND(TypeParam, io);
    bench<TypeParam> b(*io);
    for (const char* options : {"-o cluster_size=512,refcount_bits=8", "-o cluster_size=64k",
                                "-c -o cluster_size=4k", "-o compat=0.10,cluster_size=4k"}) {
        SCOPED_TRACE(options);
        std::vector<std::byte> twin = some_content(10, 2 << 20);
        const std::string image = convert(b, twin, options);
        std::vector<std::vector<std::byte>> kept;
        for (std::uint32_t round = 0; round < 3; ++round) {
            expect_runs("qemu-img snapshot -c s" + std::to_string(round) + ' ' + image);
            kept.push_back(twin);
            b.write(image, twin, load::random(round + 50, twin.size(), 40, 60'000));
        }
        b.expect_holds(image, twin);
        for (std::size_t i = 0; i < kept.size(); ++i) {
            const std::string raw = b.path("snapshot.raw");
            expect_runs("qemu-img convert -f qcow2 -l snapshot.name=s" + std::to_string(i) +
                        " -O raw " + image + ' ' + raw);
            EXPECT_TRUE(read_file(raw) == kept[i]) << "snapshot s" << i;
        }
        // QEMU applies one snapshot and deletes the others: every refcount must be right.
        expect_runs("qemu-img snapshot -a s1 " + image);
        expect_runs("qemu-img snapshot -d s0 " + image + " && qemu-img snapshot -d s2 " + image);
        b.expect_holds(image, kept[1]);
        b.write(image, kept[1], load::random(60, twin.size(), 40, 60'000));
        b.expect_holds(image, kept[1]);
    }
}

/// A bitmap that gaur does not maintain is stale once gaur writes. Its autoclear bit is cleared,
/// and only if the options allow it to be invalidated.
TYPED_TEST(from_qemu, bitmaps) {
    GAUR_NEEDS_QEMU_IMG();
    GAUR_NEEDS_BACKEND(TypeParam, io);
    bench<TypeParam> b(*io);
    std::vector<std::byte> twin = some_content(11, 2 << 20);
    const std::string image = convert(b, twin, "-o cluster_size=4k");
    expect_runs("qemu-img bitmap --add " + image + " one");
    expect_runs("qemu-io -f qcow2 -c 'write -P 9 1M 200k' " + image);
    std::fill_n(twin.begin() + (1 << 20), 200 * 1024, std::byte{9});
    b.expect_holds(image, twin);
    const std::vector<std::byte> before = read_file(image);
    const auto refused = b.disks.open(image, {.write = true});
    EXPECT_TRUE(!refused && refused.error() == errc::bitmaps_present);
    EXPECT_TRUE(read_file(image) == before);
    b.write(image, twin, load::random(1, twin.size(), 20, 60'000),
            {.bitmaps = qcow2::bitmaps::invalidate});
    b.expect_qemu_holds(image, twin);
    // The bitmap's clusters leak now; nothing is corrupt.
    const qemu_verdict v = qemu_check(image);
    EXPECT_EQ(v.corruptions, 0U) << v.said;
    const auto report = b.disks.check(image);
    ASSERT_TRUE(report);
    expect_same_verdict(*report, v);
}

} // namespace
} // namespace gaur::test
