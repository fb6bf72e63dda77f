// SPDX-License-Identifier: BSL-1.0
// The order of data and mapping, step by step, in cases in which a wrong order would show something
// other than zeroes: over a backing file, in clusters that were used before, at the end of the
// file. What a failed write leaves, with another write joined. And refcount tables that move more
// than once before a commit.
#include "support/held_points.hpp"
#include "support/orderings.hpp"

#include <gaur/io/power_log.hpp>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace gaur::test {
namespace {

using async::point;
constexpr std::uint64_t cluster = stage<>::cluster;
constexpr std::uint64_t sector = 512;
constexpr unsigned char old_byte = 0x11;
constexpr unsigned char stale_byte = 0x5c; ///< of a free cluster
constexpr unsigned char new_byte = 0xa1;

io::sparse_bytes full_of(std::uint64_t size, unsigned char value) {
    return io::sparse_bytes(std::vector<std::byte>(size, static_cast<std::byte>(value)));
}

template <class Order>
struct mapping_and_data : ::testing::Test {
    using stage_type = stage<Order, async::no_hooks>;

    static void lay_below(stage_type& s, std::uint64_t size) {
        s.io.inner().set_content("below", full_of(size, old_byte));
        s.plan.backing_file = "below";
        s.plan.backing_format = "raw";
    }
    /// L2 table, refcounts and growth are durable: the following epochs write only mappings.
    static void settle_tables(stage_type& s) {
        for (const std::uint64_t last : {1U, 2U}) {
            s.write(s.plan.size - last, 1, 9);
            s.drain();
            s.flush();
            s.drain();
        }
    }

    /// Checks what a cut now may leave: all that the log holds except the guest's new bytes, and
    /// random choices. `below` is what the guest sees below the top layer.
    static void expect_old_or_new(stage_type& s, const std::vector<std::byte>& below,
                                  std::uint64_t at, std::uint64_t size) {
        using fate = io::power_log::fate;
        const auto all_but_data = [](std::size_t, const io::power_log::change& c) {
            const bool is_new = std::find(c.data.begin(), c.data.end(), std::byte{new_byte}) !=
                                c.data.end();
            return is_new ? fate::lost : fate::kept;
        };
        for (std::uint64_t seed = 0; seed < 12; ++seed) {
            const io::memory::disk cut = seed == 0
                                             ? s.io.log().survivors(io::seeded(seed), all_but_data)
                                             : s.io.survivors(seed);
            reference_image file(cut.at("top").bytes());
            const auto v = file.check();
            ASSERT_EQ(v.corruptions, 0U) << v.first << ", seed " << seed;
            std::vector<std::byte> seen = below;
            file.read_over(seen);
            for (std::uint64_t b = at; b < at + size; ++b) {
                ASSERT_TRUE(seen[b] == below[b] || seen[b] == std::byte{new_byte})
                    << "byte " << b << " holds " << std::to_integer<int>(seen[b]) << ", seed "
                    << seed;
            }
        }
    }

    /// Writes whole clusters and parts of them, with a flush for each. The power may be cut at any
    /// moment.
    static void write_and_cut(stage_type& s, const std::vector<std::byte>& below) {
        struct {
            std::uint64_t at;
            std::uint64_t size;
        } const writes[] = {{4 * cluster, cluster},
                            {8 * cluster, 3 * cluster},
                            {14 * cluster, sector},
                            {15 * cluster + 3 * sector, 2 * cluster}};
        for (const auto& w : writes) {
            SCOPED_TRACE(w.at);
            const auto& written = s.write(w.at, w.size, new_byte);
            s.drain();
            ASSERT_TRUE(written.ended && written.status);
            const auto& flushed = s.flush();
            while (s.io.in_flight() != 0) {
                expect_old_or_new(s, below, w.at, w.size);
                if (::testing::Test::HasFatalFailure()) { return; }
                s.io.wait();
            }
            ASSERT_TRUE(flushed.ended && flushed.status);
            expect_old_or_new(s, below, w.at, w.size);
            EXPECT_EQ(s.value(w.at, w.size), new_byte);
        }
        s.expect_clean_close();
    }
};
TYPED_TEST_SUITE(mapping_and_data, orderings, ordering_name);

// New clusters read as zeroes, and the file durably covers them. A mapping that became durable
// first would be valid, and would hide the backing file's bytes behind zeroes.
TYPED_TEST(mapping_and_data, over_a_backing_file_with_growth_ahead) {
    typename TestFixture::stage_type s({.deferred = true}, {.record = true});
    this->lay_below(s, s.plan.size);
    s.how.grow_ahead = 1 << 20;
    s.how.count_ahead = 1 << 19;
    s.create_and_open();
    this->settle_tables(s);
    const std::vector<std::byte> below(s.plan.size, std::byte{old_byte});
    this->write_and_cut(s, below);
}

// The backing file's bytes end inside the clusters that are written.
TYPED_TEST(mapping_and_data, over_the_end_of_a_backing_file_with_growth_ahead) {
    for (const std::uint64_t size : {4 * cluster + sector, 9 * cluster, 14 * cluster + sector,
                                     15 * cluster + 4 * sector}) {
        SCOPED_TRACE(size);
        typename TestFixture::stage_type s({.deferred = true}, {.record = true});
        this->lay_below(s, size);
        s.how.grow_ahead = 1 << 20;
        s.how.count_ahead = 1 << 19;
        s.create_and_open();
        this->settle_tables(s);
        std::vector<std::byte> below(size, std::byte{old_byte});
        below.resize(s.plan.size);
        this->write_and_cut(s, below);
    }
}

// Free clusters of the file hold old content: a mapping that became durable first would expose it.
TYPED_TEST(mapping_and_data, in_clusters_that_were_used_before) {
    typename TestFixture::stage_type before;
    before.create_and_open();
    for (std::uint64_t c = 0; c < 64; ++c) { before.write(c * cluster, cluster, stale_byte); }
    before.drain();
    before.expect_clean_close();
    before.rewrite([](reference_image& file) { file.zero_all(false); });
    typename TestFixture::stage_type s({.deferred = true}, {.record = true});
    s.io.inner().restore(before.io.inner().snapshot());
    s.how.count_ahead = 1 << 17;
    ASSERT_TRUE(s.open());
    this->settle_tables(s);
    this->write_and_cut(s, std::vector<std::byte>(s.plan.size));
}

// The file ends before the new clusters: a mapping that became durable first would point past its
// end.
TYPED_TEST(mapping_and_data, at_the_end_of_the_file) {
    typename TestFixture::stage_type s({.deferred = true}, {.record = true});
    s.how.count_ahead = 1 << 19;
    s.create_and_open();
    this->settle_tables(s);
    this->write_and_cut(s, std::vector<std::byte>(s.plan.size));
}

/// What the first sector of a cluster holds, if everything behind it is known to be zeroes.
enum class stake { raw_file, small_clusters };

struct failing_pair {
    stake old;
    std::uint64_t joined_at;   ///< the second write, in sectors of the cluster
    std::uint64_t joined_size; ///< in sectors
    bool first_fails;
    bool second_fails;
};

void lay_stake(stage<track::join, async::no_hooks>& s, stake old) {
    if (old == stake::raw_file) {
        s.io.inner().set_content("below", full_of(sector, old_byte));
        s.plan.backing_format = "raw";
    } else {
        stage<track::join, async::no_hooks> lower;
        lower.plan.cluster_bits = 9;
        lower.create_and_open();
        lower.write(0, sector, old_byte);
        lower.drain();
        lower.expect_clean_close();
        s.io.inner().set_content("below", lower.io.inner().content("top"));
        s.plan.backing_format = "qcow2";
    }
    s.plan.backing_file = "below";
}

void run_failing_pair(const failing_pair& how) {
    SCOPED_TRACE("old " + std::to_string(static_cast<int>(how.old)) + ", joined at " +
                 std::to_string(how.joined_at) + " + " + std::to_string(how.joined_size) +
                 (how.first_fails ? ", first fails" : "") +
                 (how.second_fails ? ", second fails" : ""));
    stage<track::join, async::no_hooks> s({.deferred = true},
                                          {.order = io::fault::order::newest_first});
    lay_stake(s, how.old);
    s.create_and_open();
    s.write(s.plan.size - 1, 1, 9);
    s.drain();
    EXPECT_EQ(s.value(0, sector), old_byte); // loads the lower layer's tables
    EXPECT_EQ(s.value(sector, cluster - sector), 0);
    s.io.fail({.nth = how.first_fails ? 1U : 1000U, .code = io::opcode::write});
    if (how.second_fails) { s.io.fail({.nth = 2, .code = io::opcode::write}); }
    const auto& first = s.write(0, sector, new_byte);
    const auto& second = s.write(how.joined_at * sector, how.joined_size * sector, 0xb2);
    EXPECT_EQ(s.figures().joined, 1U);
    s.drain();
    s.io.forget_rules();
    ASSERT_TRUE(first.ended && second.ended);
    EXPECT_EQ(first.status.has_value(), !how.first_fails);
    EXPECT_EQ(second.status.has_value(), !how.second_fails);
    // Sector by sector: the old bytes, or those of a write that succeeded.
    const std::uint64_t end = how.joined_at + how.joined_size;
    for (std::uint64_t n = 0; n < cluster / sector; ++n) {
        const int before = n == 0 ? old_byte : 0;
        const bool of_second = n >= how.joined_at && n < end && !how.second_fails;
        const bool of_first = n == 0 && !how.first_fails;
        const int found = s.value(n * sector, sector);
        if (of_first && of_second) {
            EXPECT_TRUE(found == new_byte || found == 0xb2) << "sector " << n << ": " << found;
        } else {
            EXPECT_EQ(found, of_second ? 0xb2 : of_first ? new_byte : before) << "sector " << n;
        }
    }
    s.expect_clean_close();
}

// The first write covers the part that is not zero, so it copies nothing, and the second joins it
// by a direct write. Whichever write fails, the bytes that it was to replace are still there.
TEST(failure_with_a_joined_write, what_is_not_zero_stays) {
    for (const stake old : {stake::raw_file, stake::small_clusters}) {
        for (const unsigned choice : {1U, 2U, 3U, 0U}) {
            for (const std::uint64_t at : {4U, 1U, 0U}) {
                run_failing_pair({old, at, 2, (choice & 1) != 0, (choice & 2) != 0});
            }
        }
    }
}

// 512-byte clusters and 64-bit refcounts: a block counts 64 clusters, a cluster of the table 64
// blocks. 40 MiB without a flush move the table several times. A table that is not on disk when it
// moves again has no owner.
TEST(growing_tables, a_refcount_table_that_moves_twice_in_one_epoch) {
    stage<track::join> s({.deferred = false});
    constexpr std::uint64_t size = std::uint64_t{40} << 20;
    constexpr std::uint64_t piece = std::uint64_t{1} << 15;
    s.plan = {.size = size, .cluster_bits = 9, .refcount_bits = 64};
    s.how.cache_bytes = std::size_t{64} << 20;
    s.create_and_open();
    for (std::uint64_t at = 0; at < size; at += piece) {
        const auto& written = s.write(at, piece, static_cast<unsigned char>(1 + at / piece % 251));
        s.drain();
        ASSERT_TRUE(written.ended && written.status);
        s.requests.clear();
    }
    EXPECT_GE(s.points.visits(point::reftable_grow), 3U);
    EXPECT_EQ(s.disk->engine().top().figures().epochs, 1U) << "only that of the open";
    s.expect_clean_close();
    ASSERT_TRUE(s.open());
    for (std::uint64_t at = 0; at < size; at += 64 * piece) {
        EXPECT_EQ(s.value(at, piece), static_cast<int>(1 + at / piece % 251)) << at;
    }
    s.expect_clean_close();
}

} // namespace
} // namespace gaur::test
