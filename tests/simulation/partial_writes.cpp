// SPDX-License-Identifier: BSL-1.0
// An allocating write and the writes that join it, any subset of which fails: over clusters that
// were never written, over recycled ones, over old content that must be copied. Whatever fails, no
// entry points to a cluster without data or past the end of the file, and every byte is allowed.
// This also holds after the process is killed, and after a power cut.
#include "support/modelled_stage.hpp"

#include <bit>
#include <cerrno>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace gaur::test {
namespace {

enum class below { pristine, recycled, shared_with_snapshot, backing_file, zeroes_round_data };

/// The set of writes beside the owner's.
enum joiner : unsigned { at_head = 1, in_middle = 2, at_tail = 4, behind = 8 };
constexpr unsigned all_joiners = 16;

/// Number of first device writes of which each combination fails.
constexpr unsigned failing_writes = 6;

struct layout {
    below old = below::pristine;
    bool lazy = false;
    io::fault::order order = io::fault::order::oldest_first;
};

class partial_writes : public ::testing::TestWithParam<below> {
  protected:
    using modelled = modelled_stage<track::join>;
    using stage_type = modelled::stage_type;
    static constexpr std::uint64_t cluster = stage_type::cluster;
    static constexpr std::uint64_t size = 24 * cluster;
    static constexpr std::uint64_t first = 2 * cluster; // of the owner's three clusters

    static void configure(stage_type& s, const layout& how) {
        s.plan.size = size;
        s.plan.lazy_refcounts = how.lazy;
    }

    /// The disk with which each round begins. Fills `content` with what its guest sees.
    static io::memory::disk prepare(const layout& how, std::vector<std::byte>& content) {
        stage_type s;
        configure(s, how);
        content.assign(size, std::byte{0});
        const auto fill = [&](std::uint64_t at, std::uint64_t n) {
            const auto part = std::span(content).subspan(at, n);
            fill_tagged(part, at, 0xb000'0000);
            return std::vector<std::byte>(part.begin(), part.end());
        };
        if (how.old == below::backing_file) {
            fill(0, 20 * cluster);
            s.io.inner().set_content("below", io::sparse_bytes(content));
            s.plan.backing_file = "below";
            s.plan.backing_format = "raw";
        }
        if (how.old == below::zeroes_round_data) {
            stage_type lower;
            configure(lower, {});
            lower.create_and_open();
            lower.begin(device::verb::write, first + cluster, fill(first + cluster, cluster));
            lower.drain();
            lower.expect_clean_close();
            s.io.inner().set_content("below", lower.io.inner().content("top"));
            s.plan.backing_file = "below";
            s.plan.backing_format = "qcow2";
        }
        s.create_and_open();
        if (how.old == below::shared_with_snapshot || how.old == below::recycled) {
            s.begin(device::verb::write, 0, fill(0, 12 * cluster));
        } else {
            s.begin(device::verb::write, size - cluster, fill(size - cluster, 1)); // an L2 table
        }
        s.drain();
        s.expect_clean_close();
        if (how.old == below::shared_with_snapshot) {
            s.rewrite([](reference_image& file) { ASSERT_TRUE(file.add_snapshot()); });
        }
        if (how.old == below::recycled) { // the clusters are free, and keep their old content
            s.rewrite([](reference_image& file) { file.zero_all(false); });
            content.assign(size, std::byte{0});
        }
        return s.io.inner().snapshot();
    }

    /// What the guest sees below "top".
    static modelled::fill_below fill_below(below old) {
        switch (old) {
        case below::backing_file:
            return [](const io::memory::disk& files, std::vector<std::byte>& seen) {
                files.at("below").read(0, seen.data(), seen.size());
            };
        case below::zeroes_round_data:
            return [](const io::memory::disk& files, std::vector<std::byte>& seen) {
                reference_image(files.at("below").bytes()).read_over(seen);
            };
        default: return nullptr;
        }
    }

    static void load(modelled& r, unsigned joiners, unsigned failing) {
        for (unsigned nth = 0; nth < failing_writes; ++nth) {
            if ((failing >> nth & 1) == 0) { continue; }
            r.s.io.fail({.nth = nth + 1, .code = io::opcode::write, .host_errno = ENOSPC});
        }
        r.begin_write(first + 100, 3 * cluster - 200);
        if ((joiners & at_head) != 0) { r.begin_write(first, 50); }
        if ((joiners & in_middle) != 0) { r.begin_write(first + cluster + 900, 700); }
        if ((joiners & at_tail) != 0) { r.begin_write(first + 3 * cluster - 60, 60); }
        if ((joiners & behind) != 0) { r.begin_write(first + 3 * cluster - 30, 2 * cluster); }
        r.wait();
        r.s.io.forget_rules();
    }

    /// Another process opens the image after this one was killed.
    static void reopen(modelled& r) {
        r.s.disk.reset();
        r.s.drain();
        const io::memory::disk left = r.s.io.inner().snapshot();
        if (reference_image(left.at("top").bytes()).is_dirty()) { return; }
        r.model.restart(r.content(left));
        ASSERT_TRUE(r.s.open());
        for (std::uint64_t c = 0; c < 6; ++c) { r.begin_write(first + c * cluster + 500, 1000); }
        EXPECT_EQ(r.wait(), 0U);
        EXPECT_TRUE(r.s.disk->is_writable());
        r.read_all();
        EXPECT_TRUE(r.close());
        r.check_killed("closed");
    }

    static void run_round(const layout& how, const io::memory::disk& files,
                          const std::vector<std::byte>& content, unsigned joiners,
                          unsigned failing) {
        modelled r(files, content, how.order, fill_below(how.old));
        ASSERT_TRUE(r.s.open());
        EXPECT_EQ(r.s.value(size - cluster + 1, 8), 0) << "its L2 slice is in memory now";
        load(r, joiners, failing);
        EXPECT_TRUE(r.s.disk->engine().allocations().empty());
        r.check_cuts("not flushed", 4);
        EXPECT_TRUE(r.flush());
        r.check_cuts("flushed", 4);
        r.check_killed("killed");
        if (std::popcount(failing ^ joiners) % 2 == 0) {
            reopen(r);
        } else {
            r.read_all();
            EXPECT_TRUE(r.close());
            r.expect_no_leaks();
        }
    }

    static void run_all(layout how) {
        std::vector<std::byte> content;
        const io::memory::disk files = prepare(how, content);
        for (unsigned joiners = 0; joiners < all_joiners; ++joiners) {
            for (unsigned failing = 0; failing < 1U << failing_writes; ++failing) {
                run_round(how, files, content, joiners, failing);
                ASSERT_FALSE(HasFailure())
                    << "joiners " << joiners << ", failing writes " << failing << " (sets), lazy "
                    << how.lazy << ", order " << static_cast<int>(how.order);
            }
        }
    }
};

TEST_P(partial_writes, link_nothing_without_data) {
    run_all({GetParam(), false, io::fault::order::as_inner});
    run_all({GetParam(), true, io::fault::order::oldest_first});
    run_all({GetParam(), false, io::fault::order::newest_first});
}

std::string name_of(const ::testing::TestParamInfo<below>& info) {
    switch (info.param) {
    case below::pristine: return "pristine";
    case below::recycled: return "recycled";
    case below::shared_with_snapshot: return "shared_with_snapshot";
    case below::backing_file: return "over_a_backing_file";
    case below::zeroes_round_data: return "zeroes_round_data";
    }
    return "";
}
INSTANTIATE_TEST_SUITE_P(over, partial_writes,
                         ::testing::Values(below::pristine, below::recycled,
                                           below::shared_with_snapshot, below::backing_file,
                                           below::zeroes_round_data),
                         &name_of);

} // namespace
} // namespace gaur::test
