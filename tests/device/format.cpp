// SPDX-License-Identifier: BSL-1.0
#include <gaur/device/format.hpp>

#include <gaur/async/sync_wait.hpp>
#include <gaur/device/image.hpp>
#include <gaur/exec/inline.hpp>
#include <gaur/io/memory.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace gaur::test {
namespace {

/// The smallest readable format: all zeroes.
struct zeroes {
    std::uint64_t size() const noexcept { return 1 << 20; }
    std::uint64_t cluster_size() const noexcept { return 512; }
    int& file() noexcept { return nothing; }
    device::located locate(guest_offset, std::uint64_t n) noexcept {
        device::located l;
        l.what.kind = device::mapping::zero;
        l.what.size = n;
        return l;
    }
    async::task<void> resolve(const device::missing&) { co_return {}; }
    async::task<void> inflate(const device::extent&, std::span<std::byte>) { co_return {}; }
    int nothing = 0;
};
static_assert(device::check_readable_format<zeroes>());
static_assert(device::ReadableFormat<zeroes>);
static_assert(!device::TopFormat<zeroes>);

struct waits_in_locate : zeroes {
    async::task<device::located> locate(guest_offset, std::uint64_t);
};
static_assert(!device::ReadableFormat<waits_in_locate>, "locate answers at once, from memory");
struct without_inflate : zeroes {
    void inflate() = delete;
};
static_assert(!device::ReadableFormat<without_inflate>);

/// The smallest writable format.
struct written : zeroes {
    bool is_busy() const noexcept { return false; }
    void on_idle(void (*)(void*) noexcept, void*) noexcept {}
    void forget_callbacks() noexcept {}
    track::quarantine::generation enter() noexcept { return 0; }
    void leave(track::quarantine::generation) noexcept {}
    bool is_writable() const noexcept { return true; }
    std::optional<host_offset> find_mapped(guest_offset, std::uint64_t, bool) noexcept {
        return {};
    }
    void note_write() noexcept {}
    struct durable {
        result<void> await_resume() noexcept { return {}; }
    };
    durable commit() noexcept { return {}; }
    async::task<void> close() { co_return {}; }
};
static_assert(device::check_top_format<written>());
static_assert(!device::AllocatingFormat<written>);

/// Exactly the members that AllocatingFormat names: a disk of four clusters. Each has a fixed place
/// in the file once it has been written.
template <class Shard>
class least_format {
  public:
    static constexpr std::uint64_t cluster = 512;

    least_format(Shard& shard, typename Shard::backend_type& io,
                 typename Shard::backend_type::file file)
        : file_(io, std::move(file), shard.buffers()) {}

    std::uint64_t size() const noexcept { return 4 * cluster; }
    std::uint64_t cluster_size() const noexcept { return cluster; }
    typename Shard::file& file() noexcept { return file_; }
    device::located locate(guest_offset at, std::uint64_t n) noexcept {
        device::located l;
        l.what.size = std::min(n, cluster - at.value % cluster);
        if (!mapped_[at.value / cluster]) { return l; }
        l.what.kind = device::mapping::data;
        l.what.in_place = true;
        l.what.has_host = true;
        l.what.host = {at.value};
        return l;
    }
    async::task<void> resolve(const device::missing&) { co_return {}; }
    async::task<void> inflate(const device::extent&, std::span<std::byte>) { co_return {}; }

    std::optional<host_offset> find_mapped(guest_offset at, std::uint64_t n, bool) noexcept {
        const device::located l = locate(at, n);
        if (!l.what.has_host || l.what.size < n) { return {}; }
        return l.what.host;
    }
    track::quarantine::generation enter() noexcept { return 0; }
    void leave(track::quarantine::generation) noexcept {}
    bool is_writable() const noexcept { return true; }
    void note_write() noexcept {}
    struct durable {
        bool await_ready() const noexcept { return true; }
        void await_suspend(std::coroutine_handle<>) noexcept {}
        result<void> await_resume() noexcept { return {}; }
    };
    durable commit() noexcept { return {}; }
    async::task<void> close() { co_return {}; }
    bool is_busy() const noexcept { return false; }
    void on_idle(void (*)(void*) noexcept, void*) noexcept {}
    void forget_callbacks() noexcept {}

    cluster_geometry geometry() const noexcept { return {9}; }
    std::uint64_t slice_left(guest_offset at) const noexcept { return size() - at.value; }
    device::write_plan plan_write(guest_offset at, std::uint64_t n) noexcept {
        device::write_plan plan;
        if (mapped_[at.value / cluster]) {
            plan.in_place = locate(at, n).what;
        } else {
            plan.new_clusters = {1};
        }
        return plan;
    }
    device::grant take(guest_offset at, cluster_count) noexcept {
        device::grant g;
        g.first = {at.value / cluster};
        g.count = {1};
        g.pristine = true;
        return g;
    }
    device::located link(guest_offset at, const device::grant&, bool) noexcept {
        mapped_[at.value / cluster] = true;
        return {};
    }
    void give_back(const device::grant&) noexcept {}
    bool must_commit() const noexcept { return false; }

  private:
    typename Shard::file file_;
    std::array<bool, 4> mapped_{};
};

TEST(format, with_no_other_members_goes_through_the_whole_engine) {
    using backend_type = io::memory::backend;
    using executor_type = exec::inline_loop::executor;
    using shard_type = async::shard<backend_type, executor_type>;
    using format_type = least_format<shard_type>;
    using engine_type = device::engine<backend_type, executor_type, format_type, format_type,
                                       device::default_policies>;
    static_assert(device::check_allocating_format<format_type>());

    backend_type io;
    exec::inline_loop loop;
    auto file = io.open("f", {.write = true, .create = true});
    ASSERT_TRUE(file);
    auto own = std::make_unique<shard_type>(io, loop.get_executor());
    auto top = std::make_unique<format_type>(*own, io, *std::move(file));
    device::image<engine_type> disk(std::make_unique<engine_type>(
        std::move(own), std::move(top), std::vector<std::unique_ptr<format_type>>{}));
    const std::vector<std::byte> data(700, std::byte{7});
    auto write = disk.write({100}, data);
    ASSERT_TRUE(sync_wait(write));
    std::vector<std::byte> all(static_cast<std::size_t>(disk.size()), std::byte{1});
    auto read = disk.read({0}, all);
    ASSERT_TRUE(sync_wait(read));
    for (std::size_t i = 0; i < all.size(); ++i) {
        ASSERT_EQ(all[i], std::byte{i >= 100 && i < 800 ? std::uint8_t{7} : std::uint8_t{0}}) << i;
    }
    auto flush = disk.flush();
    EXPECT_TRUE(sync_wait(flush));
    const auto run = sync_wait(io, loop.get_executor(), disk.block_status({0}, disk.size()));
    ASSERT_TRUE(run);
    EXPECT_EQ(run->size, 800U) << "as far as the file reaches";
    EXPECT_TRUE(sync_wait(io, loop.get_executor(), disk.close()));
}

TEST(format, an_answer_wants_nothing_unless_it_says_so) {
    const device::located l;
    EXPECT_TRUE(l.status);
    EXPECT_FALSE(l.missing);
    EXPECT_EQ(l.what.kind, device::mapping::unallocated);
    EXPECT_FALSE(l.what.in_place);
    EXPECT_FALSE(l.what.has_host);
    const device::missing slice{device::missing::what::slice, 1, {4096}, {}};
    EXPECT_TRUE(slice);
    const device::missing table{device::missing::what::private_l2, 0, {}, {4096}};
    EXPECT_TRUE(table);
    const device::grant g;
    EXPECT_FALSE(g.missing);
    EXPECT_FALSE(g.pristine) << "clusters are used ones unless known to be new";
    const device::write_plan p;
    EXPECT_EQ(p.in_place.size, 0U);
    EXPECT_FALSE(p.missing);
}

} // namespace
} // namespace gaur::test
