// SPDX-License-Identifier: BSL-1.0
#include <gaur/device/format.hpp>

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace gaur::test {
namespace {

/// The least that can be read: all zeroes.
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

/// The least that can be written.
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
