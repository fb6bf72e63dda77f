// SPDX-License-Identifier: BSL-1.0
// An allocating write and the writes that join it, of which any subset fails: over clusters that
// were never written, over recycled ones, over what has to be copied. Whatever fails, no entry
// leads to a cluster without data or past the end of the file, and every byte is an allowed one;
// also after the process is killed, and after a power cut.
#include "support/held_points.hpp"
#include "support/model_disk.hpp"

#include <bit>
#include <cerrno>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace gaur::test {
namespace {

enum class below { pristine, recycled, shared_with_snapshot, backing_file, zeroes_round_data };

/// Which writes there are beside the owner's: a set.
enum joiner : unsigned { at_head = 1, in_middle = 2, at_tail = 4, behind = 8 };
constexpr unsigned all_joiners = 16;

/// The first so many writes of the device that fail, or not, in each combination.
constexpr unsigned failing_writes = 6;

struct layout {
    below old = below::pristine;
    bool lazy = false;
    io::fault::order order = io::fault::order::oldest_first;
};

class partial_writes : public ::testing::TestWithParam<below> {
  protected:
    using stage_type = stage<track::join, async::no_probe>;
    static constexpr std::uint64_t cluster = stage_type::cluster;
    static constexpr std::uint64_t size = 24 * cluster;
    static constexpr std::uint64_t first = 2 * cluster; // of the three that the owner writes to

    static void configure(stage_type& s, const layout& how) {
        s.plan.size = size;
        s.plan.lazy_refcounts = how.lazy;
    }

    /// The disk with which each round begins; fills `content` with what its guest sees.
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
        if (how.old == below::recycled) { // the clusters are free, and hold what they held
            s.rewrite([](reference_image& file) { file.zero_all(false); });
            content.assign(size, std::byte{0});
        }
        return s.io.inner().snapshot();
    }

    /// What the guest sees of a file at rest.
    static std::vector<std::byte> at_rest(const io::memory::disk& files, const layout& how) {
        std::vector<std::byte> seen(size);
        if (how.old == below::backing_file) {
            files.at("below").read(0, seen.data(), seen.size());
        } else if (how.old == below::zeroes_round_data) {
            reference_image(files.at("below").bytes()).read_over(seen);
        }
        reference_image(files.at("top").bytes()).read_over(seen);
        return seen;
    }

    /// One combination.
    struct round {
        round(const layout& asked, const io::memory::disk& files,
              const std::vector<std::byte>& content)
            : how(asked), s({.deferred = true}, {.order = asked.order, .record = true}),
              model(content) {
            s.io.inner().restore(files);
        }

        void open() {
            const result<void> opened = s.open();
            ASSERT_TRUE(opened) << opened.error().message();
            EXPECT_EQ(s.value(size - cluster + 1, 8), 0) << "its L2 slice is in memory now";
        }
        void begin(std::uint64_t at, std::uint64_t n) {
            std::vector<std::byte> data(n);
            const std::uint32_t id = model.begin_write(at, data, false);
            todo.emplace_back(&s.begin(device::verb::write, at, std::move(data)), id);
        }
        void wait() {
            s.drain();
            for (const auto& [asked, id] : todo) {
                ASSERT_TRUE(asked->ended) << "it hangs";
                model.end_write(id, asked->status.has_value());
            }
            todo.clear();
        }
        void flush() {
            const std::uint32_t began = model.begin_flush();
            const auto& asked = s.flush();
            s.drain();
            ASSERT_TRUE(asked.ended);
            EXPECT_TRUE(asked.status) << asked.status.error().message();
            model.end_flush(began, asked.status.has_value());
        }

        void load(unsigned joiners, unsigned failing) {
            for (unsigned nth = 0; nth < failing_writes; ++nth) {
                if ((failing >> nth & 1) == 0) { continue; }
                s.io.fail({.nth = nth + 1, .code = io::opcode::write, .host_errno = ENOSPC});
            }
            begin(first + 100, 3 * cluster - 200);
            if ((joiners & at_head) != 0) { begin(first, 50); }
            if ((joiners & in_middle) != 0) { begin(first + cluster + 900, 700); }
            if ((joiners & at_tail) != 0) { begin(first + 3 * cluster - 60, 60); }
            if ((joiners & behind) != 0) { begin(first + 3 * cluster - 30, 2 * cluster); }
            wait();
            s.io.forget_rules();
        }

        void check_structure(const io::memory::disk& files, const char* when) {
            reference_image file(files.at("top").bytes());
            const auto v = file.check(file.is_dirty());
            EXPECT_EQ(v.corruptions, 0U) << when << ": " << v.first;
        }
        void check_cuts(const char* when) {
            for (std::uint64_t seed = 0; seed < 4; ++seed) {
                const io::memory::disk left = s.io.survivors(seed);
                check_structure(left, when);
                EXPECT_EQ(model.after_power_cut(at_rest(left, how)), "") << when;
            }
        }
        /// Another process goes on after this one was killed.
        void reopen() {
            s.disk.reset();
            s.drain();
            check_structure(s.io.inner().snapshot(), "killed");
            const std::vector<std::byte> left = at_rest(s.io.inner().snapshot(), how);
            EXPECT_EQ(model.after_power_cut(left), "");
            if (reference_image(s.io.inner().content("top").bytes()).is_dirty()) { return; }
            model.restart(left);
            ASSERT_TRUE(s.open());
            for (std::uint64_t c = 0; c < 6; ++c) { begin(first + c * cluster + 500, 1000); }
            wait();
            EXPECT_TRUE(s.disk->is_writable());
            read_all();
            EXPECT_TRUE(s.close());
            check_structure(s.io.inner().snapshot(), "closed");
        }
        void read_all() {
            auto& all = s.read(0, size);
            s.drain();
            ASSERT_TRUE(all.ended && all.status) << all.status.error().message();
            EXPECT_EQ(model.settle(all.data), "");
        }

        layout how;
        stage_type s;
        model_disk model;
        std::vector<std::pair<stage_type::pending*, std::uint32_t>> todo;
    };

    static void run_round(const layout& how, const io::memory::disk& files,
                          const std::vector<std::byte>& content, unsigned joiners,
                          unsigned failing) {
        round r(how, files, content);
        r.open();
        r.load(joiners, failing);
        EXPECT_TRUE(r.s.disk->engine().changes().empty());
        r.check_cuts("not flushed");
        r.flush();
        r.check_cuts("flushed");
        if (std::popcount(failing ^ joiners) % 2 == 0) {
            r.reopen();
        } else {
            r.read_all();
            EXPECT_TRUE(r.s.close());
            reference_image file(r.s.io.inner().content("top").bytes());
            EXPECT_EQ(file.check().corruptions + file.check().leaks, 0U) << file.check().first;
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
