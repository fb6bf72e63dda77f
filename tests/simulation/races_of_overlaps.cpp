// SPDX-License-Identifier: BSL-1.0
// Races T1 to T10: writes that overlap or are adjacent. The table of all races is at the top of
// races.cpp.
#include "support/held_points.hpp"
#include "support/orderings.hpp"

#include <algorithm>
#include <array>
#include <cerrno>

namespace gaur::test {
namespace {

using async::point;
constexpr std::uint64_t cluster = stage<>::cluster;
constexpr std::uint64_t sector = 512;

struct range {
    std::uint64_t at;
    std::uint64_t size;
    bool covers(std::uint64_t byte) const { return at <= byte && byte < at + size; }
};

template <class Order>
struct overlaps : ::testing::Test {
    using stage_type = stage<Order>;
    using pending = typename stage_type::pending;

    /// Loads an L2 table, its slice and the refcounts, so that only the race follows.
    static void warm_up(stage_type& s) {
        s.create_and_open();
        s.write(s.plan.size - 1, 1, 9);
        s.drain();
        s.io.inner().reset_counters();
    }
    static void lay_below(stage_type& s, std::uint64_t size) {
        s.io.inner().set_content("below",
                                 io::sparse_bytes(std::vector<std::byte>(size, std::byte{1})));
        s.plan.backing_file = "below";
        s.plan.backing_format = "raw";
    }
    static std::uint64_t met(stage_type& s) {
        return s.figures().waited + s.figures().joined + s.figures().shortened;
    }
    static std::uint64_t asked(stage_type& s, io::opcode code) {
        return s.io.inner().counters().requests(code);
    }
    /// The i-th of several writes; each of its bytes is `0xa0 + i`.
    static pending& write(stage_type& s, const std::vector<range>& all, std::size_t i) {
        return s.write(all[i].at, all[i].size, static_cast<unsigned char>(0xa0 + i));
    }
    /// Every sector holds the data of one of the writes that cover it; `old` if none does.
    static void expect_owners(stage_type& s, const std::vector<range>& all, std::uint64_t size,
                              int old) {
        for (std::uint64_t at = 0; at < size; at += sector) {
            const int found = s.value(at, sector);
            bool mine = false;
            bool written = false;
            for (std::size_t i = 0; i < all.size(); ++i) {
                written = written || all[i].covers(at);
                mine = mine || (all[i].covers(at) && found == 0xa0 + static_cast<int>(i));
            }
            EXPECT_TRUE(written ? mine : found == old) << "at " << at << ": " << found;
        }
    }
    static void expect_all_well(const stage_type& s) {
        for (const pending& p : s.requests) { EXPECT_TRUE(p.ended && p.status); }
    }

    /// Two writes: the first is stopped at `where`, and the second begins meanwhile.
    static void run_two(point where, const std::vector<range>& both, bool over_old) {
        stage_type s;
        if (over_old) { lay_below(s, s.plan.size); }
        warm_up(s);
        s.points.shut(where, 1);
        const pending& a = write(s, both, 0);
        s.drain();
        ASSERT_EQ(s.points.held(where), 1U);
        const pending& b = write(s, both, 1);
        s.drain();
        EXPECT_FALSE(a.ended);
        EXPECT_FALSE(b.ended) << "it must not end before the other";
        EXPECT_GT(met(s), 0U);
        s.points.open(where);
        s.drain();
        expect_all_well(s);
        expect_owners(s, both, 12 * cluster, over_old ? 1 : 0);
        s.expect_clean_close();
    }
};
TYPED_TEST_SUITE(overlaps, orderings, ordering_name);

// T1: at the head, at the tail, inside, containing, identical; with borders inside clusters, and
// with two writes that only share a cluster.
TYPED_TEST(overlaps, whatever_overlaps_is_of_one_of_the_two) {
    const range a{4 * cluster, 4 * cluster};
    const std::vector<range> others{
        {2 * cluster, 4 * cluster},           {6 * cluster, 4 * cluster},
        {5 * cluster, 2 * cluster},           {2 * cluster, 8 * cluster},
        {4 * cluster, 4 * cluster},           {3 * cluster + sector, cluster + sector},
        {7 * cluster + sector, 2 * cluster},  {5 * cluster + sector, sector},
        {4 * cluster - sector, 6 * cluster},
    };
    for (const range& b : others) {
        this->run_two(point::l2_update, {a, b}, false);
        this->run_two(point::l2_update, {b, a}, false);
    }
    const range left{4 * cluster + sector, 2 * cluster};
    const range right{6 * cluster + 3 * sector, 2 * cluster};
    const range inside{6 * cluster + 2 * sector, sector};
    for (const point where : {point::l2_update, point::cow_read, point::cow_write}) {
        for (const auto& both : {std::vector<range>{left, right}, {right, left}, {left, inside},
                                 {inside, right}, {right, {5 * cluster, 3 * cluster + sector}}}) {
            this->run_two(where, both, true);
        }
    }
}

// T2: adjacent writes do not wait, be they adjacent by clusters or by sectors.
TYPED_TEST(overlaps, what_touches_does_not_wait) {
    typename TestFixture::stage_type s;
    this->warm_up(s);
    const std::vector<range> all{{4 * cluster, 2 * cluster},
                                 {6 * cluster, cluster},
                                 {3 * cluster, cluster},
                                 {7 * cluster, sector},
                                 {3 * cluster - sector, sector}};
    s.points.shut(point::l2_update);
    for (std::size_t i = 0; i < all.size(); ++i) { this->write(s, all, i); }
    s.drain();
    EXPECT_EQ(s.points.held(point::l2_update), all.size());
    EXPECT_EQ(this->met(s), 0U);
    s.points.open(point::l2_update);
    s.drain();
    // If the clusters are mapped already, sectors of one cluster count as neighbours as well.
    const std::uint64_t loops = s.points.visits(point::allocation_wait);
    this->write(s, {{4 * cluster, sector}}, 0);
    s.write(4 * cluster + sector, sector, 0xa0);
    s.drain();
    EXPECT_EQ(this->met(s), 0U);
    EXPECT_EQ(s.points.visits(point::allocation_wait), loops);
    this->expect_all_well(s);
    this->expect_owners(s, all, 9 * cluster, 0);
    s.expect_clean_close();
}

// T3: both ends of the write are in flight, its middle is not. Nothing is read only to be written
// back.
TYPED_TEST(overlaps, a_middle_between_two_in_flight) {
    typename TestFixture::stage_type s;
    this->warm_up(s);
    const std::uint64_t half = cluster / 2;
    const std::vector<range> all{{half, 2 * cluster},
                                 {4 * cluster + half, 2 * cluster},
                                 {2 * cluster + half, 2 * cluster}};
    s.points.shut(point::l2_update, 2);
    this->write(s, all, 0);
    this->write(s, all, 1);
    s.drain();
    const auto& middle = this->write(s, all, 2);
    s.drain();
    EXPECT_FALSE(middle.ended);
    s.points.open(point::l2_update);
    s.drain();
    this->expect_all_well(s);
    EXPECT_EQ(this->asked(s, io::opcode::read), 0U);
    EXPECT_LE(this->asked(s, io::opcode::write), 5U) << "two, and at most three of the middle";
    this->expect_owners(s, all, 8 * cluster, 0);
    s.expect_clean_close();
}

// T4: any number of waiters behind one cluster; the stack does not grow with their number.
TYPED_TEST(overlaps, ten_thousand_on_one_cluster) {
    constexpr std::uint64_t count = 10000;
    typename TestFixture::stage_type s;
    s.how.request_bytes = ~std::uint64_t{0}; // all of them at work
    this->warm_up(s);
    s.points.shut(point::l2_update, 1);
    s.write(0, 1, 0xff);
    s.drain();
    for (std::uint64_t i = 0; i < count; ++i) {
        s.write(i % cluster, 1, static_cast<unsigned char>(i % cluster % 251));
    }
    s.drain();
    EXPECT_EQ(s.figures().waited + s.figures().joined, count);
    s.points.open(point::l2_update);
    s.drain();
    this->expect_all_well(s);
    const auto deeper = [](const auto& p, const auto& q) { return p.stack < q.stack; };
    const auto [low, high] = std::minmax_element(s.requests.begin() + 2, s.requests.end(), deeper);
    EXPECT_LT(high->stack - low->stack, 16384U) << "the stack grows with the queue";
    EXPECT_EQ(s.points.visits(point::allocation_wait) + s.figures().joined, count)
        << "each looks again once";
    for (std::uint64_t at = 0; at < cluster; at += 64) {
        ASSERT_EQ(s.value(at, 1), static_cast<int>(at % 251));
    }
    s.expect_clean_close();
}

// T4, T6: every one of them fails, and so the next becomes the parent of the remaining ones. They
// do not nest on the stack, and the chain ends, whether the device answers at once or later.
TYPED_TEST(overlaps, a_chain_in_which_everybody_fails) {
    constexpr std::size_t count = 500;
    for (const bool deferred : {false, true}) {
        typename TestFixture::stage_type s(io::memory::options{.deferred = deferred});
        this->lay_below(s, s.plan.size);
        this->warm_up(s);
        s.points.shut(point::cow_write, 1);
        for (std::size_t i = 0; i < count; ++i) {
            s.write(i * 8, 8, 2);
            s.drain();
        }
        EXPECT_EQ(s.figures().waited + s.figures().joined, count - 1);
        s.io.fail({.nth = 1, .code = io::opcode::write, .from_then_on = true});
        s.points.open(point::cow_write);
        s.drain();
        std::uintptr_t lowest = ~std::uintptr_t{0};
        std::uintptr_t highest = 0;
        for (std::size_t i = 1; i <= count; ++i) {
            const auto& p = s.requests[i];
            ASSERT_TRUE(p.ended) << "it hangs";
            EXPECT_FALSE(p.status);
            lowest = std::min(lowest, p.stack);
            highest = std::max(highest, p.stack);
        }
        EXPECT_LT(highest - lowest, 16384U) << "the stack grows with the chain";
        EXPECT_TRUE(s.disk->engine().allocations().empty());
        s.io.forget_rules();
        EXPECT_EQ(s.value(0, cluster), 1);
        s.write(0, 800, 2);
        s.drain();
        EXPECT_EQ(s.value(0, 800), 2);
        s.expect_clean_close();
    }
}

// T5, T3: each write overlaps only the next one. With `join` none waits, and all get one run of the
// host file. With `serialize` every other one waits for the previous one, fills the gap, and writes
// in place where its successor wrote: three rounds of the device, however many writes there are.
TYPED_TEST(overlaps, a_convoy) {
    constexpr bool joins = TypeParam::allocation::is_joinable;
    constexpr std::uint64_t latency = 1000;
    for (const std::uint64_t depth : {2U, 3U, 16U, 128U}) {
        typename TestFixture::stage_type s({.latency = latency});
        s.plan.size = 512 * cluster; // one slice
        this->warm_up(s);
        const std::uint64_t begin = s.io.inner().now();
        std::vector<range> all;
        for (std::uint64_t i = 0; i < depth; ++i) {
            all.push_back({i * 2 * cluster + cluster / 2, 2 * cluster});
            s.write(all[i].at, all[i].size, 0xa0);
        }
        s.drain();
        const std::uint64_t took = s.io.inner().now() - begin;
        EXPECT_LE(took, (joins ? 1 : 3) * latency) << "depth " << depth;
        this->expect_all_well(s);
        EXPECT_EQ(s.value(cluster / 2, depth * 2 * cluster), 0xa0);
        EXPECT_EQ(s.value(0, cluster / 2), 0);
        if (joins) {
            const device::located run = s.disk->engine().top().locate({0}, s.plan.size);
            EXPECT_EQ(run.what.size, (depth * 2 + 1) * cluster) << "one extent";
        }
        s.expect_clean_close();
    }
}

// T9: small writes keep arriving at clusters that a large write has yet to pass. It waits for each
// that arrived earlier at most once, and for none twice.
TYPED_TEST(overlaps, a_large_write_among_small_ones) {
    constexpr std::uint64_t clusters = 20;
    typename TestFixture::stage_type s;
    this->warm_up(s);
    s.points.shut(point::l2_update);
    for (std::uint64_t c = 0; c < clusters; c += 2) { s.write(c * cluster, sector, 0xa0); }
    s.drain();
    const auto& large = s.write(0, clusters * cluster, 0xa1);
    s.drain();
    std::uint64_t released = 0;
    for (; !large.ended && released < 10 * clusters; ++released) {
        s.points.release(point::l2_update);
        s.drain();
        s.write((released * 2 + 1) % clusters * cluster, sector, 0xa0);
        s.write(released % clusters * cluster + 2 * sector, sector, 0xa0);
        s.drain();
    }
    EXPECT_TRUE(large.ended);
    EXPECT_LE(released, clusters + 2) << "it starves";
    s.points.open(point::l2_update);
    s.drain();
    this->expect_all_well(s);
    for (std::uint64_t c = 0; c < clusters; ++c) {
        EXPECT_EQ(s.value(c * cluster + 4 * sector, cluster - 4 * sector), 0xa1);
    }
    s.expect_clean_close();
}

// T9: joiners do not delay the owner of the allocation that they join.
TEST(overlaps_of_companions, do_not_delay_the_first) {
    stage<track::join> s({.deferred = true}, {.order = io::fault::order::oldest_first});
    overlaps<track::join>::warm_up(s);
    const auto& first = s.write(0, sector, 0xa0);
    for (std::uint64_t i = 1; i < 8; ++i) { s.write(i * sector, sector, 0xa0); }
    EXPECT_EQ(s.figures().joined, 7U);
    s.io.wait();
    EXPECT_TRUE(first.ended && first.status);
    EXPECT_EQ(s.io.in_flight(), 7U) << "theirs are at the backend still";
    EXPECT_FALSE(s.requests.back().ended);
    s.drain();
    EXPECT_EQ(s.value(0, cluster), 0xa0);
    s.expect_clean_close();
}

// T10: each write holds what the next one needs, in every order of arrival, and the entries are
// linked from the first or from the last. No write waits while it holds an allocation, so none
// hangs.
TYPED_TEST(overlaps, a_ring) {
    const std::vector<range> all{{sector, 2 * cluster},
                                 {cluster + sector, 2 * cluster},
                                 {2 * cluster + sector, 2 * cluster},
                                 {0, 5 * cluster}};
    for (const bool over_old : {false, true}) {
        std::array<std::size_t, 4> order{0, 1, 2, 3};
        do {
            typename TestFixture::stage_type s;
            if (over_old) { this->lay_below(s, s.plan.size); }
            this->warm_up(s);
            s.points.shut(point::l2_update);
            for (const std::size_t i : order) {
                this->write(s, all, i);
                s.drain();
            }
            for (int steps = 0; steps < 40 && s.disk->in_flight() != 0; ++steps) {
                ASSERT_GT(s.points.held(point::l2_update), 0U) << "they wait for each other";
                s.points.release(point::l2_update);
                s.drain();
            }
            s.points.open(point::l2_update);
            s.drain();
            this->expect_all_well(s);
            this->expect_owners(s, all, 6 * cluster, over_old ? 1 : 0);
            s.expect_clean_close();
        } while (std::next_permutation(order.begin(), order.end()));
    }
}

} // namespace
} // namespace gaur::test
