// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/alloc/placement.hpp>

#include <gtest/gtest.h>

#include <string_view>
#include <variant>

namespace gaur::qcow2::alloc {
namespace {

/// Exactly the members that the concept names.
struct smallest {
    static constexpr std::string_view name = "smallest";
    template <RefcountView R>
    answer take(R&, const request&) noexcept {
        return image_full{};
    }
    void freed(host_cluster) noexcept {}
    template <class F>
    void release(F) noexcept {}
};
static_assert(check_placement<smallest>());

struct without_release : smallest {
    template <class F>
    void release(F) = delete;
};
static_assert(!Placement<without_release>);

TEST(placement, answers_what_the_view_lacks) {
    const answer missing = no_slice(missing_block{3, true, {4096}});
    ASSERT_TRUE(std::holds_alternative<missing_block>(missing));
    EXPECT_EQ(std::get<missing_block>(missing).index, 3U);
    EXPECT_TRUE(std::holds_alternative<error>(no_slice(error(errc::refcount_entry, 8))));
    EXPECT_TRUE(std::holds_alternative<image_full>(no_slice(image_full{})));
}

} // namespace
} // namespace gaur::qcow2::alloc
