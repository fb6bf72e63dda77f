// SPDX-License-Identifier: BSL-1.0
// Heap allocations of a request once the image is warm: none. Over a file of the host, since a disk
// in memory allocates its own content.
#include "support/counting_new.hpp"
#include "support/qemu_img.hpp"

#include <gaur/async/sync_wait.hpp>
#include <gaur/exec/inline.hpp>
#include <gaur/io/fault.hpp>
#include <gaur/io/sync.hpp>
#include <gaur/qcow2/create.hpp>
#include <gaur/qcow2/image.hpp>
#include <gaur/track/ordering.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace gaur::test {
namespace {

constexpr std::uint64_t cluster = 65'536;

template <track::Ordering Order, io::fault::order Ends>
struct setup {
    using ordering = Order;
    static constexpr io::fault::order ends = Ends;
};
using setups = ::testing::Types<setup<track::serialize, io::fault::order::as_inner>,
                                setup<track::serialize, io::fault::order::oldest_first>,
                                setup<track::join, io::fault::order::oldest_first>>;
struct setup_names {
    template <class S>
    static std::string GetName(int) {
        const bool at_once = S::ends == io::fault::order::as_inner;
        return std::string(S::ordering::name) + (at_once ? "_at_once" : "_later");
    }
};

template <class Setup>
class allocations : public ::testing::Test {
  protected:
    using backend = io::fault::backend<io::sync::backend>;
    using executor = exec::inline_loop::executor;
    using image = qcow2::image<backend, executor, qcow2::ordered_by<typename Setup::ordering>>;
    using request = typename image::request;

    static constexpr std::uint64_t disk_size = 512 * cluster;
    static constexpr std::size_t most_in_flight = 8;

    allocations() : io(*io::sync::backend::make(), {.order = Setup::ends}) {}

    template <class T>
    result<T> wait(async::task<T> task) {
        return sync_wait(io, loop.get_executor(), std::move(task));
    }

    void open(bool over_backing_file) {
        qcow2::create_options how = {.size = disk_size};
        if (over_backing_file) {
            std::ofstream(folder.file("lower"), std::ios::binary)
                << std::string(disk_size, 'x');
            how.backing_file = "lower";
            how.backing_format = "raw";
        }
        const std::string path = folder.file("image");
        ASSERT_TRUE(wait(qcow2::create(io, loop.get_executor(), path, how)));
        auto opened = wait(qcow2::open<qcow2::ordered_by<typename Setup::ordering>>(
            io, loop.get_executor(), path,
            {.write = true, .references = qcow2::references::follow}));
        ASSERT_TRUE(opened) << opened.error().message();
        disk.emplace(*std::move(opened));
    }

    /// `count` requests of 4 KiB, the i-th at `first + i * step`, some of them in flight together.
    void ask(device::verb what, unsigned count, std::uint64_t first, std::uint64_t step) {
        for (unsigned done = 0; done < count;) {
            ended = 0;
            const std::size_t n = std::min<std::size_t>(most_in_flight, count - done);
            for (std::size_t i = 0; i < n; ++i, ++done) {
                const std::size_t size = what == device::verb::flush ? 0 : 4096;
                auto& r = requests[i];
                r.emplace(disk->engine(), what, guest_offset{first + done * step},
                          std::span(memory).subspan(i * 4096, size));
                r->start(&on_end, this);
            }
            while (io.in_flight() != 0) { io.wait(); }
            ASSERT_EQ(ended, n);
        }
    }
    /// Runs the same twice, at two places. The second run must not allocate.
    std::uint64_t news_of(device::verb what, std::uint64_t first, std::uint64_t step) {
        ask(what, 64, first, step);
        const allocations_in_scope news;
        ask(what, 64, first + 64 * step, step);
        return news.count();
    }
    static void on_end(void* self, result<void> status) noexcept {
        EXPECT_TRUE(status);
        ++static_cast<allocations*>(self)->ended;
    }
    void close() {
        EXPECT_TRUE(wait(disk->close()));
        disk.reset();
    }

    scratch_folder folder;
    backend io;
    exec::inline_loop loop;
    std::optional<image> disk;
    std::vector<std::byte> memory = std::vector<std::byte>(most_in_flight * 4096, std::byte{7});
    std::array<std::optional<request>, most_in_flight> requests;
    std::size_t ended = 0;
};
TYPED_TEST_SUITE(allocations, setups, setup_names);

using device::verb;

TYPED_TEST(allocations, none_for_what_is_mapped) {
    this->open(false);
    this->ask(verb::write, 256, 0, 4096);
    EXPECT_EQ(this->news_of(verb::read, 0, 4096), 0U);
    EXPECT_EQ(this->news_of(verb::write, 0, 4096), 0U);
    // Across the borders of clusters: more than one extent.
    EXPECT_EQ(this->news_of(verb::read, 2048, 4096), 0U);
    EXPECT_EQ(this->news_of(verb::write, 2048, 4096), 0U);
    this->close();
}

TYPED_TEST(allocations, none_for_what_reads_as_zeroes) {
    this->open(false);
    EXPECT_EQ(this->news_of(verb::read, 0, cluster), 0U);
    this->close();
}

TYPED_TEST(allocations, none_for_new_clusters) {
    this->open(false);
    const allocations_in_scope cold;
    this->ask(verb::write, 1, 500 * cluster, 0);
    EXPECT_NE(cold.count(), 0U) << "the first one pays";
    EXPECT_EQ(this->news_of(verb::write, 0, cluster), 0U);
    this->close();
}

TYPED_TEST(allocations, none_for_neighbours_in_new_clusters) {
    this->open(false);
    // Sixteen to a cluster: those in flight together wait for each other, or join.
    EXPECT_EQ(this->news_of(verb::write, 0, 4096), 0U);
    this->close();
}

TYPED_TEST(allocations, none_for_copy_on_write) {
    this->open(true);
    EXPECT_EQ(this->news_of(verb::write, 8192, cluster), 0U);
    this->close();
}

TYPED_TEST(allocations, none_for_reads_of_a_backing_file) {
    this->open(true);
    EXPECT_EQ(this->news_of(verb::read, 8192, cluster), 0U);
    this->close();
}

TYPED_TEST(allocations, none_for_a_flush) {
    this->open(false);
    EXPECT_EQ(this->news_of(verb::flush, 0, 0), 0U) << "with nothing to do";
    std::uint64_t at = 0;
    for (int round = 0; round < 6; ++round, at += 8 * cluster) {
        const allocations_in_scope news;
        this->ask(verb::write, 8, at, cluster);
        this->ask(verb::flush, 1, 0, 0);
        if (round >= 3) { EXPECT_EQ(news.count(), 0U) << "after writes that took clusters"; }
    }
    this->close();
}

} // namespace
} // namespace gaur::test
