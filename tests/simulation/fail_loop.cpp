// SPDX-License-Identifier: BSL-1.0
// The first I/O operation fails, then the second, and so on to the last: of create, open, reads,
// allocating writes over every kind of lower content, flush and close.
#include "support/held_points.hpp"
#include "support/model_disk.hpp"
#include "support/orderings.hpp"

#include <cerrno>

namespace gaur::test {
namespace {

enum class below { nothing, backing_file, snapshot, compressed };

struct setup {
    below old = below::nothing;
    bool lazy = false;
    int host_errno = EIO;
    io::fault::order order = io::fault::order::as_inner;
};

template <class Order>
struct fail_loop : ::testing::Test {
    using stage_type = stage<Order, async::no_hooks>;
    static constexpr std::uint64_t cluster = stage_type::cluster;
    static constexpr std::uint64_t size = 40 * cluster;

    /// The disk with which every round begins. Fills `content` with what its guest sees.
    static io::memory::disk prepare(const setup& how, std::vector<std::byte>& content) {
        stage_type s;
        s.plan.size = size;
        s.plan.lazy_refcounts = how.lazy;
        content.assign(size, std::byte{0});
        if (how.old == below::backing_file) {
            fill_tagged(std::span(content).first(30 * cluster + 700), 0, 0xb000'0000);
            s.io.inner().set_content("below", io::sparse_bytes(std::span<const std::byte>(
                                                  content.data(), 30 * cluster + 700)));
            s.plan.backing_file = "below";
            s.plan.backing_format = "raw";
        }
        s.create_and_open();
        if (how.old != below::backing_file) {
            const auto part = std::span(content).subspan(2 * cluster, 10 * cluster);
            fill_tagged(part, 2 * cluster, 0xb000'0001);
            s.begin(device::verb::write, 2 * cluster, {part.begin(), part.end()});
            s.drain();
        }
        s.expect_clean_close();
        if (how.old == below::snapshot) {
            s.rewrite([](reference_image& file) { ASSERT_TRUE(file.add_snapshot()); });
        }
        if (how.old == below::compressed) {
            s.rewrite([](reference_image& file) { file.compress([] { return true; }); });
        }
        return s.io.inner().snapshot();
    }

    /// A stage whose requests the model follows.
    struct round {
        round(const setup& how, const io::memory::disk& files,
              const std::vector<std::byte>& content)
            : s({.deferred = how.order != io::fault::order::as_inner}, {.order = how.order}),
              model(content) {
            s.io.inner().restore(files);
        }
        void write(std::uint64_t at, std::uint64_t n) {
            std::vector<std::byte> data(n);
            const std::uint32_t id = model.begin_write(at, data, false);
            todo.push_back({&s.begin(device::verb::write, at, std::move(data)), id, {}});
        }
        void read(std::uint64_t at, std::uint64_t n) {
            step next;
            model.begin_read(next.reading, at, n);
            next.what = &s.read(at, n);
            todo.push_back(std::move(next));
        }
        void flush() {
            const std::uint32_t began = model.begin_flush();
            todo.push_back({&s.flush(), began, {}});
        }
        /// Waits until all have ended, and tells the model the outcomes.
        void wait() {
            s.drain();
            for (const step& t : todo) {
                ASSERT_TRUE(t.what->ended) << "it hangs";
                const bool well = t.what->status.has_value();
                if (t.what->data.empty()) {
                    model.end_flush(t.id, well);
                } else if (t.id != 0) {
                    model.end_write(t.id, well);
                } else if (well) {
                    EXPECT_EQ(model.end_read(t.reading, t.what->data), "");
                }
            }
            todo.clear();
        }
        void load() {
            write(3 * cluster + 100, 700);
            write(3 * cluster + 2000, 700); // the same cluster
            write(20 * cluster, 2 * cluster);
            wait();
            flush();
            read(0, 12 * cluster);
            wait();
            write(3 * cluster + 50, 300); // in place
            write(5 * cluster + 3000, 3 * cluster);
            write(29 * cluster + 1, 4000);
            flush();
            read(19 * cluster, 4 * cluster);
            wait();
            flush();
            wait();
            write(8 * cluster, cluster);
            write(39 * cluster + 5, 9);
            wait();
        }

        struct step {
            typename stage_type::pending* what = nullptr;
            std::uint32_t id = 0;
            model_disk::read_begun reading;
        };
        stage_type s;
        model_disk model;
        std::vector<step> todo;
    };

    static std::vector<std::byte> at_rest(stage_type& s, const setup& how) {
        std::vector<std::byte> seen(size);
        if (how.old == below::backing_file) {
            s.io.inner().content("below").read(0, seen.data(), seen.size());
        }
        reference_image(s.io.inner().content("top").bytes()).read_over(seen);
        return seen;
    }

    /// False if nothing was left to fail.
    static bool run_round(const setup& how, const io::memory::disk& files,
                          const std::vector<std::byte>& content, std::uint64_t nth) {
        round r(how, files, content);
        stage_type& s = r.s;
        s.io.fail({.nth = nth, .host_errno = how.host_errno});
        const result<void> opened = s.open();
        bool closed = false;
        if (opened) {
            r.load();
            EXPECT_TRUE(s.disk->engine().allocations().empty());
            EXPECT_EQ(s.disk->in_flight(), 0U);
            const std::uint32_t began = r.model.begin_flush();
            closed = s.close().has_value();
            r.model.end_flush(began, closed);
        } else {
            s.drain();
            EXPECT_EQ(opened.error().host_errno(), how.host_errno);
        }
        const bool failed = s.io.injected() != 0;
        if (!failed) { EXPECT_TRUE(opened && closed); }
        s.io.forget_rules();
        reference_image file(s.io.inner().content("top").bytes());
        if (!file.is_dirty()) {
            const auto v = file.check();
            EXPECT_EQ(v.corruptions, 0U) << v.first;
            if (!failed) { EXPECT_EQ(v.leaks, 0U); }
        } else {
            EXPECT_FALSE(closed);
        }
        EXPECT_EQ(r.model.after_power_cut(at_rest(s, how)), "");
        if (how.old == below::snapshot) {
            std::vector<std::byte> kept(size);
            file.read_snapshot_over(0, kept);
            EXPECT_TRUE(kept == content) << "the snapshot has changed";
        }
        return failed;
    }

    static void run_all(const setup& how) {
        std::vector<std::byte> content;
        const io::memory::disk files = prepare(how, content);
        std::uint64_t nth = 1;
        while (run_round(how, files, content, nth)) {
            ASSERT_FALSE(::testing::Test::HasFailure()) << "failing operation " << nth;
            ++nth;
        }
        EXPECT_GT(nth, 20U) << "too little to fail";
    }
    static void run_orders(setup how) {
        for (const auto order : {io::fault::order::as_inner, io::fault::order::oldest_first,
                                 io::fault::order::newest_first}) {
            for (const int host_errno : {EIO, ENOSPC}) {
                how.order = order;
                how.host_errno = host_errno;
                run_all(how);
            }
        }
    }

};
TYPED_TEST_SUITE(fail_loop, orderings, ordering_name);

TYPED_TEST(fail_loop, over_nothing) { this->run_orders({.old = below::nothing}); }
TYPED_TEST(fail_loop, over_a_backing_file) { this->run_orders({.old = below::backing_file}); }
TYPED_TEST(fail_loop, over_a_snapshot) { this->run_orders({.old = below::snapshot}); }
TYPED_TEST(fail_loop, over_compressed_clusters) { this->run_orders({.old = below::compressed}); }
TYPED_TEST(fail_loop, with_lazy_refcounts) {
    this->run_orders({.old = below::snapshot, .lazy = true});
}

TEST(fail_loop_of_create, leaves_no_image_or_a_whole_one) {
    for (std::uint64_t nth = 1;; ++nth) {
        stage<track::serialize, async::no_hooks> s;
        s.io.fail({.nth = nth});
        const result<void> made =
            sync_wait(s.io, s.loop.get_executor(),
                      qcow2::create(s.io, s.loop.get_executor(), "top", s.plan));
        const bool failed = s.io.injected() != 0;
        EXPECT_EQ(made.has_value(), !failed) << nth;
        s.io.forget_rules();
        const result<void> opened = s.open();
        if (!failed) { EXPECT_TRUE(opened); }
        if (opened) { s.expect_clean_close(); }
        if (!failed) {
            EXPECT_GT(nth, 4U);
            break;
        }
    }
}

} // namespace
} // namespace gaur::test
