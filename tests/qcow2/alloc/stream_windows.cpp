// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/alloc/stream_windows.hpp>

#include <gaur/conformance/placement.hpp>
#include <gaur/qcow2/alloc/best_fit.hpp>
#include <gaur/qcow2/alloc/first_fit.hpp>
#include <gaur/qcow2/alloc/memory_refcounts.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <variant>
#include <vector>

namespace gaur::conformance {
using windows = ::testing::Types<qcow2::alloc::stream_windows<qcow2::alloc::best_fit>,
                                 qcow2::alloc::stream_windows<qcow2::alloc::first_fit>>;
INSTANTIATE_TYPED_TEST_SUITE_P(stream_windows, placement_conformance, windows);
} // namespace gaur::conformance

namespace gaur::qcow2::alloc {
namespace {

/// Windows of 1 + 100 clusters over an empty file: the host offset of a write shows from which
/// window it took clusters.
class stream_windows_test : public ::testing::Test {
  protected:
    static constexpr std::uint64_t far = 1 << 20;

    /// A write of `count` clusters at `at`. Returns its host cluster.
    std::uint64_t write(std::uint64_t at, std::uint64_t count = 1) {
        return take(guest_cluster{at}, count);
    }
    std::uint64_t take(std::optional<guest_cluster> at, std::uint64_t count) {
        const answer a = placement.take(counts, {{count}, {count}, at, {}});
        const auto* g = std::get_if<grant>(&a);
        EXPECT_TRUE(g != nullptr && g->count.value == count);
        return g != nullptr ? g->first.value : ~std::uint64_t{0};
    }

    memory_refcounts counts{{1 << 16}, {100}};
    stream_windows<best_fit> placement;
};

TEST_F(stream_windows_test, one_stream_stays_in_one_run) {
    EXPECT_EQ(write(0, 2), 0U);
    for (std::uint64_t at = 2; at < 500; ++at) { EXPECT_EQ(write(at), at); }
}

TEST_F(stream_windows_test, writes_that_continue_no_stream_share_the_first) {
    for (std::uint64_t i = 0; i < 100; ++i) { EXPECT_EQ(write(i * 331 % 1009), i); }
}

TEST_F(stream_windows_test, streams_that_alternate_get_one_each) {
    std::uint64_t next[4] = {};
    for (std::uint64_t at = 0; at < 50; ++at) {
        for (std::uint64_t stream = 0; stream < 4; ++stream) {
            const std::uint64_t host = write(stream * far + at);
            if (at > 3) { EXPECT_EQ(host, next[stream]) << "stream " << stream << " at " << at; }
            next[stream] = host + 1;
        }
    }
}

TEST_F(stream_windows_test, a_table_leaves_the_streams_as_they_are) {
    EXPECT_EQ(write(0), 0U);
    EXPECT_EQ(take({}, 1), 1U);
    EXPECT_EQ(write(1), 2U);
    EXPECT_EQ(write(2), 3U);
}

TEST_F(stream_windows_test, a_new_stream_takes_over_the_window_that_was_idle_longest) {
    std::uint64_t next[4] = {};
    const auto go_on = [&](std::uint64_t stream, std::uint64_t at) {
        next[stream] = write(stream * far + at) + 1;
    };
    for (std::uint64_t at = 0; at < 4; ++at) {
        for (std::uint64_t stream = 0; stream < 4; ++stream) { go_on(stream, at); }
    }
    go_on(1, 4);
    for (std::uint64_t at = 4; at < 8; ++at) {
        for (const std::uint64_t stream : {2U, 3U, 0U}) { go_on(stream, at); }
    }
    write(10 * far);
    write(11 * far);
    EXPECT_EQ(write(10 * far + 1), next[1]) << "the stream continues in the idle window";
}

TEST_F(stream_windows_test, a_request_that_is_repeated_keeps_its_stream) {
    conformance::placement_trial<stream_windows<best_fit>> t;
    using state = conformance::tried_refcounts::state;
    t.counts.set_ahead({10});
    t.counts.fill(11, conformance::tried_refcounts::per_slice);
    t.counts.set_state(1, state::not_loaded);
    const auto host = [&t](std::uint64_t at) { return std::get<grant>(t.ask(1, at)).first.value; };
    EXPECT_EQ(host(0), 0U);
    EXPECT_EQ(host(far), 1U);
    // The first stream needs a window of its own, for which a slice is not in memory yet.
    EXPECT_TRUE(std::holds_alternative<missing_block>(t.ask(1, 1)));
    EXPECT_TRUE(std::holds_alternative<missing_block>(t.ask(1, 1)));
    t.counts.set_state(1, state::in_memory);
    EXPECT_EQ(host(1), conformance::tried_refcounts::per_slice);
    EXPECT_EQ(host(far + 1), 2U);
}

TEST_F(stream_windows_test, hands_the_last_run_back_first) {
    write(0);
    write(far);
    write(1); // a window of its own
    std::vector<grant> back;
    counts.stop_ahead();
    placement.release([&back](const grant& left) { back.push_back(left); });
    ASSERT_EQ(back.size(), 2U);
    EXPECT_GT(back[0].first, back[1].first);
    EXPECT_EQ(back[0].count.value + back[1].count.value, 2 * 101U - 3);
    EXPECT_TRUE(back[0].pristine);
    EXPECT_EQ(write(2), 202U) << "it holds nothing";
}

} // namespace
} // namespace gaur::qcow2::alloc
