// SPDX-License-Identifier: BSL-1.0
#include <gaur/io/power_log.hpp>

#include "support/every_coin.hpp"

#include <gtest/gtest.h>

#include <array>
#include <deque>
#include <set>
#include <vector>

namespace gaur::io {
namespace {

constexpr std::size_t sector = power_log::sector;
using fate = power_log::fate;

struct power_log_test : ::testing::Test {
    request write(std::uint64_t sector_index, std::size_t sectors, int with) {
        lent.emplace_back(sectors * sector, static_cast<std::byte>(with));
        return request::write(sector_index * sector, lent.back());
    }
    void done(const request& what) { log.end(file, log.begin(file, what), true); }

    /// The first byte of each sector of what a seed leaves.
    static std::vector<int> sectors_of(const sparse_bytes& content) {
        std::vector<int> firsts;
        for (std::uint64_t at = 0; at < content.size(); at += sector) {
            std::array<std::byte, sector> bytes{};
            content.read(at, bytes.data(), sector);
            for (const std::byte b : bytes) { EXPECT_EQ(b, bytes[0]) << "torn inside a sector"; }
            firsts.push_back(std::to_integer<int>(bytes[0]));
        }
        return firsts;
    }
    /// All states that 3000 seeds find.
    std::set<std::vector<int>> states() const {
        std::set<std::vector<int>> found;
        for (std::uint64_t seed = 0; seed < 3000; ++seed) {
            found.insert(sectors_of(log.survivors(seed).at("a")));
        }
        return found;
    }

    std::set<std::vector<int>> states_if_all_is_kept() const {
        const auto kept = [](auto...) { return fate::kept; };
        std::set<std::vector<int>> found;
        for (std::uint64_t seed = 0; seed < 100; ++seed) {
            found.insert(sectors_of(log.survivors(seeded(seed), kept).at("a")));
        }
        return found;
    }

    std::deque<std::vector<std::byte>> lent;
    power_log log;
    std::size_t file = log.track("a", {});
    using set = std::set<std::vector<int>>;
};

TEST_F(power_log_test, a_write_is_lost_kept_or_torn_at_sectors) {
    done(write(0, 3, 1));
    done(request::flush());
    EXPECT_EQ(states(), set({{1, 1, 1}}));
    done(write(0, 3, 2));
    EXPECT_EQ(log.unflushed(), 1U);
    EXPECT_EQ(states().size(), 8U);
    done(request::flush());
    EXPECT_EQ(log.unflushed(), 0U);
    EXPECT_EQ(states(), set({{2, 2, 2}}));
}

TEST_F(power_log_test, later_writes_of_one_place_win) {
    done(write(0, 1, 1));
    done(write(0, 1, 2));
    EXPECT_EQ(states(), set({{}, {0}, {1}, {2}}));
    EXPECT_EQ(states_if_all_is_kept(), set({{2}}));
}

TEST_F(power_log_test, size_and_data_of_a_growing_write_survive_apart) {
    done(write(0, 2, 1));
    EXPECT_EQ(states(), set({{}, {1}, {0, 0}, {0, 1}, {1, 0}, {1, 1}}));
}

TEST_F(power_log_test, a_flush_covers_only_what_ended_before_it_was_submitted) {
    const auto late = log.begin(file, write(0, 1, 1));
    const auto flush = log.begin(file, request::flush());
    log.end(file, late, true);
    log.end(file, flush, true);
    EXPECT_EQ(log.unflushed(), 1U);
    EXPECT_EQ(states(), set({{}, {0}, {1}}));
    done(request::flush());
    EXPECT_EQ(states(), set({{1}}));
}

TEST_F(power_log_test, a_failed_flush_makes_nothing_durable) {
    done(write(0, 1, 1));
    log.end(file, log.begin(file, request::flush()), false);
    EXPECT_EQ(states(), set({{}, {0}, {1}}));
}

TEST_F(power_log_test, a_flush_is_of_one_file) {
    const std::size_t other = log.track("b", {});
    done(write(0, 1, 1));
    log.end(other, log.begin(other, request::flush()), true);
    EXPECT_EQ(log.unflushed(), 1U);
    EXPECT_EQ(log.track("a", {}), file);
}

TEST_F(power_log_test, a_failed_write_leaves_nothing) {
    log.end(file, log.begin(file, write(0, 1, 1)), false);
    EXPECT_EQ(log.unflushed(), 0U);
    EXPECT_EQ(states(), set({{}}));
}

TEST_F(power_log_test, what_is_in_flight_may_survive_in_any_order) {
    done(write(0, 1, 1));
    done(request::flush());
    const auto early = log.begin(file, write(0, 1, 2));
    done(write(0, 1, 3)); // ends, while `early` has not
    done(write(0, 1, 4));
    EXPECT_EQ(log.unflushed(), 3U);
    EXPECT_EQ(states_if_all_is_kept(), set({{2}, {4}})) << "3 is always overwritten by 4";
    log.end(file, early, true);
    EXPECT_EQ(states_if_all_is_kept(), set({{2}})) << "the last to end";
    log.begin(file, write(0, 1, 5));
    EXPECT_EQ(states_if_all_is_kept(), set({{5}})) << "it began after the others had ended";
}

TEST_F(power_log_test, a_flush_in_flight_hides_nothing) {
    log.begin(file, request::flush());
    log.begin(file, write(0, 1, 1));
    EXPECT_EQ(log.unflushed(), 1U);
    EXPECT_EQ(states(), set({{}, {0}, {1}}));
}

TEST_F(power_log_test, ranges_survive_too) {
    done(write(0, 2, 1));
    done(request::flush());
    done(request::range(opcode::discard, 0, sector));
    EXPECT_EQ(states(), set({{1, 1}, {0, 1}}));
    EXPECT_EQ(states_if_all_is_kept(), set({{0, 1}}));
    done(request::range(opcode::zero, 0, 2 * sector));
    EXPECT_EQ(states(), set({{1, 1}, {0, 1}, {1, 0}, {0, 0}}));
    EXPECT_EQ(states_if_all_is_kept(), set({{0, 0}}));
    done(request::flush());
    EXPECT_EQ(states(), set({{0, 0}}));
    done(request::range(opcode::extend, 0, 3 * sector));
    EXPECT_EQ(states(), set({{0, 0}, {0, 0, 0}}));
    done(request::flush());
    done(request::truncate(sector));
    EXPECT_EQ(states(), set({{0, 0, 0}, {0}}));
}

TEST_F(power_log_test, vectors_are_gathered) {
    std::array<std::byte, sector> one;
    std::array<std::byte, sector> two;
    one.fill(std::byte{1});
    two.fill(std::byte{2});
    std::array<iovec, 2> both = {iovec{one.data(), sector}, iovec{two.data(), sector}};
    const auto entry = log.begin(file, request::write(0, std::span(both), 2 * sector));
    one.fill(std::byte{9}); // the log has its own copy
    log.end(file, entry, true);
    done(request::flush());
    EXPECT_EQ(states(), set({{1, 2}}));
}

TEST_F(power_log_test, a_seed_replays) {
    for (int i = 0; i < 30; ++i) { done(write(static_cast<unsigned>(i % 7), 3, i)); }
    for (std::uint64_t seed = 0; seed < 50; ++seed) {
        EXPECT_EQ(log.survivors(seed), log.survivors(seed));
    }
    EXPECT_GT(states().size(), 1000U);
}

TEST_F(power_log_test, truncate_at_open_forgets) {
    done(write(0, 1, 1));
    log.reset(file, {});
    EXPECT_EQ(states(), set({{}}));
}

// Two sectors that grow the file: if the second is lost, the size may have changed or not. A
// further sector that is overwritten in place doubles the number of disks.
TEST_F(power_log_test, every_coin_gives_every_disk_once) {
    const auto count = [this] {
        test::every_coin all;
        std::size_t runs = 0;
        set found;
        do {
            const auto torn = [](auto...) { return fate::torn; };
            found.insert(sectors_of(log.survivors(all.begin(), torn).at("a")));
            ++runs;
        } while (all.next());
        EXPECT_EQ(found, states());
        return runs;
    };
    done(write(0, 1, 1));
    done(request::flush());
    done(write(1, 2, 2));
    EXPECT_EQ(count(), 6U);
    done(write(0, 1, 3));
    EXPECT_EQ(count(), 12U);
}

TEST_F(power_log_test, says_whether_a_flush_is_in_flight) {
    EXPECT_FALSE(log.is_flushing());
    const auto writing = log.begin(file, write(0, 1, 1));
    EXPECT_FALSE(log.is_flushing());
    const auto flushing = log.begin(file, request::flush());
    EXPECT_TRUE(log.is_flushing());
    log.end(file, writing, true);
    EXPECT_TRUE(log.is_flushing());
    log.end(file, flushing, true);
    EXPECT_FALSE(log.is_flushing());
}

} // namespace
} // namespace gaur::io
