// SPDX-License-Identifier: BSL-1.0
#include <gaur/io/operation.hpp>

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <memory>

namespace gaur::io {
namespace {

TEST(request, names_one_buffer_or_a_vector) {
    std::array<std::byte, 12> bytes{};
    const request read = request::read(100, std::span(bytes));
    EXPECT_EQ(read.code, opcode::read);
    EXPECT_EQ(read.offset, 100U);
    EXPECT_EQ(read.size, 12U);
    EXPECT_EQ(read.data, bytes.data());
    EXPECT_EQ(read.vectors, nullptr);

    std::array<iovec, 2> parts = {iovec{bytes.data(), 8}, iovec{bytes.data() + 8, 4}};
    const request write = request::write(200, std::span(parts), 12);
    EXPECT_EQ(write.code, opcode::write);
    EXPECT_EQ(write.offset, 200U);
    EXPECT_EQ(write.size, 12U);
    EXPECT_EQ(write.data, nullptr);
    EXPECT_EQ(write.vectors, parts.data());
    EXPECT_EQ(write.vector_count, 2U);
}

TEST(request, moves_data_or_not) {
    std::array<std::byte, 1> byte{};
    EXPECT_TRUE(request::read(0, std::span(byte)).moves_data());
    EXPECT_TRUE(request::write(0, byte).moves_data());
    EXPECT_FALSE(request::flush().moves_data());
    EXPECT_FALSE(request::truncate(7).moves_data());
    EXPECT_FALSE(request::range(opcode::zero, 0, 512).moves_data());
    EXPECT_EQ(request::truncate(7).offset, 7U) << "the new size";
}

TEST(operation, keeps_its_request_and_tells_its_outcome) {
    operation op([](operation&) noexcept { FAIL() << "set_outcome calls nobody"; });
    EXPECT_TRUE(op.status());
    op.begin(request::range(opcode::discard, 4096, 512));
    EXPECT_EQ(op.asked().size, 512U);
    op.set_outcome(ENOSPC);
    EXPECT_EQ(op.outcome(), ENOSPC);
    const result<void> status = op.status();
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().host_errno(), ENOSPC);
    EXPECT_EQ(status.error().where(), 4096U) << "the offset asked for";
}

TEST(operation, completes_once_and_may_be_gone_then) {
    struct counted : operation {
        explicit counted(int& seen)
            : operation([](operation& ended) noexcept {
                  auto& self = static_cast<counted&>(ended);
                  *self.seen_ = self.outcome();
                  delete &self;
              }),
              seen_(&seen) {}
        int* seen_;
    };
    int seen = 0;
    auto op = std::make_unique<counted>(seen);
    op.release()->complete(EIO); // the sanitizers see a leak or a use after it
    EXPECT_EQ(seen, EIO);
}

} // namespace
} // namespace gaur::io
