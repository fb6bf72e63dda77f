// SPDX-License-Identifier: BSL-1.0
// Races with a failed, late or cancelled completion: errors, dropped clusters, flushes, growing
// tables, close. The table of all races is at the top of races.cpp.
#include "support/held_points.hpp"
#include "support/orderings.hpp"

#include <gaur/base/bytes.hpp>

#include <array>
#include <cerrno>
#include <memory>

namespace gaur::test {
namespace {

using async::point;
constexpr std::uint64_t cluster = stage<>::cluster;
constexpr std::uint64_t sector = 512;
constexpr std::uint64_t copied = std::uint64_t{1} << 63;

template <class Order>
struct endings : ::testing::Test {
    using stage_type = stage<Order>;
    using pending = typename stage_type::pending;

    static void warm_up(stage_type& s) {
        s.create_and_open();
        s.write(s.plan.size - 1, 1, 9);
        s.drain();
    }
    static void lay_below(stage_type& s, std::uint64_t size) {
        s.io.inner().set_content("below",
                                 io::sparse_bytes(std::vector<std::byte>(size, std::byte{1})));
        s.plan.backing_file = "below";
        s.plan.backing_format = "raw";
    }
    /// A disk at rest whose clusters 0 to `count - 1` hold their number plus 1, after `change`.
    template <class F>
    static io::memory::disk filled(std::uint64_t count, F change) {
        stage_type s;
        s.create_and_open();
        for (std::uint64_t c = 0; c < count; ++c) {
            s.write(c * cluster, cluster, static_cast<unsigned char>(c + 1));
            s.drain();
        }
        s.expect_clean_close();
        s.rewrite(change);
        return s.io.inner().snapshot();
    }
    static void compress_all(reference_image& file) {
        file.compress([] { return true; });
    }
    static void start_from(stage_type& s, const io::memory::disk& files) {
        s.io.inner().restore(files);
        const result<void> opened = s.open();
        ASSERT_TRUE(opened) << opened.error().message();
    }
    /// Changes the L2 entry of guest cluster `c` in the file, in the table of the first L1 entry.
    static void change_entry(stage_type& s, std::uint64_t c, std::uint64_t clear,
                             std::uint64_t set) {
        std::vector<std::byte> bytes = reference_image(s.io.inner().content("top").bytes()).bytes();
        const auto l1 = load_be<std::uint64_t>(bytes.data() + 40);
        const auto table = load_be<std::uint64_t>(bytes.data() + l1) & ~copied;
        std::byte* entry = bytes.data() + table + c * 8;
        store_be<std::uint64_t>(entry, (load_be<std::uint64_t>(entry) & ~clear) | set);
        s.io.inner().set_content("top", io::sparse_bytes(bytes));
    }
    /// Waits until only the oldest `left` operations are at the backend. Needs newest_first.
    static void drain_but(stage_type& s, unsigned left) {
        while (s.io.in_flight() > left) { s.io.wait(); }
    }
    /// Lowers the refcounts of dropped references, takes what is free and overwrites it.
    static void use_what_is_free(stage_type& s, unsigned left) {
        for (int i = 0; i < 3; ++i) {
            s.flush();
            drain_but(s, left);
        }
        for (std::uint64_t c = 100; c < 140; ++c) { s.write(c * cluster, cluster, 0xcc); }
        drain_but(s, left);
    }
    static bool is_full_of(const std::vector<std::byte>& data, int value) {
        return data == std::vector<std::byte>(data.size(), static_cast<std::byte>(value));
    }
    static std::size_t failures(const stage_type& s) {
        std::size_t failed = 0;
        for (const pending& p : s.requests) { failed += p.ended && !p.status ? 1 : 0; }
        return failed;
    }
    static void expect_all_ended(const stage_type& s) {
        for (const pending& p : s.requests) { EXPECT_TRUE(p.ended) << "it hangs"; }
    }
};
TYPED_TEST_SUITE(endings, orderings, ordering_name);

// T6, T7: wherever the first write fails, the second allocates for itself, and nothing leaks.
TYPED_TEST(endings, a_parent_that_fails_anywhere) {
    struct mishap {
        point at;
        std::optional<io::opcode> code;
        int host_errno;
    };
    const mishap all[] = {{point::cow_read, {}, 0},
                          {point::cow_write, {}, 0},
                          {point::l2_update, {}, 0},
                          {point::cow_read, io::opcode::read, EIO},
                          {point::cow_write, io::opcode::write, EIO},
                          {point::cow_write, io::opcode::write, ENOSPC}};
    for (const mishap& m : all) {
        typename TestFixture::stage_type s({.deferred = true},
                                           {.order = io::fault::order::oldest_first});
        this->lay_below(s, s.plan.size);
        this->warm_up(s);
        s.points.shut(m.at, 1);
        const auto& parent = s.write(sector, sector, 0xa1);
        s.drain();
        ASSERT_EQ(s.points.held(m.at), 1U);
        const auto& other = s.write(4 * sector, sector, 0xb2);
        s.drain();
        EXPECT_FALSE(parent.ended || other.ended);
        if (m.code) {
            s.io.fail({.nth = 1, .code = m.code, .host_errno = m.host_errno});
        } else {
            s.points.fail(m.at, errc::injected);
        }
        s.points.open(m.at);
        s.drain();
        ASSERT_TRUE(parent.ended && other.ended) << "it hangs";
        ASSERT_FALSE(parent.status);
        EXPECT_TRUE(m.code ? parent.status.error().host_errno() == m.host_errno
                           : parent.status.error() == errc::injected);
        EXPECT_TRUE(other.status) << "it has inherited the error";
        EXPECT_EQ(s.value(0, 4 * sector), 1);
        EXPECT_EQ(s.value(4 * sector, sector), 0xb2);
        EXPECT_EQ(s.value(5 * sector, 3 * sector), 1);
        s.expect_clean_close();
    }
}

// T6, T21: the refcounts that both need cannot be loaded for the first.
TYPED_TEST(endings, refcounts_that_fail_to_load_for_one) {
    const io::memory::disk files = this->filled(1, [](reference_image&) {});
    typename TestFixture::stage_type s;
    this->start_from(s, files);
    EXPECT_EQ(s.value(0, cluster), 1); // loads the L2 slice, but no refcounts
    s.points.shut(point::refblock_load, 2);
    const auto& first = s.write(4 * cluster, sector, 0xa1);
    const auto& second = s.write(4 * cluster + sector, sector, 0xb2);
    s.drain();
    ASSERT_EQ(s.points.held(point::refblock_load), 2U);
    s.points.fail(point::refblock_load, errc::injected);
    s.points.open(point::refblock_load);
    s.drain();
    ASSERT_TRUE(first.ended && second.ended) << "it hangs";
    EXPECT_TRUE(first.status.error() == errc::injected);
    EXPECT_TRUE(second.status);
    EXPECT_EQ(s.value(4 * cluster, sector), 0);
    EXPECT_EQ(s.value(4 * cluster + sector, sector), 0xb2);
    s.expect_clean_close();
}

// T8: of three writes on one cluster any may fail, early or late, and each fails only itself.
TYPED_TEST(endings, every_choice_of_three_that_fail) {
    for (unsigned choice = 0; choice < 8; ++choice) {
        typename TestFixture::stage_type s({.deferred = true},
                                           {.order = io::fault::order::oldest_first});
        this->warm_up(s);
        for (unsigned i = 0; i < 3; ++i) {
            if ((choice >> i & 1) != 0) { s.io.fail({.nth = i + 1, .code = io::opcode::write}); }
        }
        std::array<const typename TestFixture::pending*, 3> all{};
        for (unsigned i = 0; i < 3; ++i) {
            all[i] = &s.write(i * 2 * sector, sector, static_cast<unsigned char>(i + 1));
        }
        s.drain();
        this->expect_all_ended(s);
        EXPECT_TRUE(s.disk->engine().allocations().empty());
        for (unsigned i = 0; i < 3; ++i) {
            const bool well = (choice >> i & 1) == 0;
            EXPECT_EQ(all[i]->status.has_value(), well) << choice << ": " << i;
            EXPECT_EQ(s.value(i * 2 * sector, sector), well ? static_cast<int>(i + 1) : 0);
            EXPECT_EQ(s.value((i * 2 + 1) * sector, sector), 0);
        }
        s.expect_clean_close();
    }
}

// R1, T7: the link fails while the direct write of a joiner into the new clusters is at the
// backend. They are not given back before it has ended, or it would overwrite another owner's data.
TEST(endings_of_companions, nobody_takes_clusters_that_are_still_written) {
    using of = endings<track::join>;
    stage<track::join> s({.deferred = true}, {.order = io::fault::order::newest_first});
    of::lay_below(s, sector); // the first write replaces nonzero data, with zeroes around it
    of::warm_up(s);
    s.points.shut(point::l2_update, 1);
    const auto& first = s.write(0, sector, 0xa1);
    s.drain();
    ASSERT_EQ(s.points.held(point::l2_update), 1U);
    const auto& second = s.write(4 * sector, sector, 0xb2);
    ASSERT_EQ(s.figures().joined, 1U);
    ASSERT_EQ(s.io.in_flight(), 1U) << "its write";
    s.points.fail(point::l2_update, errc::injected);
    s.points.open(point::l2_update);
    of::use_what_is_free(s, 1);
    EXPECT_FALSE(first.ended || second.ended);
    EXPECT_EQ(s.points.visits(point::cluster_free), 0U);
    s.drain();
    ASSERT_TRUE(first.ended && second.ended);
    EXPECT_FALSE(first.status);
    EXPECT_TRUE(second.status);
    EXPECT_EQ(s.value(100 * cluster, 40 * cluster), 0xcc) << "somebody wrote into it";
    EXPECT_EQ(s.value(0, sector), 1);
    EXPECT_EQ(s.value(sector, 3 * sector), 0);
    EXPECT_EQ(s.value(4 * sector, sector), 0xb2);
    s.expect_clean_close();
}

// R2, T13: a read is at the backend while its cluster is replaced and durably dropped, and
// everything free is overwritten. The entry says that the cluster is shared, its refcount that it
// is not: so a write replaces it, as a discard would.
TYPED_TEST(endings, a_read_in_flight_holds_its_cluster) {
    const io::memory::disk files = this->filled(2, [](reference_image&) {});
    typename TestFixture::stage_type s({.deferred = true},
                                       {.order = io::fault::order::newest_first});
    s.io.inner().restore(files);
    this->change_entry(s, 0, copied, 0);
    ASSERT_TRUE(s.open());
    EXPECT_EQ(s.value(cluster, cluster), 2); // loads the table
    const auto& reader = s.read(0, cluster);
    ASSERT_EQ(s.io.in_flight(), 1U);
    const auto& writer = s.write(0, cluster, 0xa1);
    this->drain_but(s, 1);
    EXPECT_TRUE(writer.ended && writer.status);
    this->use_what_is_free(s, 1);
    EXPECT_EQ(s.points.visits(point::cluster_free), 0U);
    EXPECT_FALSE(reader.ended);
    s.drain();
    ASSERT_TRUE(reader.ended && reader.status);
    EXPECT_TRUE(this->is_full_of(reader.data, 1)) << "it read what somebody else wrote there";
    EXPECT_EQ(s.value(0, cluster), 0xa1);
    this->use_what_is_free(s, 0);
    EXPECT_GT(s.points.visits(point::cluster_free), 0U) << "and then it is free";
    s.expect_clean_close();
}

// R5, T22: a dropped cluster is not reused before the entry that dropped it is durable. Wherever
// the power is cut, what was flushed is there.
TYPED_TEST(endings, what_was_dropped_waits_until_that_is_durable) {
    const io::memory::disk files = this->filled(4, &TestFixture::compress_all);
    for (const point where : {point::flush_to_os, point::flush_refcounts, point::flush_mappings,
                              point::flush_to_disk}) {
        typename TestFixture::stage_type s({.deferred = true}, {.record = true});
        this->start_from(s, files);
        s.write(0, 4 * cluster, 0xa1);
        s.drain();
        s.points.shut(where);
        for (int round = 0; round < 8; ++round) {
            s.flush();
            s.drain();
            for (std::uint64_t c = 0; c < 6; ++c) {
                const auto at = (100 + static_cast<std::uint64_t>(round) * 6 + c) * cluster;
                s.write(at, cluster, 0xcc);
            }
            s.drain();
            for (std::uint64_t seed = 0; seed < 20; ++seed) {
                const auto cut = s.io.survivors(seed);
                reference_image file(cut.at("top").bytes());
                const auto v = file.check();
                ASSERT_EQ(v.corruptions, 0U) << v.first;
                std::vector<std::byte> seen(4 * cluster);
                file.read_over(seen);
                for (std::size_t at = 0; at < seen.size(); at += sector) {
                    const int found = std::to_integer<int>(seen[at]);
                    ASSERT_TRUE(found == 0xa1 || found == static_cast<int>(at / cluster + 1))
                        << at << ": " << found << " in round " << round;
                }
            }
            s.points.release(where);
            s.drain();
        }
        s.points.open(where);
        s.drain();
        EXPECT_EQ(this->failures(s), 0U);
        EXPECT_EQ(s.value(0, 4 * cluster), 0xa1);
        s.expect_clean_close();
    }
}

// T15: a zero cluster keeps its old host cluster if the write that would have replaced it fails. If
// one succeeds, the content of that host cluster is not visible.
TYPED_TEST(endings, a_zero_cluster_that_has_one_keeps_it) {
    const io::memory::disk files = this->filled(2, [](reference_image&) {});
    typename TestFixture::stage_type s;
    s.io.inner().restore(files);
    this->change_entry(s, 0, 0, 1);
    ASSERT_TRUE(s.open());
    EXPECT_EQ(s.value(0, cluster), 0);
    s.points.fail(point::l2_update, errc::injected);
    s.points.shut(point::l2_update, 1);
    const auto& first = s.write(0, sector, 0xa1);
    s.drain();
    const auto& second = s.write(4 * sector, sector, 0xb2);
    s.drain();
    EXPECT_FALSE(first.ended || second.ended);
    EXPECT_EQ(s.value(0, cluster), 0);
    s.points.open(point::l2_update);
    s.drain();
    ASSERT_TRUE(first.ended && second.ended);
    EXPECT_FALSE(first.status);
    EXPECT_TRUE(second.status);
    EXPECT_EQ(s.value(0, 4 * sector), 0) << "what lay under the zeroes is back";
    EXPECT_EQ(s.value(4 * sector, sector), 0xb2);
    EXPECT_EQ(s.value(5 * sector, 3 * sector), 0);
    EXPECT_EQ(s.value(cluster, cluster), 2);
    s.expect_clean_close();
}

// T15: the same if no write succeeds.
TYPED_TEST(endings, a_zero_cluster_whose_write_fails_loses_nothing) {
    const io::memory::disk files = this->filled(2, [](reference_image&) {});
    typename TestFixture::stage_type s;
    s.io.inner().restore(files);
    this->change_entry(s, 0, 0, 1);
    ASSERT_TRUE(s.open());
    s.points.fail(point::l2_update, errc::injected);
    s.write(0, sector, 0xa1);
    s.drain();
    EXPECT_EQ(this->failures(s), 1U);
    this->use_what_is_free(s, 0);
    s.expect_clean_close();
    this->change_entry(s, 0, 1, 0);
    ASSERT_TRUE(s.open());
    EXPECT_EQ(s.value(0, cluster), 1) << "its host cluster was given away";
    s.expect_clean_close();
}

// T16, T13: compressed clusters share host clusters. Two of them are replaced while their
// neighbours are read and copied from; in both orders.
TYPED_TEST(endings, compressed_clusters_that_share_a_host_cluster) {
    const io::memory::disk files = this->filled(6, &TestFixture::compress_all);
    for (const std::uint64_t first : {1U, 3U}) {
        typename TestFixture::stage_type s;
        this->start_from(s, files);
        s.points.shut(point::read_compressed, 3);
        const auto& left = s.read(0, cluster);
        const auto& middle = s.read(2 * cluster + sector, sector);
        const auto& copier = s.write(4 * cluster + sector, sector, 0xa4);
        s.drain();
        ASSERT_EQ(s.points.held(point::read_compressed), 3U);
        s.write(first * cluster, cluster, 0xb0);
        this->use_what_is_free(s, 0);
        s.write((4 - first) * cluster, cluster, 0xb0);
        this->use_what_is_free(s, 0);
        s.points.open(point::read_compressed);
        s.drain();
        EXPECT_EQ(this->failures(s), 0U);
        ASSERT_TRUE(left.ended && middle.ended && copier.ended);
        EXPECT_TRUE(this->is_full_of(left.data, 1));
        EXPECT_TRUE(this->is_full_of(middle.data, 3));
        this->use_what_is_free(s, 0);
        EXPECT_EQ(s.value(0, cluster), 1);
        EXPECT_EQ(s.value(cluster, cluster), 0xb0);
        EXPECT_EQ(s.value(2 * cluster, cluster), 3);
        EXPECT_EQ(s.value(3 * cluster, cluster), 0xb0);
        EXPECT_EQ(s.value(4 * cluster, sector), 5);
        EXPECT_EQ(s.value(4 * cluster + sector, sector), 0xa4);
        EXPECT_EQ(s.value(4 * cluster + 2 * sector, 6 * sector), 5);
        EXPECT_EQ(s.value(5 * cluster, cluster), 6);
        s.expect_clean_close();
    }
}

// T21: refcount blocks and the table itself grow inside allocations, many at once, during a commit
// that has taken its snapshot of the old ones.
TYPED_TEST(endings, refcounts_that_grow_under_a_commit) {
    constexpr std::uint64_t small = 512;
    constexpr std::uint64_t writes = 80;
    constexpr std::uint64_t size = 64 * small; // bytes that one L2 table maps
    for (const point where : {point::flush_refcounts, point::flush_mappings}) {
        typename TestFixture::stage_type s({.deferred = true}, {.record = true});
        s.plan.cluster_bits = 9;
        s.plan.refcount_bits = 64; // 64 to a block, 4096 to a table of one cluster
        s.plan.size = writes * size;
        s.create_and_open();
        s.write(0, size, 1);
        s.drain();
        s.points.shut(where, 1);
        const auto& flushed = s.flush();
        s.drain();
        ASSERT_EQ(s.points.held(where), 1U);
        const std::uint64_t blocks = s.points.visits(point::refblock_alloc);
        for (std::uint64_t i = 1; i < writes; ++i) {
            s.write(i * size, size, static_cast<unsigned char>(i + 1));
        }
        s.drain();
        EXPECT_GT(s.points.visits(point::refblock_alloc), blocks + 60);
        EXPECT_GT(s.points.visits(point::reftable_grow), 0U);
        EXPECT_FALSE(flushed.ended);
        const auto expect_whole = [&](const char* when, std::uint64_t seeds = 10) {
            for (std::uint64_t seed = 0; seed < seeds; ++seed) {
                const auto cut = s.io.survivors(seed);
                const auto v = reference_image(cut.at("top").bytes()).check();
                ASSERT_EQ(v.corruptions, 0U) << when << ": " << v.first;
            }
        };
        expect_whole("held");
        s.points.open(where);
        s.drain();
        expect_whole("after the commit");
        s.flush();
        do {
            expect_whole("in the next one", 30);
        } while (s.io.wait() != 0);
        expect_whole("after the next one");
        EXPECT_EQ(this->failures(s), 0U);
        this->expect_all_ended(s);
        for (std::uint64_t i = 0; i < writes; ++i) {
            EXPECT_EQ(s.value(i * size, size), static_cast<int>(i + 1));
        }
        s.expect_clean_close();
    }
}

// T22: a flush makes durable what had ended, and waits for no other write: neither for one that is
// about to link, nor for its waiters.
TYPED_TEST(endings, a_flush_while_entries_are_about_to_be_linked) {
    for (const point where : {point::flush_refcounts, point::flush_mappings,
                              point::flush_to_disk}) {
        typename TestFixture::stage_type s({.deferred = true}, {.record = true});
        this->warm_up(s);
        s.write(0, cluster, 1);
        s.drain();
        s.points.shut(point::l2_update, 1);
        const auto& linking = s.write(cluster, sector, 2);
        s.drain();
        const auto& waiting = s.write(cluster + sector, sector, 2);
        s.drain();
        s.points.shut(where, 1);
        const auto& flush = s.flush();
        s.drain();
        ASSERT_EQ(s.points.held(where), 1U);
        const bool in_the_gap = where != point::flush_refcounts;
        if (in_the_gap) { s.points.open(point::l2_update); }
        s.drain();
        EXPECT_FALSE(flush.ended);
        s.points.open(where);
        s.drain();
        EXPECT_TRUE(flush.ended && flush.status);
        EXPECT_EQ(linking.ended, in_the_gap) << "a flush waits for nobody";
        EXPECT_EQ(waiting.ended, in_the_gap);
        s.points.open(point::l2_update);
        for (int round = 0; round < 2; ++round) {
            s.drain();
            for (std::uint64_t seed = 0; seed < 50; ++seed) {
                const auto cut = s.io.survivors(seed);
                reference_image file(cut.at("top").bytes());
                const auto v = file.check();
                ASSERT_EQ(v.corruptions, 0U) << v.first;
                std::vector<std::byte> seen(2 * cluster);
                file.read_over(seen);
                for (std::size_t at = 0; at < cluster; ++at) { ASSERT_EQ(seen[at], std::byte{1}); }
                const std::byte second = seen[cluster + sector];
                ASSERT_TRUE(second == std::byte{2} || (round == 0 && second == std::byte{0}));
            }
            s.flush();
        }
        s.drain();
        EXPECT_EQ(this->failures(s), 0U);
        s.expect_clean_close();
    }
}

// T22: the first of two flushes fails: so do the one that came later and all that follow.
TYPED_TEST(endings, a_flush_that_fails_while_another_waits) {
    typename TestFixture::stage_type s({.deferred = true},
                                       {.order = io::fault::order::oldest_first});
    this->warm_up(s);
    s.points.shut(point::flush_to_disk, 1);
    const auto& first = s.flush();
    s.drain();
    ASSERT_EQ(s.points.held(point::flush_to_disk), 1U);
    const auto& write = s.write(0, sector, 1);
    s.drain();
    const auto& second = s.flush();
    s.drain();
    EXPECT_TRUE(write.ended && write.status);
    EXPECT_FALSE(first.ended || second.ended);
    s.io.fail({.nth = 1, .code = io::opcode::flush});
    s.points.open(point::flush_to_disk);
    s.drain();
    ASSERT_TRUE(first.ended && second.ended);
    EXPECT_EQ(first.status.error().host_errno(), EIO);
    EXPECT_FALSE(second.status) << "what the host could not make durable it may have dropped";
    const auto& third = s.flush();
    s.drain();
    ASSERT_TRUE(third.ended);
    EXPECT_FALSE(third.status);
    EXPECT_EQ(s.value(0, sector), 1) << "reads go on";
    EXPECT_FALSE(s.close());
    EXPECT_EQ(s.check().corruptions, 0U);
}

// T25: a close with an allocation in flight, its waiters or joiners, readers, and a flush.
TYPED_TEST(endings, a_close_waits_for_all_and_refuses_the_rest) {
    typename TestFixture::stage_type s;
    this->warm_up(s);
    s.points.shut(point::l2_update);
    s.points.shut(point::flush_to_os, 1);
    for (std::uint64_t i = 0; i < 8; ++i) { s.write(i * sector, sector, 3); }
    s.write(cluster - sector, 3 * cluster, 3);
    s.flush();
    s.drain();
    const std::size_t in_flight = s.disk->in_flight();
    EXPECT_EQ(in_flight, 10U);
    bool closed = false;
    async::task<void> closing = s.disk->close();
    ASSERT_FALSE(closing.start(
        {[](void* flag) noexcept { *static_cast<bool*>(flag) = true; }, &closed}));
    const auto& late = s.write(0, sector, 8);
    s.drain();
    EXPECT_TRUE(late.ended && !late.status);
    EXPECT_FALSE(closed);
    s.points.open(point::flush_to_os);
    s.drain();
    EXPECT_FALSE(closed) << "the writes have not ended";
    s.points.open(point::l2_update);
    s.drain();
    ASSERT_TRUE(closed);
    EXPECT_TRUE(closing.take());
    EXPECT_EQ(this->failures(s), 1U) << "only the late one";
    this->expect_all_ended(s);
    std::vector<std::byte> seen(5 * cluster);
    reference_image file(s.io.inner().content("top").bytes());
    EXPECT_EQ(file.check().corruptions + file.check().leaks, 0U);
    file.read_over(seen);
    seen.resize(4 * cluster - sector);
    EXPECT_TRUE(this->is_full_of(seen, 3));
}

// T32: many writes extend the file at once. The k-th finds no space, or all from the k-th on. No
// host cluster is handed out twice, and what could not be written can be written later.
TYPED_TEST(endings, space_that_runs_out_at_any_of_those_who_extend) {
    constexpr std::uint64_t writes = 8;
    for (std::uint64_t k = 1; k <= writes; ++k) {
        for (const bool from_then_on : {false, true}) {
            typename TestFixture::stage_type s({.deferred = true},
                                               {.order = io::fault::order::oldest_first});
            this->warm_up(s);
            s.io.fail({.nth = k,
                       .code = io::opcode::write,
                       .host_errno = ENOSPC,
                       .from_then_on = from_then_on});
            std::vector<const typename TestFixture::pending*> all;
            for (std::uint64_t i = 0; i < writes; ++i) {
                const auto value = static_cast<unsigned char>(i + 1);
                all.push_back(&s.write(i * 2 * cluster, cluster, value));
            }
            s.drain();
            s.io.forget_rules();
            EXPECT_EQ(this->failures(s), from_then_on ? writes - k + 1 : 1);
            for (int round = 0; round < 3; ++round) {
                s.flush();
                s.drain();
            }
            for (std::uint64_t i = 0; i < writes; ++i) {
                const int mine = static_cast<int>(i + 1);
                EXPECT_EQ(s.value(i * 2 * cluster, cluster), all[i]->status ? mine : 0);
                s.write(i * 2 * cluster + cluster, cluster, static_cast<unsigned char>(100 + i));
                if (!all[i]->status) {
                    s.write(i * 2 * cluster, cluster, static_cast<unsigned char>(i + 1));
                }
            }
            s.drain();
            for (std::uint64_t i = 0; i < writes; ++i) {
                EXPECT_EQ(s.value(i * 2 * cluster, cluster), static_cast<int>(i + 1));
                EXPECT_EQ(s.value((i * 2 + 1) * cluster, cluster), static_cast<int>(100 + i));
            }
            s.expect_clean_close();
        }
    }
}

} // namespace
} // namespace gaur::test
