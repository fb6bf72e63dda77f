// SPDX-License-Identifier: BSL-1.0
// A commit whose writes fail for lack of space, each of them in turn, once or several times. The
// flush returns the error, nothing is lost, reads and writes go on, and a later flush makes
// everything durable. The power may be cut at any moment.
#include "support/modelled_stage.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace gaur::test {
namespace {

enum class image_kind { small, lazy, over_a_snapshot, growing_refcounts, tiny_cache };

class failed_commits : public ::testing::TestWithParam<image_kind> {
  protected:
    using modelled = modelled_stage<track::join>;
    using stage_type = modelled::stage_type;

    static constexpr std::uint64_t cluster = 512;
    static constexpr std::uint64_t reach = 64 * cluster; // bytes that one L2 table maps
    static std::uint64_t size(image_kind kind) {
        return (kind == image_kind::growing_refcounts ? 80 : 8) * reach;
    }
    static void configure(stage_type& s, image_kind kind) {
        s.plan.size = size(kind);
        s.plan.cluster_bits = 9;
        s.plan.lazy_refcounts = kind == image_kind::lazy;
        if (kind == image_kind::growing_refcounts) { s.plan.refcount_bits = 64; }
        if (kind == image_kind::tiny_cache) { s.how.cache_bytes = 0; }
    }

    /// The disk with which each round begins. Fills `content` with what its guest sees.
    static io::memory::disk prepare(image_kind kind, std::vector<std::byte>& content) {
        stage_type s;
        configure(s, kind);
        content.assign(size(kind), std::byte{0});
        s.create_and_open();
        // If the refcount table is to grow, nearly everything that the old table counts is in use.
        const std::uint64_t used =
            kind == image_kind::growing_refcounts ? 62 * reach - 4096 : reach / 2;
        const auto part = std::span(content).first(used);
        fill_tagged(part, 0, 0xb000'0000);
        s.begin(device::verb::write, 0, {part.begin(), part.end()});
        s.drain();
        if (kind != image_kind::growing_refcounts) {
            // Its L2 table is no neighbour of the L1 table: a commit writes them separately.
            const auto more = std::span(content).subspan(reach, cluster);
            fill_tagged(more, reach, 0xb000'0001);
            s.begin(device::verb::write, reach, {more.begin(), more.end()});
            s.drain();
        }
        s.expect_clean_close();
        if (kind == image_kind::over_a_snapshot) {
            s.rewrite([](reference_image& file) { ASSERT_TRUE(file.add_snapshot()); });
        }
        return s.io.inner().snapshot();
    }

    /// Writes to existing clusters, to new clusters of an existing table, and to new clusters of
    /// new tables. Each `step` writes to different clusters.
    static void load(modelled& r, image_kind kind, std::uint64_t step) {
        const std::uint64_t tables = size(kind) / reach;
        r.begin_write(3 * cluster + 100, cluster);
        if (kind != image_kind::growing_refcounts) {
            r.begin_write(reach + (3 * step + 1) * cluster, cluster);
        }
        for (std::uint64_t t = tables - 4; t < tables; ++t) {
            r.begin_write(t * reach + (3 * step + 1) * cluster + 10, 2 * cluster);
        }
        if (kind == image_kind::growing_refcounts && step == 0) {
            r.begin_write(62 * reach, 12 * reach);
        }
    }

    struct fault {
        std::uint64_t nth = 1;
        int host_errno = ENOSPC;
        unsigned times = 1; ///< flushes that fail
        io::fault::order order = io::fault::order::as_inner;
    };

    /// False if there was no such write to fail.
    static bool run_round(image_kind kind, const io::memory::disk& files,
                          const std::vector<std::byte>& content, const fault& what) {
        modelled r(files, content, what.order, nullptr);
        configure(r.s, kind);
        EXPECT_TRUE(r.s.open());
        load(r, kind, 0);
        EXPECT_EQ(r.wait(), 0U);
        const std::uint64_t cuts = kind == image_kind::growing_refcounts ? 1 : 10;
        for (unsigned i = 0; i < what.times; ++i) {
            const std::uint64_t before = r.s.io.injected();
            r.s.io.fail({.nth = what.nth, .code = io::opcode::write,
                         .host_errno = what.host_errno});
            const result<void> flushed = r.flush();
            r.s.io.forget_rules();
            if (r.s.io.injected() == before) {
                EXPECT_TRUE(flushed) << flushed.error().message();
                return i > 0;
            }
            EXPECT_FALSE(flushed);
            if (!flushed) { EXPECT_EQ(flushed.error().host_errno(), what.host_errno); }
            r.check_cuts("the flush failed", cuts);
            load(r, kind, i + 1);
            EXPECT_EQ(r.wait(), 0U) << "writes go on";
            r.check_cuts("written to again", cuts);
        }
        const result<void> flushed =
            r.flush([&] { r.check_cuts("in the next flush", cuts); });
        EXPECT_TRUE(flushed) << flushed.error().message();
        r.check_cuts("flushed", 2 * cuts);
        r.check_killed("killed");
        r.read_all();
        const result<void> closed = r.close();
        EXPECT_TRUE(closed) << closed.error().message();
        r.check_killed("closed");
        r.expect_no_leaks();
        return true;
    }

    static void run_all(image_kind kind) {
        std::vector<std::byte> content;
        const io::memory::disk files = prepare(kind, content);
        for (const int host_errno : {ENOSPC, EIO, EDQUOT}) {
            for (const unsigned times : {1U, 3U}) {
                fault what{.host_errno = host_errno, .times = times};
                if (host_errno == EIO) { what.order = io::fault::order::newest_first; }
                if (host_errno == EDQUOT && kind != image_kind::small) { break; }
                while (run_round(kind, files, content, what)) {
                    ASSERT_FALSE(HasFailure()) << "failing write " << what.nth << " with "
                                               << host_errno << ", " << times << " times";
                    ++what.nth;
                }
                EXPECT_GT(what.nth, 2U) << "too little to fail";
            }
        }
    }
};

TEST_P(failed_commits, are_made_good_by_the_next) { run_all(GetParam()); }

/// The close fails, and succeeds once there is space.
TEST_P(failed_commits, of_a_close) {
    const image_kind kind = GetParam();
    std::vector<std::byte> content;
    const io::memory::disk files = prepare(kind, content);
    for (std::uint64_t nth = 1;; ++nth) {
        modelled r(files, content, io::fault::order::as_inner, nullptr);
        configure(r.s, kind);
        ASSERT_TRUE(r.s.open());
        load(r, kind, 0);
        EXPECT_EQ(r.wait(), 0U);
        r.s.io.fail({.nth = nth, .code = io::opcode::write, .host_errno = ENOSPC});
        const bool closed = r.close().has_value();
        EXPECT_EQ(closed, r.s.io.injected() == 0);
        r.check_cuts("close", 3);
        if (!closed) { EXPECT_TRUE(r.close()); }
        r.check_killed("closed");
        r.expect_no_leaks();
        ASSERT_FALSE(HasFailure()) << "failing write " << nth;
        if (closed) { break; }
    }
}

/// Only a failed barrier is final: the host may have dropped the data.
TEST_P(failed_commits, whose_barrier_failed_are_not_tried_again) {
    const image_kind kind = GetParam();
    std::vector<std::byte> content;
    const io::memory::disk files = prepare(kind, content);
    for (std::uint64_t nth = 1;; ++nth) {
        modelled r(files, content, io::fault::order::as_inner, nullptr);
        configure(r.s, kind);
        ASSERT_TRUE(r.s.open());
        load(r, kind, 0);
        EXPECT_EQ(r.wait(), 0U);
        r.s.io.fail({.nth = nth, .code = io::opcode::flush, .host_errno = ENOSPC});
        const result<void> flushed = r.flush();
        if (r.s.io.injected() == 0) {
            EXPECT_TRUE(flushed);
            break;
        }
        ASSERT_FALSE(flushed);
        EXPECT_EQ(flushed.error().host_errno(), ENOSPC);
        EXPECT_TRUE(r.flush().error() == errc::poisoned);
        r.begin_write(3 * cluster + 100, 512); // in place
        EXPECT_EQ(r.wait(), 0U);
        r.read_all();
        EXPECT_TRUE(r.close().error() == errc::poisoned);
        ASSERT_FALSE(HasFailure()) << "failing flush " << nth;
    }
}

/// Enough is dirty that writes must wait for a commit, and every commit fails. Writes that need no
/// new clusters go on, the others fail with the commit's error, and nothing hangs. Then there is
/// space again.
TEST(failed_commit, that_writes_have_to_wait_for) {
    constexpr std::uint64_t reach = 64 * 512; // bytes that one L2 table maps
    constexpr std::uint64_t tables = 64;
    const error full = error::from_errno(ENOSPC);
    stage<track::join> s;
    s.plan = {.size = tables * reach, .cluster_bits = 9};
    s.how.cache_bytes = 0;
    s.create_and_open();
    for (std::uint64_t t = 0; t < 8; ++t) { s.write(t * reach, 512, 1); }
    s.drain();
    s.flush();
    s.drain();
    s.points.fail_all(async::point::flush_refcounts, full);
    std::vector<bool> written(tables);
    for (int tries = 0; tries < 3; ++tries) {
        for (std::uint64_t t = 0; t < tables; ++t) {
            const auto& grows = s.write(t * reach + 4096, 512, 2);
            s.drain();
            ASSERT_TRUE(grows.ended);
            written[t] = written[t] || grows.status;
            if (!grows.status) { EXPECT_EQ(grows.status.error().host_errno(), ENOSPC); }
            const auto& in_place = s.write(t % 8 * reach, 512, static_cast<unsigned char>(t + 3));
            s.drain();
            ASSERT_TRUE(in_place.ended);
            EXPECT_TRUE(in_place.status) << in_place.status.error().message();
            EXPECT_EQ(s.value(t % 8 * reach, 512), static_cast<int>(t + 3));
        }
    }
    const auto few = std::count(written.begin(), written.end(), true);
    EXPECT_GT(few, 0);
    EXPECT_LT(few, 32) << "what is dirty is bounded";
    EXPECT_LT(s.disk->engine().top().slices().resident(), 64U);
    for (std::uint64_t t = 0; t < tables; ++t) {
        EXPECT_EQ(s.value(t * reach + 4096, 512), written[t] ? 2 : 0);
    }
    s.points.mend(async::point::flush_refcounts);
    for (std::uint64_t t = 0; t < tables; ++t) {
        const auto& grows = s.write(t * reach + 4096, 512, 2);
        s.drain();
        EXPECT_TRUE(grows.ended && grows.status);
    }
    const auto& flushed = s.flush();
    s.drain();
    EXPECT_TRUE(flushed.status);
    for (std::uint64_t t = 0; t < tables; ++t) { EXPECT_EQ(s.value(t * reach + 4096, 512), 2); }
    s.expect_clean_close();
}

/// The commit has only data to write before its barrier, and fails before it begins the barrier.
/// The next commit must not write the mappings without it.
TEST(failed_commit, that_never_came_to_its_barrier) {
    stage<track::join> s({.deferred = true}, {.record = true});
    s.plan.lazy_refcounts = true;
    s.create_and_open();
    constexpr std::uint64_t cluster = stage<>::cluster;
    s.write(0, cluster, 1);
    s.drain();
    s.flush();
    s.drain();
    s.write(2 * cluster, cluster, 2);
    s.drain();
    s.points.fail(async::point::flush_to_disk, error::from_errno(ENOMEM));
    const auto& failed = s.flush();
    s.drain();
    EXPECT_EQ(failed.status.error().host_errno(), ENOMEM);
    const auto& flushed = s.flush();
    do {
        for (std::uint64_t seed = 0; seed < 50; ++seed) {
            reference_image left(s.io.survivors(seed).at("top").bytes());
            const auto v = left.check(true);
            ASSERT_EQ(v.corruptions, 0U) << v.first;
        }
    } while (s.io.wait() != 0);
    EXPECT_TRUE(flushed.status);
    EXPECT_EQ(s.value(2 * cluster, cluster), 2);
    s.expect_clean_close();
}

std::string name_of(const ::testing::TestParamInfo<image_kind>& info) {
    switch (info.param) {
    case image_kind::small: return "small";
    case image_kind::lazy: return "lazy";
    case image_kind::over_a_snapshot: return "over_a_snapshot";
    case image_kind::growing_refcounts: return "growing_refcounts";
    case image_kind::tiny_cache: return "tiny_cache";
    }
    return "";
}
INSTANTIATE_TEST_SUITE_P(of, failed_commits,
                         ::testing::Values(image_kind::small, image_kind::lazy,
                                           image_kind::over_a_snapshot,
                                           image_kind::growing_refcounts, image_kind::tiny_cache),
                         &name_of);

} // namespace
} // namespace gaur::test
