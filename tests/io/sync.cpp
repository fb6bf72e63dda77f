// SPDX-License-Identifier: BSL-1.0
#include <gaur/io/sync.hpp>

#include <gtest/gtest.h>

namespace {

using namespace gaur;

void ignore(io::operation&) noexcept {}

TEST(sync, writes_and_reads_back_past_the_end) {
    auto io = io::sync::backend::make();
    ASSERT_TRUE(io);
    auto file = (*io)->open("sync_smoke.img", {.write = true, .create = true, .truncate = true});
    ASSERT_TRUE(file);
    io::sync::backend::operation op(ignore);
    std::byte out[8];
    for (std::byte& b : out) { b = std::byte{7}; }
    EXPECT_EQ((*io)->submit(*file, op, io::request::write(8, std::span(out))),
              io::submit_status::done);
    EXPECT_TRUE(op.status());
    std::byte in[16];
    for (std::byte& b : in) { b = std::byte{9}; }
    EXPECT_EQ((*io)->submit(*file, op, io::request::read(4, std::span(in))),
              io::submit_status::done);
    EXPECT_TRUE(op.status());
    EXPECT_EQ(in[0], std::byte{0});
    EXPECT_EQ(in[4], std::byte{7});
    EXPECT_EQ(in[15], std::byte{0});
}

} // namespace
