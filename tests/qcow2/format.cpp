// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/format.hpp>

#include "support/memory_image.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace gaur::test {
namespace {

static_assert(device::AllocatingFormat<memory_images::format_type>);

class format_test : public ::testing::Test {
  protected:
    void create(qcow2::create_options how = {.size = 4 << 20, .cluster_bits = 12}) {
        images.create("i", how);
        open();
    }
    void open() {
        auto loaded = images.load("i", {.write = true, .grow_ahead = 0, .count_ahead = 0});
        ASSERT_TRUE(loaded) << loaded.error().message();
        f = *std::move(loaded);
    }
    result<void> commit() { return images.wait(commit_once(images.shard, *f)); }
    /// Maps a cluster, as a write would.
    device::grant map(std::uint64_t at) {
        images.resolved(*f, [=, this] { return f->plan_write({at}, 4096); });
        const auto g = images.resolved(*f, [this] { return f->take({0}, {1}); });
        EXPECT_TRUE(g.status);
        images.set("i", (g.first.value + 1) * 4096 - 8, 1); // its data
        const auto l = images.resolved(*f, [&] { return f->link({at}, g, false); });
        EXPECT_TRUE(l.status);
        return g;
    }
    std::uint64_t flushes() { return images.counters().requests(io::opcode::flush); }

    static async::task<void> commit_once(memory_images::shard_type&,
                                         memory_images::format_type& f) {
        auto durable = f.commit();
        result<void> r = co_await durable;
        co_return r;
    }

    memory_images images;
    std::unique_ptr<memory_images::format_type> f;
};

TEST_F(format_test, a_commit_costs_what_it_has_to) {
    create();
    images.reset_counters();
    ASSERT_TRUE(commit());
    EXPECT_EQ(flushes(), 0U) << "nothing was written";
    f->note_write();
    ASSERT_TRUE(commit());
    EXPECT_EQ(flushes(), 1U) << "data only";
    map(0);
    ASSERT_TRUE(commit());
    EXPECT_EQ(flushes(), 3U) << "counts, then mappings";
    ASSERT_TRUE(commit());
    EXPECT_EQ(flushes(), 3U);
}

/// After every prefix of a commit, refcounts are no lower than the references.
TEST_F(format_test, a_commit_that_stops_anywhere_only_leaks) {
    for (std::uint64_t nth = 1; nth <= 8; ++nth) {
        create();
        map(0);
        map(3 << 20);
        images.io.fail({.nth = nth, .code = io::opcode::write, .from_then_on = true});
        const bool committed = commit().has_value();
        images.io.forget_rules();
        f.reset();
        const auto v = images.check("i");
        EXPECT_EQ(v.corruptions, 0U) << v.first << ", write " << nth;
        if (committed) { EXPECT_EQ(v.leaks, 0U); }
    }
}

TEST_F(format_test, a_commit_that_could_not_write_is_made_good_by_the_next) {
    std::uint64_t nth = 1;
    for (bool failed = true; failed; ++nth) {
        create();
        map(0);
        map(3 << 20);
        const std::uint64_t before = images.io.injected();
        images.io.fail({.nth = nth, .code = io::opcode::write, .host_errno = ENOSPC});
        const result<void> first = commit();
        failed = images.io.injected() != before;
        images.io.forget_rules();
        EXPECT_EQ(first.has_value(), !failed);
        if (failed) { EXPECT_EQ(first.error().host_errno(), ENOSPC); }
        EXPECT_EQ(images.check("i").corruptions, 0U);
        EXPECT_TRUE(commit()) << "write " << nth;
        const auto v = images.check("i");
        EXPECT_EQ(v.corruptions + v.leaks, 0U) << v.first << ", write " << nth;
        EXPECT_TRUE(images.wait(f->close()));
        f.reset();
    }
    EXPECT_GT(nth, 3U);
}

TEST_F(format_test, a_commit_whose_barrier_failed_fails_all_later_ones) {
    create();
    map(0);
    images.io.fail({.nth = 1, .code = io::opcode::flush});
    EXPECT_EQ(commit().error().host_errno(), EIO);
    images.io.forget_rules();
    EXPECT_TRUE(commit().error() == errc::poisoned);
    EXPECT_TRUE(images.wait(f->close()).error() == errc::poisoned);
}

/// A cluster that is no longer mapped may still be read by requests that began earlier.
TEST_F(format_test, dropped_clusters_wait_for_readers) {
    create();
    const device::grant given = images.resolved(*f, [this] { return f->take({0}, {1}); });
    const auto reader = f->enter();
    f->give_back(given);
    ASSERT_TRUE(commit());
    ASSERT_TRUE(commit());
    const device::grant other = images.resolved(*f, [this] { return f->take({0}, {1}); });
    EXPECT_NE(other.first.value, given.first.value);
    f->leave(reader);
    ASSERT_TRUE(commit());
    const device::grant again = images.resolved(*f, [this] { return f->take({0}, {1}); });
    EXPECT_EQ(again.first.value, given.first.value);
}

TEST_F(format_test, close_gives_back_what_was_dropped) {
    create();
    f->give_back(images.resolved(*f, [this] { return f->take({0}, {3}); }));
    ASSERT_TRUE(images.wait(f->close()));
    f.reset();
    EXPECT_EQ(images.check("i").leaks, 0U);
}

TEST_F(format_test, lazy_refcounts_are_dirty_until_closed) {
    create({.size = 4 << 20, .cluster_bits = 12, .lazy_refcounts = true});
    EXPECT_FALSE(images.header("i").is_dirty());
    map(0);
    ASSERT_TRUE(commit());
    EXPECT_TRUE(images.header("i").is_dirty());
    const std::uint64_t before = flushes();
    map(4096);
    ASSERT_TRUE(commit());
    EXPECT_LE(flushes() - before, 2U);
    ASSERT_TRUE(images.wait(f->close()));
    f.reset();
    EXPECT_FALSE(images.header("i").is_dirty());
    const auto v = images.check("i");
    EXPECT_EQ(v.corruptions, 0U) << v.first;
    EXPECT_EQ(v.leaks, 0U);
}

bool fill_with_seven(std::span<const std::byte> from, std::span<std::byte> to) {
    std::ranges::fill(to, std::byte{7});
    return from.size() == 700 && from[0] == std::byte{0x55};
}

TEST_F(format_test, inflates_by_the_function_that_it_was_given) {
    images.create("i", {.size = 1 << 20, .cluster_bits = 12});
    images.set_bytes("i", [&] {
        auto bytes = images.bytes("i");
        bytes.resize(1 << 20, std::byte{0x55});
        return bytes;
    }());
    device::extent e;
    e.host = {0x80000};
    e.stored = 700;
    std::vector<std::byte> cluster(4096);
    auto with = images.load("i", {.inflate = &fill_with_seven});
    ASSERT_TRUE(with);
    EXPECT_TRUE(images.wait((*with)->inflate(e, cluster)));
    EXPECT_EQ(cluster[4095], std::byte{7});
    e.stored = 600;
    EXPECT_TRUE(images.wait((*with)->inflate(e, cluster)).error() == errc::compressed_data);
    auto without = images.load("i", {});
    ASSERT_TRUE(without);
    EXPECT_TRUE(images.wait((*without)->inflate(e, cluster)).error() == errc::no_decompressor);
}

TEST_F(format_test, read_only_answers_nothing_in_place) {
    create();
    map(0);
    ASSERT_TRUE(images.wait(f->close()));
    f.reset();
    images.reset_counters();
    auto loaded = images.load("i", {});
    ASSERT_TRUE(loaded);
    const auto l = images.resolved(**loaded, [&] { return (*loaded)->locate({0}, 4096); });
    EXPECT_EQ(l.what.kind, device::mapping::data);
    EXPECT_FALSE(l.what.in_place);
    EXPECT_FALSE((*loaded)->is_writable());
    EXPECT_TRUE(images.wait((*loaded)->close()));
    EXPECT_EQ(images.counters().requests(io::opcode::write), 0U);
    EXPECT_EQ(flushes(), 0U);
}

} // namespace
} // namespace gaur::test
