// SPDX-License-Identifier: BSL-1.0
#include <gaur/io/sync.hpp>

#include "support/backend_conformance.hpp"

namespace gaur::test {
namespace {

struct sync_traits : host_traits {
    using backend = io::sync::backend;
    static auto make(unsigned) { return backend::make(); }
};

using sync_backends = ::testing::Types<sync_traits, direct<sync_traits>>;
INSTANTIATE_TYPED_TEST_SUITE_P(sync, backend_conformance, sync_backends);

TEST(sync, ends_in_submit) {
    io::sync::backend io;
    result opened = io.open("sync.ends_in_submit", {.write = true, .create = true});
    ASSERT_TRUE(opened);
    ::unlink("sync.ends_in_submit");
    io::sync::backend::operation op([](io::operation&) noexcept { FAIL() << "no callbacks"; });
    std::array<std::byte, 8> bytes{};
    EXPECT_EQ(io.submit(*opened, op, io::request::write(0, bytes)), io::submit_status::done);
    EXPECT_TRUE(op.status());
    EXPECT_EQ(io.in_flight(), 0U);
}

} // namespace
} // namespace gaur::test
