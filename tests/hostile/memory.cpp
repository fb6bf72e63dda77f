// SPDX-License-Identifier: BSL-1.0
// How much memory an image can make a program hold: for each request in flight and for all of them,
// in caches, in tables, on the stack. The caller owns the requests. Those beyond what may be at
// work wait in the engine, and those beyond a backend's depth in its queue (its contract's line
// *never_full*), linked through the requests themselves.
#include "support/counting_new.hpp"
#include "support/crafted_image.hpp"

#include <gaur/async/sync_wait.hpp>
#include <gaur/exec/inline.hpp>
#include <gaur/io/memory.hpp>
#include <gaur/qcow2/check.hpp>
#include <gaur/qcow2/image.hpp>
#include <gaur/qcow2/zlib.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <optional>
#include <pthread.h>
#include <span>
#include <string>
#include <sys/resource.h>
#include <unistd.h>
#include <vector>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define GAUR_TEST_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define GAUR_TEST_SANITIZED 1
#endif
#endif

namespace gaur::test {
namespace {

namespace field = qcow2::layout::field;

class hostile_memory : public ::testing::Test {
  public:
    using image = qcow2::image<io::memory::backend, exec::inline_loop::executor>;
    static constexpr std::uint64_t copied_cluster = 65'536;

    template <class T>
    result<T> wait(async::task<T> task) {
        return async::sync_wait(io, loop.get_executor(), std::move(task));
    }
    image open(const qcow2::open_options& how) {
        auto opened = wait(qcow2::open(io, loop.get_executor(), "image", how));
        EXPECT_TRUE(opened) << opened.error().message();
        return *std::move(opened);
    }
    void set(const std::string& name, const std::vector<std::byte>& bytes) {
        io.set_content(name, io::sparse_bytes(bytes));
    }
    result<void> read(image& disk, std::uint64_t at) {
        std::byte byte[1];
        auto r = disk.read({at}, byte);
        return async::sync_wait(r);
    }

    /// An image over a raw file, with free clusters for `count` copies that are already in the
    /// file: the content of the file in memory does not matter.
    image open_to_copy(std::size_t count, qcow2::open_options how) {
        crafted_image made(
            {.cluster_bits = 16, .backing_file = "base", .backing_format = "raw"});
        const std::uint64_t begin = made.take(count + 80);
        for (std::uint64_t at = begin; at < made.end(); at += made.cluster()) {
            made.set_refcount(at / made.cluster(), 0);
            made.bytes[at] = std::byte{1};
        }
        set("image", made.bytes);
        io.set_content("base", io::sparse_bytes());
        io.content("base").truncate(std::uint64_t{1} << 30);
        how.write = true;
        how.bitmaps = qcow2::bitmaps::invalidate;
        how.references = qcow2::references::follow;
        how.inflate = &qcow2::zlib_inflate;
        return open(how);
    }

    /// Peak heap in bytes for `count` requests that are in flight together, each to its own
    /// cluster.
    std::size_t heap_of(image& disk, device::verb what, std::size_t count) {
        std::vector<std::byte> buffer(512);
        std::vector<std::optional<image::request>> requests(count);
        const peak_in_scope memory;
        for (std::size_t n = 0; n < count; ++n) {
            requests[n].emplace(disk.engine(), what, guest_offset{n * copied_cluster + 1024},
                                std::span(buffer));
            requests[n]->start(&on_end, nullptr);
        }
        EXPECT_EQ(disk.in_flight(), count);
        while (io.in_flight() != 0) { io.wait(); }
        EXPECT_EQ(disk.in_flight(), 0U);
        return memory.bytes();
    }
    static void on_end(void*, result<void> status) noexcept {
        EXPECT_TRUE(status) << status.error().message();
    }

    /// In a process of its own: limits the address space for the whole work to `more` bytes beyond
    /// the current size, and exits with 0 if they were enough.
    [[noreturn]] void use_all_tables_within(std::size_t more) {
        std::FILE* const statm = std::fopen("/proc/self/statm", "r");
        unsigned long pages = 0;
        const bool known = statm != nullptr && std::fscanf(statm, "%lu", &pages) == 1;
        const rlim_t most = pages * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE)) + more;
        const rlimit limit{most, most};
        if (!known || ::setrlimit(RLIMIT_AS, &limit) != 0) { ::_exit(2); }
        const auto found = wait(qcow2::check(io, loop.get_executor(), "image"));
        if (!found || found->check_errors != 0) { ::_exit(3); }
        for (const bool write : {false, true}) {
            auto disk = wait(qcow2::open(io, loop.get_executor(), "image",
                                         {.write = write, .bitmaps = qcow2::bitmaps::invalidate}));
            if (!disk || !read(*disk, 0) || !wait(disk->close())) { ::_exit(4); }
        }
        ::_exit(0);
    }

    io::memory::backend io{{.deferred = true}};
    exec::inline_loop loop;
};

/// A coroutine's frame and the operations in it, slices of tables, a cluster for copy on write.
TEST_F(hostile_memory, of_each_request_in_flight) {
    constexpr std::size_t count = 256;
    auto disk = open_to_copy(count, {});
    const std::size_t to_read = heap_of(disk, device::verb::read, count) / count;
    const std::size_t to_write = heap_of(disk, device::verb::write, count) / count;
    std::cout << "a read: " << to_read << " bytes of heap, a copying write: " << to_write << '\n';
    EXPECT_LT(to_read, 8192U);
    EXPECT_LT(to_write, 2 * copied_cluster + 16'384);
    EXPECT_TRUE(wait(disk.close()));
}

/// The bound holds for any number of requests: further ones wait for their turn.
TEST_F(hostile_memory, of_all_requests_in_flight) {
    constexpr std::size_t count = 2000;
    constexpr std::size_t most = std::size_t{4} << 20;
    auto disk = open_to_copy(count, {.request_bytes = most});
    EXPECT_LT(heap_of(disk, device::verb::write, count), most + (1 << 20)); // and slices
    EXPECT_TRUE(wait(disk.close()));
}

/// A backing file's clusters may be 4,096 times as large as the image's. Each is inflated whole.
TEST_F(hostile_memory, of_requests_over_larger_clusters) {
    constexpr std::uint64_t large = std::uint64_t{2} << 20;
    constexpr std::size_t most = std::size_t{64} << 20;
    constexpr std::size_t count = 60;
    crafted_image below({.cluster_bits = 21});
    const std::vector<std::byte> stream = crafted_image::deflated(std::vector<std::byte>(large));
    const std::uint64_t at = below.take(1);
    std::ranges::copy(stream, below.bytes.begin() + static_cast<std::ptrdiff_t>(at));
    for (std::uint64_t c = 0; c < count; ++c) {
        below.set(below.entry(c), below.packed_entry(at, stream.size()));
    }
    set("below", below.bytes);
    crafted_image top({.cluster_bits = 9, .backing_file = "below", .backing_format = "qcow2"});
    const std::uint64_t reach = top.header().tables().l1_reach();
    const std::uint64_t entries = count * large / reach;
    const std::uint64_t l1 = top.take((entries * 8 + 511) / 512);
    top.set(field::l1_table_offset, l1);
    top.set<std::uint32_t>(field::l1_size, static_cast<std::uint32_t>(entries));
    top.set(field::size, entries * reach);
    set("image", top.bytes);
    below.bytes = {};
    auto disk = open({.references = qcow2::references::follow,
                      .request_bytes = most,
                      .inflate = &qcow2::zlib_inflate});
    std::vector<std::byte> buffer(512);
    std::vector<std::optional<image::request>> requests(count);
    const peak_in_scope memory;
    for (std::size_t n = 0; n < count; ++n) {
        requests[n].emplace(disk.engine(), device::verb::read, guest_offset{n * large + 1024},
                            std::span(buffer));
        requests[n]->start(&on_end, nullptr);
    }
    EXPECT_EQ(disk.in_flight(), count);
    while (io.in_flight() != 0) { io.wait(); }
    EXPECT_EQ(disk.in_flight(), 0U);
    std::cout << "all of them: " << memory.bytes() / 1024 << " KiB\n";
    EXPECT_LT(memory.bytes(), most + (1 << 20)); // and slices
    EXPECT_GT(memory.bytes(), 8 * large) << "several are at work together";
    EXPECT_TRUE(wait(disk.close()));
}

/// The maximum number of L2 tables, each read: the caches keep only what the program allows.
TEST_F(hostile_memory, of_caches) {
    constexpr std::uint64_t tables = 4096;
    constexpr std::size_t cache = std::size_t{1} << 20;
    crafted_image made;
    const std::uint64_t cluster = made.cluster();
    const std::uint64_t l1 = made.take(tables * 8 / cluster);
    const std::uint64_t first = made.end();
    for (std::uint64_t n = 0; n < tables; ++n) { made.set(l1 + n * 8, first + n * cluster); }
    made.set(field::l1_table_offset, l1);
    made.set<std::uint32_t>(field::l1_size, tables);
    made.set(field::size, tables * made.header().tables().l1_reach());
    set("image", made.bytes);
    io.content("image").truncate(first + tables * cluster);
    const peak_in_scope memory;
    auto disk = open({.cache_bytes = cache});
    for (std::uint64_t n = 0; n < tables; ++n) {
        EXPECT_TRUE(read(disk, n * made.header().tables().l1_reach()));
    }
    const auto& slices = disk.engine().top().slices();
    EXPECT_EQ(slices.loads(), tables);
    EXPECT_LE(slices.resident() * slices.slice_size(), cache);
    EXPECT_LT(memory.bytes(), cache + (256 << 10));
    EXPECT_TRUE(wait(disk.close()));
}

/// The largest tables that an image may have are read, checked and written to in a process that may
/// take 64 MiB more than it has.
TEST_F(hostile_memory, of_a_process) {
#ifdef GAUR_TEST_SANITIZED
    GTEST_SKIP() << "a sanitizer takes all address space for itself";
#else
    crafted_image made({.cluster_bits = 16});
    const std::uint64_t l1 = made.end();
    const std::uint64_t refcounts = l1 + qcow2::layout::max_l1_bytes;
    made.set(refcounts, made.refcount_block);
    made.set(l1, made.get(made.l1));
    made.set(field::l1_table_offset, l1);
    made.set<std::uint32_t>(field::l1_size, qcow2::layout::max_l1_entries);
    made.set(field::refcount_table_offset, refcounts);
    made.set<std::uint32_t>(field::refcount_table_clusters,
                            qcow2::layout::max_refcount_table_bytes >> 16);
    set("image", made.bytes);
    io.content("image").truncate(refcounts + qcow2::layout::max_refcount_table_bytes);
    made.bytes = {};
    EXPECT_EXIT(use_all_tables_within(std::size_t{64} << 20), ::testing::ExitedWithCode(0), "");
#endif
}

/// The maximum number of distinct L2 tables of snapshots that a writer loads, and the maximum
/// number of snapshots, with an L1 table each.
TEST_F(hostile_memory, of_the_tables_of_snapshots) {
    constexpr std::uint64_t snapshots = 65'536;
    constexpr std::uint64_t each = 32; // entries: 16 MiB in all
    constexpr std::uint64_t entry = 64; // bytes in the snapshot table, with disk size
    crafted_image made({.cluster_bits = 9});
    const std::uint64_t table = made.end();
    const std::uint64_t l1 = table + snapshots * entry;
    const std::uint64_t first = l1 + snapshots * 512;
    made.bytes.resize(first);
    for (std::uint64_t n = 0; n < snapshots; ++n) {
        // The last table in the file comes first.
        const std::uint64_t at = l1 + (snapshots - 1 - n) * 512;
        made.set(table + n * entry, at);
        made.set<std::uint32_t>(table + n * entry + 8, each);
        made.set<std::uint32_t>(table + n * entry + 36, 24);
        for (std::uint64_t i = 0; i < each; ++i) {
            made.set(at + i * 8, first + (n * each + i) * 512);
        }
    }
    made.set<std::uint32_t>(field::nb_snapshots, snapshots);
    made.set(field::snapshots_offset, table);
    set("image", made.bytes);
    io.content("image").truncate(first + snapshots * each * 512);
    made.bytes = {};
    io.reset_counters();
    const peak_in_scope memory;
    auto disk = open({.write = true, .bitmaps = qcow2::bitmaps::invalidate});
    std::cout << "to open it: " << memory.bytes() / 1024 << " KiB of heap, "
              << io.counters().requests(io::opcode::read) << " reads\n";
    EXPECT_LT(memory.bytes(), std::size_t{64} << 20);
    EXPECT_TRUE(wait(disk.close()));
}

/// A chain far longer than the default allows, opened and read through on a small stack.
TEST_F(hostile_memory, of_the_stack) {
    constexpr unsigned files = 500;
    for (unsigned n = 0; n < files; ++n) {
        const std::string next = n + 1 < files ? "f" + std::to_string(n + 1) : "";
        const std::string name = n == 0 ? "image" : "f" + std::to_string(n);
        set(name, crafted_image({.cluster_bits = 9,
                                 .backing_file = next,
                                 .backing_format = next.empty() ? "" : "qcow2"})
                      .bytes);
    }
    pthread_attr_t how;
    ASSERT_EQ(::pthread_attr_init(&how), 0);
    ASSERT_EQ(::pthread_attr_setstacksize(&how, 256 << 10), 0);
    const auto body = [](void* self) -> void* {
        auto& test = *static_cast<hostile_memory*>(self);
        auto disk = test.wait(qcow2::open(test.io, test.loop.get_executor(), "image",
                                          {.references = qcow2::references::follow,
                                           .max_depth = files,
                                           .cache_bytes = 4096}));
        EXPECT_TRUE(disk);
        if (!disk) { return nullptr; }
        EXPECT_TRUE(test.read(*disk, crafted_image::hole * 512));
        EXPECT_TRUE(test.wait(disk->close()));
        return nullptr;
    };
    pthread_t thread;
    ASSERT_EQ(::pthread_create(&thread, &how, body, this), 0);
    ::pthread_join(thread, nullptr);
    ::pthread_attr_destroy(&how);
}

} // namespace
} // namespace gaur::test
