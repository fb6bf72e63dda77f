// SPDX-License-Identifier: BSL-1.0
// How disks are stored: image.block_status and gaur-img's map, compare and convert against
// qemu-img, and their cost.
#include "support/gaur_img.hpp"
#include "support/qemu_img.hpp"

#include <gaur/async/sync_wait.hpp>
#include <gaur/exec/inline.hpp>
#include <gaur/io/seeded.hpp>
#include <gaur/io/sync.hpp>
#include <gaur/qcow2/image.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cinttypes>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace gaur::test {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool takes_memory_for_itself = true;
#elif defined(__has_feature)
constexpr bool takes_memory_for_itself =
    __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
constexpr bool takes_memory_for_itself = false;
#endif

class gaur_img_block_status : public gaur_img {
  protected:
    std::uint64_t bytes(const std::string& name) const {
        return std::filesystem::file_size(file(name));
    }
    void expect_same_map(const std::string& image) const {
        EXPECT_EQ(ours("map --output=json " + image), qemu("map --output=json " + image)) << image;
        const said human = qemu("map " + image);
        if (human.exit_code == 0) { EXPECT_EQ(ours("map " + image), human) << image; }
        EXPECT_EQ(ours("map -s 100k -l 300k --output=json " + image),
                  qemu("map -s 100k -l 300k --output=json " + image))
            << image;
    }
    void expect_same_compare(const std::string& two) const {
        EXPECT_EQ(ours("compare " + two), qemu("compare " + two)) << two;
        EXPECT_EQ(ours("compare -s " + two), qemu("compare -s " + two)) << two;
    }
    /// Images of every kind, named after their kind.
    std::vector<std::string> make_images() const {
        prepare("head -c 300000 /dev/urandom > sparse.raw && truncate -s 1M sparse.raw && "
                "head -c 70000 /dev/urandom >> sparse.raw && truncate -s 2M sparse.raw && "
                "head -c 1000 /dev/urandom > odd.raw && cp odd.raw holed.raw && "
                "truncate -s 100001 holed.raw && truncate -s 12345 hole.raw");
        prepare("qemu-img create -q -f qcow2 plain.qcow2 4M && "
                "qemu-io -c 'write -P 1 128k 8k' -c 'write -P 2 300k 4k' -c 'write 1M 1M' "
                "plain.qcow2 && cp plain.qcow2 zeroes.qcow2 && "
                "qemu-io -c 'write -z 64k 128k' -c 'write -z -u 1M 128k' -c 'discard 1280k 64k' "
                "zeroes.qcow2 && cp plain.qcow2 snapshot.qcow2 && "
                "qemu-img snapshot -c one snapshot.qcow2 && "
                "qemu-io -c 'write -P 9 1M 100k' snapshot.qcow2");
        for (const std::string how : {"metadata", "falloc", "full"}) {
            prepare("qemu-img create -q -f qcow2 -o preallocation=" + how + " " + how +
                    ".qcow2 4M && qemu-io -c 'write -P 1 128k 8k' -c 'write -P 2 300k 4k' " + how +
                    ".qcow2");
        }
        prepare("qemu-img convert -c -O qcow2 sparse.raw packed.qcow2 && "
                "qemu-img create -q -f qcow2 -o cluster_size=512 small.qcow2 1M && "
                "qemu-io -c 'write 3k 5k' -c 'write 700k 700' small.qcow2 && "
                "qemu-img create -q -f qcow2 -o compat=0.10,cluster_size=2M old.qcow2 9M && "
                "qemu-io -c 'write 4M 10k' old.qcow2");
        prepare("qemu-img create -q -f qcow2 -b odd.raw -F raw over_odd.qcow2 && "
                "qemu-img create -q -f qcow2 -b holed.raw -F raw over_holed.qcow2 1M && "
                "qemu-img create -q -f qcow2 -b sparse.raw -F raw over_raw.qcow2 5M && "
                "qemu-io -c 'write 256k 10k' -c 'write -z 0 70k' over_raw.qcow2 && "
                "qemu-img create -q -f qcow2 -b over_raw.qcow2 -F qcow2 top.qcow2 3M && "
                "qemu-io -c 'write 1M 64k' top.qcow2 && "
                "qemu-img create -q -f qcow2 -b metadata.qcow2 -F qcow2 over_metadata.qcow2 9M && "
                "qemu-io -c 'write 64k 64k' over_metadata.qcow2");
        std::vector<std::string> names;
        for (const auto& entry : std::filesystem::directory_iterator(file(""))) {
            names.push_back(entry.path().filename().string());
        }
        std::ranges::sort(names);
        return names;
    }
};

TEST_F(gaur_img_block_status, maps_what_qemu_img_maps) {
    const std::vector<std::string> images = make_images();
    EXPECT_EQ(images.size(), 18U);
    for (const std::string& image : images) { expect_same_map(image); }
}

TEST_F(gaur_img_block_status, compares_and_converts_without_loss) {
    for (const std::string& image : make_images()) {
        SCOPED_TRACE(image);
        expect_same_compare(image + " plain.qcow2");
        expect_same_compare("metadata.qcow2 " + image);
        for (const std::string how : {"-O raw", "-O qcow2", "-S 0 -O raw", "-m 1 -O qcow2"}) {
            prepare("rm -f x y");
            EXPECT_EQ(ours("convert " + how + " " + image + " x").exit_code, 0) << how;
            EXPECT_EQ(qemu("convert " + how + " " + image + " y").exit_code, 0) << how;
            EXPECT_EQ(qemu("compare -q x y").exit_code, 0) << how;
            EXPECT_EQ(ours("compare -q " + image + " x").exit_code, 0) << how;
            if (how.ends_with("raw")) { EXPECT_EQ(bytes("x"), bytes("y")) << how; }
        }
    }
}

TEST_F(gaur_img_block_status, converts_between_chains_with_a_backing_file) {
    make_images();
    for (const std::string source : {"over_raw.qcow2", "top.qcow2"}) {
        SCOPED_TRACE(source);
        prepare("rm -f x && cp " + source + " copy.qcow2");
        const std::string below = source == "top.qcow2" ? "-B over_raw.qcow2 -F qcow2"
                                                        : "-B sparse.raw -F raw";
        const said converted = ours("convert -O qcow2 " + below + " " + source + " x");
        EXPECT_EQ(converted.exit_code, 0) << converted.text;
        EXPECT_EQ(qemu("compare -q " + source + " x").exit_code, 0);
    }
}

/// `ulimit -t`: seconds of processor time, independent of other load.
TEST_F(gaur_img_block_status, steps_over_what_is_unallocated) {
    prepare("qemu-img create -q -f qcow2 a.qcow2 64T && qemu-img create -q -f qcow2 b.qcow2 64T && "
            "qemu-io -c 'write 63T 64k' b.qcow2 && "
            "qemu-img create -q -f qcow2 -b b.qcow2 -F qcow2 top.qcow2 64T");
    expect_same_map("top.qcow2");
    const std::string few = "ulimit -t 5 && ";
    EXPECT_EQ(shell(few + program() + " compare b.qcow2 top.qcow2").exit_code, 0);
    EXPECT_EQ(shell(few + program() + " compare a.qcow2 top.qcow2").exit_code, 1);
    EXPECT_EQ(shell(few + program() + " convert -O qcow2 top.qcow2 x").exit_code, 0);
    EXPECT_EQ(shell(few + program() + " compare b.qcow2 x").exit_code, 0);
}

TEST_F(gaur_img_block_status, reads_no_holes_of_mapped_clusters) {
    // Reading all of it, a quarter of a TiB, takes minutes.
    prepare("qemu-img create -q -f qcow2 -o preallocation=metadata,cluster_size=2M a.qcow2 256G && "
            "qemu-io -c 'write -P 5 200G 1M' a.qcow2 && "
            "qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 top.qcow2");
    const std::string few = "ulimit -t 10 && ";
    for (const std::string image : {"a.qcow2", "top.qcow2"}) {
        SCOPED_TRACE(image);
        prepare("rm -f x");
        EXPECT_EQ(shell(few + program() + " convert -O qcow2 " + image + " x").exit_code, 0);
        EXPECT_EQ(shell(few + program() + " compare " + image + " x").exit_code, 0);
        EXPECT_EQ(qemu("compare -q a.qcow2 x").exit_code, 0);
        EXPECT_LT(disk_bytes("x"), 8U << 20);
        expect_same_map(image);
    }
}

/// One L2 table whose entries alternate, named by every L1 entry: a small file, a large disk.
void make_alternating(const std::string& path, std::uint32_t tables) {
    std::vector<std::byte> bytes(6 * 65536);
    const auto put32 = [&](std::size_t at, std::uint32_t v) {
        store_be<std::uint32_t>(&bytes[at], v);
    };
    const auto put64 = [&](std::size_t at, std::uint64_t v) {
        store_be<std::uint64_t>(&bytes[at], v);
    };
    constexpr std::uint64_t cluster = 65536;
    put32(0, 0x514649fb);
    put32(4, 3);
    put32(20, 16);
    put64(24, tables * std::uint64_t{8192} * cluster);
    put32(36, tables);
    put64(40, 3 * cluster); // L1
    put64(48, cluster);     // refcount table
    put32(56, 1);
    put32(96, 4);
    put32(100, 104);
    put64(cluster, 2 * cluster);
    for (std::size_t c = 0; c < 6; ++c) { bytes[2 * cluster + 2 * c + 1] = std::byte{1}; }
    for (std::size_t i = 0; i < tables; ++i) { put64(3 * cluster + 8 * i, 4 * cluster); }
    for (std::size_t i = 0; i < 8192; i += 2) { put64(4 * cluster + 8 * i, 5 * cluster); }
    std::fill(bytes.end() - cluster, bytes.end(), std::byte{7});
    write_file(path, bytes);
}

TEST_F(gaur_img_block_status, takes_no_memory_for_the_size_of_the_disk) {
    if (takes_memory_for_itself) { GTEST_SKIP() << "the sanitizer takes more memory than this"; }
    make_alternating(file("a.qcow2"), 8192); // 4 TiB in 67 million runs
    EXPECT_EQ(qemu("map -l 1M --output=json a.qcow2"), ours("map -l 1M --output=json a.qcow2"));
    // Two million runs, with memory for some hundred thousand, if they had to be kept.
    const std::string tight = "ulimit -v 100000 && ";
    EXPECT_EQ(shell(tight + program() +
                    " map --backend sync -l 128G --output=json a.qcow2 > /dev/null").exit_code, 0);
    // The target is full at once. The test is that memory suffices to begin.
    prepare("qemu-img create -q -f qcow2 full.qcow2 4T");
    const said converted =
        shell("ulimit -f 20000 && " + tight + "trap '' XFSZ && " + program() +
              " convert --backend sync -n -O qcow2 a.qcow2 full.qcow2");
    EXPECT_EQ(converted.exit_code, 1);
    EXPECT_NE(converted.text.find("error while writing"), converted.text.npos) << converted.text;
}

TEST_F(gaur_img_block_status, a_raw_file_has_whole_sectors_for_everybody) {
    prepare("head -c 1000 /dev/urandom > a.raw && cp a.raw same.raw");
    const std::string virtual_size = "virtual size: 1 KiB (1024 bytes)";
    EXPECT_NE(ours("info a.raw").text.find(virtual_size), std::string::npos);
    expect_same_map("a.raw");
    std::vector<std::string> caches{""};
    if (qemu("convert -T none -O raw a.raw y").exit_code == 0) { caches.push_back("-T none "); }
    for (const std::string& cache : caches) {
        SCOPED_TRACE(cache);
        for (const std::string format : {"raw", "qcow2"}) {
            prepare("rm -f x y");
            EXPECT_EQ(ours("convert " + cache + "-O " + format + " a.raw x").exit_code, 0);
            EXPECT_EQ(qemu("convert " + cache + "-O " + format + " a.raw y").exit_code, 0);
            EXPECT_NE(qemu("info x").text.find(virtual_size), std::string::npos);
            EXPECT_EQ(ours("compare " + cache + "a.raw y"), qemu("compare " + cache + "a.raw y"));
            EXPECT_EQ(qemu("compare a.raw x"), (said{0, "Images are identical.\n"}));
            if (format == "raw") { EXPECT_EQ(bytes("x"), 1024U); }
        }
        prepare("rm -f top x y");
        EXPECT_EQ(ours("create -q -f qcow2 -b a.raw -F raw top").exit_code, 0);
        EXPECT_NE(qemu("info top").text.find(virtual_size), std::string::npos);
        expect_same_map("top");
        EXPECT_EQ(ours("compare " + cache + "top a.raw"), (said{0, "Images are identical.\n"}));
        EXPECT_EQ(ours("convert " + cache + "-O raw top x").exit_code, 0);
        EXPECT_EQ(bytes("x"), 1024U);
        EXPECT_EQ(qemu("compare -q a.raw x").exit_code, 0);
        EXPECT_EQ(bytes("a.raw"), 1000U) << "reading made it longer";
    }
    prepare("cmp a.raw same.raw");
}

TEST_F(gaur_img_block_status, writes_an_odd_raw_file_as_qemu_img_does) {
    prepare("head -c 1024 /dev/urandom > a.raw && head -c 1000 /dev/zero > ours.raw && "
            "cp ours.raw theirs.raw");
    EXPECT_EQ(ours("convert -n -f raw -O raw a.raw ours.raw"),
              qemu("convert -n -f raw -O raw a.raw theirs.raw"));
    EXPECT_EQ(bytes("ours.raw"), bytes("theirs.raw"));
    prepare("cmp ours.raw theirs.raw && cmp ours.raw a.raw");
}

/// What both report about a run. QEMU reports a cluster in a hole as zeroes if the image looks
/// preallocated to it; gaur reports data, as the tables say.
struct told {
    std::uint64_t start = 0;
    std::uint64_t size = 0;
    unsigned depth = 0;
    bool present = false;
    bool zero = false;
    bool data = false;
    std::optional<std::uint64_t> offset;
    friend bool operator==(const told&, const told&) = default;
    friend std::ostream& operator<<(std::ostream& to, const told& t) {
        return to << t.start << '+' << t.size << " depth " << t.depth << " present " << t.present
                  << " zero " << t.zero << " data " << t.data << " at " << t.offset.value_or(0);
    }
};

void add(std::vector<told>& all, told next) {
    next.zero = next.zero && !next.data;
    if (!all.empty()) {
        told& last = all.back();
        told grown = last;
        grown.size = next.size;
        grown.start = next.start;
        if (grown.offset) { *grown.offset += last.size; }
        if (last.start + last.size == next.start && grown == next) {
            last.size += next.size;
            return;
        }
    }
    all.push_back(next);
}

std::vector<told> qemu_told(const std::string& json) {
    std::vector<told> all;
    std::istringstream lines(json);
    for (std::string line; std::getline(lines, line);) {
        told t;
        char present[6];
        char zero[6];
        char data[6];
        const int fields = std::sscanf(
            line.c_str() + line.find('{'),
            "{ \"start\": %" SCNu64 ", \"length\": %" SCNu64 ", \"depth\": %u, \"present\": "
            "%5[a-z], \"zero\": %5[a-z], \"data\": %5[a-z]",
            &t.start, &t.size, &t.depth, present, zero, data);
        EXPECT_EQ(fields, 6) << line;
        t.present = std::string(present) == "true";
        t.zero = std::string(zero) == "true";
        t.data = std::string(data) == "true";
        if (const std::size_t at = line.find("\"offset\": "); at != line.npos) {
            t.offset = std::stoull(line.substr(at + 10));
        }
        add(all, t);
    }
    return all;
}

template <class Image, class Wait>
std::vector<told> gaur_told(Image& disk, Wait wait) {
    using device::mapping;
    device::block_walk walk(disk, {0}, disk.size());
    std::vector<told> all;
    const std::size_t depth = disk.engine().layers().depth();
    for (;;) {
        const result<device::block_run> run = wait(walk.next());
        EXPECT_TRUE(run) << run.error().message();
        if (!run || run->size == 0) { return all; }
        told t;
        t.start = run->at.value;
        t.size = run->size;
        t.depth = static_cast<unsigned>(run->layer);
        t.present = run->kind != mapping::unallocated;
        t.zero = run->reads_as_zeroes();
        // The lowest is raw.
        t.data = !t.zero || (run->in_hole && run->layer + 1 < depth);
        if (run->has_host) { t.offset = run->host.value; }
        add(all, t);
    }
}

TEST_F(gaur_img_block_status, of_random_chains) {
    io::sync::backend io;
    exec::inline_loop loop;
    for (std::uint64_t seed = 1; seed <= 12; ++seed) {
        SCOPED_TRACE(seed);
        io::seeded random(seed);
        prepare("rm -rf * && truncate -s " + std::to_string(1 + random.below(3 << 20)) + " 0");
        std::string format = "raw";
        for (std::uint64_t layer = 1; layer <= 3; ++layer) {
            const std::string name = std::to_string(layer);
            const std::string below = std::to_string(layer - 1);
            std::string writes;
            const std::string clusters =
                std::to_string(std::uint64_t{512} << random.below(8));
            prepare("qemu-img create -q -f qcow2 -o cluster_size=" + clusters + " -b " + below +
                    " -F " + format + " " + name + " " +
                    std::to_string(512 * (2048 + random.below(4096))));
            format = "qcow2";
            for (unsigned i = 0; i < 12; ++i) {
                static constexpr const char* verbs[] = {"write -P 5", "write -P 6", "write -z",
                                                        "write -z -u", "discard"};
                writes += " -c '" + std::string(verbs[random.below(5)]) + " " +
                          std::to_string(512 * random.below(1900)) + " " +
                          std::to_string(512 * (1 + random.below(140))) + "'";
            }
            prepare("qemu-io -f qcow2" + writes + " " + name);
            const auto wait = [&](auto task) {
                return sync_wait(io, loop.get_executor(), std::move(task));
            };
            auto disk = wait(qcow2::open(io, loop.get_executor(), file(name),
                                         {.references = qcow2::references::follow}));
            ASSERT_TRUE(disk) << disk.error().message();
            EXPECT_EQ(gaur_told(*disk, wait),
                      qemu_told(shell("qemu-img map -f qcow2 --output=json " + name).text));
        }
    }
}

} // namespace
} // namespace gaur::test
