// SPDX-License-Identifier: BSL-1.0
#include <gaur/io/aligned.hpp>

#include "support/counting_new.hpp"

#include <gaur/io/fault.hpp>
#include <gaur/io/memory.hpp>
#include <gaur/io/seeded.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace gaur::io {
namespace {

using device = fault::backend<memory::backend>;
using file_type = aligned_file<device>;
using bytes = std::vector<std::byte>;

bytes filled(std::size_t size, int with) { return bytes(size, static_cast<std::byte>(with)); }

struct operation : file_type::operation {
    operation() noexcept : file_type::operation(&on_complete) {}
    static void on_complete(io::operation& op) noexcept { ++static_cast<operation&>(op).ends; }
    unsigned ends = 0;
};

/// The parameter is the alignment that the device requires.
class aligned : public ::testing::TestWithParam<std::uint32_t> {
  protected:
    aligned() { start({}); }

    std::uint32_t block() const { return GetParam(); }

    void start(const fault::options& how) {
        file.reset();
        io = std::make_unique<device>(
            std::make_unique<memory::backend>(memory::options{
                .limits = {.memory_alignment = block(), .offset_alignment = block()}}),
            how);
        file.emplace(*io, *io->open("a", {.write = true, .create = true}), buffers);
    }
    int run(const request& what) {
        operation op;
        if (file->submit(op, what) == submit_status::pending) {
            while (op.ends == 0) { io->wait(); }
        } else {
            EXPECT_EQ(op.ends, 0U);
        }
        return op.outcome();
    }
    void drain() {
        while (io->in_flight() != 0) { io->wait(); }
    }
    bytes content(std::size_t size) {
        bytes all = io->inner().content("a").bytes();
        EXPECT_EQ(all.size() % block(), 0U) << "whole blocks only";
        all.resize(size);
        return all;
    }
    std::uint64_t requests(opcode code) { return io->inner().counters().requests(code); }

    /// An address without any useful alignment.
    static std::byte* misaligned(bytes& memory) { return memory.data() + 1; }

    buffer_pool buffers;
    std::unique_ptr<device> io;
    std::optional<file_type> file;
};
INSTANTIATE_TEST_SUITE_P(block, aligned, ::testing::Values(1U, 512U, 4096U),
                         [](const auto& p) { return std::to_string(p.param); });

/// For tests with requests that are only partly aligned.
class aligned_blocks : public aligned {};
INSTANTIATE_TEST_SUITE_P(block, aligned_blocks, ::testing::Values(512U, 4096U),
                         [](const auto& p) { return std::to_string(p.param); });

/// Cuts `memory` into several parts; together they are its first `size` bytes.
std::vector<iovec> cut(seeded& random, std::byte* memory, std::size_t size) {
    std::vector<iovec> parts;
    for (std::size_t done = 0; done < size;) {
        const std::size_t n = 1 + random.below(size - done);
        parts.push_back({memory + done, n});
        done += n;
    }
    return parts;
}

TEST_P(aligned, takes_every_offset_size_and_address) {
    for (const bool later : {false, true}) {
        start({.order = later ? fault::order::random : fault::order::as_inner, .seed = 3});
        seeded random(block() + (later ? 1 : 0));
        bytes model(64'000);
        for (int i = 0; i < 300; ++i) {
            const std::size_t size = 1 + random.below(random.coin() ? 3 * block() + 10 : 700);
            const std::size_t at = random.below(model.size() - size + 1);
            bytes memory = filled(size + 1, static_cast<int>(random.below(256)));
            std::byte* const data = memory.data() + random.below(2);
            std::vector<iovec> parts = cut(random, data, size);
            const bool vectored = random.coin();
            if (random.coin()) {
                std::copy_n(data, size, model.begin() + static_cast<std::ptrdiff_t>(at));
                ASSERT_EQ(run(vectored ? request::write(at, parts, size)
                                       : request::write(at, std::span(data, size))),
                          0);
            } else {
                ASSERT_EQ(run(vectored ? request::read(at, parts, size)
                                       : request::read(at, std::span(data, size))),
                          0);
                ASSERT_TRUE(std::equal(data, data + size,
                                       model.begin() + static_cast<std::ptrdiff_t>(at)));
            }
        }
        EXPECT_EQ(content(model.size()), model);
    }
}

TEST_P(aligned, what_fits_goes_straight_through) {
    buffer memory = buffers.take(2 * block());
    std::fill(memory.bytes().begin(), memory.bytes().end(), std::byte{5});
    iovec parts[] = {{memory.data() + block(), block()}, {memory.data(), block()}};
    io->inner().reset_counters();
    const gaur::test::allocations_in_scope news;
    operation op;
    ASSERT_EQ(file->submit(op, request::read(block(), memory.bytes())), submit_status::done);
    EXPECT_EQ(news.count(), 0U) << "no buffer of its own";
    ASSERT_EQ(run(request::write(3 * block(), memory.bytes())), 0);
    ASSERT_EQ(run(request::write(0, parts, 2 * block())), 0);
    ASSERT_EQ(run(request::flush()), 0);
    EXPECT_EQ(requests(opcode::read), 1U);
    EXPECT_EQ(requests(opcode::write), 2U);
    EXPECT_EQ(requests(opcode::flush), 1U);
    EXPECT_EQ(io->inner().counters().bytes(opcode::write), 4U * block());
}

TEST_P(aligned_blocks, costs_no_more_than_it_must) {
    bytes memory = filled(block() + 1, 7);
    io->inner().reset_counters();
    // Only the address is misaligned: goes through a buffer, but nothing is read first.
    ASSERT_EQ(run(request::write(0, std::span(misaligned(memory), block()))), 0);
    EXPECT_EQ(requests(opcode::read), 0U);
    EXPECT_EQ(requests(opcode::write), 1U);
    // Inside a block: the block is read and written.
    ASSERT_EQ(run(request::write(10, std::span(misaligned(memory), 20))), 0);
    EXPECT_EQ(requests(opcode::read), 1U);
    EXPECT_EQ(requests(opcode::write), 2U);
    EXPECT_EQ(io->inner().counters().bytes(opcode::write), 2U * block());
    ASSERT_EQ(run(request::read(block() - 1, std::span(misaligned(memory), 2))), 0);
    EXPECT_EQ(requests(opcode::read), 2U);
    EXPECT_EQ(io->inner().counters().bytes(opcode::read), 3U * block());
}

TEST_P(aligned, neighbours_in_one_block_lose_nothing) {
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        start({.order = fault::order::random, .seed = seed});
        seeded random(seed);
        bytes model(6 * 4096);
        std::deque<bytes> data;
        std::deque<operation> ops;
        for (std::size_t at = 0; at < model.size();) {
            const std::size_t n = std::min<std::size_t>(1 + random.below(300), model.size() - at);
            data.push_back(filled(n, static_cast<int>(1 + random.below(255))));
            std::copy(data.back().begin(), data.back().end(),
                      model.begin() + static_cast<std::ptrdiff_t>(at));
            file->submit(ops.emplace_back(), request::write(at, data.back()));
            at += n;
            if (random.below(8) == 0) { io->poll(); }
        }
        drain();
        for (const operation& op : ops) {
            ASSERT_EQ(op.ends, 1U);
            ASSERT_TRUE(op.status());
        }
        ASSERT_EQ(content(model.size()), model) << "seed " << seed;
    }
}

TEST_P(aligned_blocks, a_whole_block_is_not_undone_by_part_of_it) {
    buffer whole = buffers.take(block());
    std::fill(whole.bytes().begin(), whole.bytes().end(), std::byte{3});
    const bytes part = filled(20, 2);
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        start({.order = fault::order::random, .seed = seed});
        operation a;
        operation b;
        operation c;
        file->submit(a, request::write(10, part));
        file->submit(b, request::write(0, whole.bytes()));
        file->submit(c, request::write(100, part));
        drain();
        // Each of the parts came before the whole block or after it. What no part wrote is the
        // whole block's.
        bytes after = content(block());
        for (std::size_t i = 0; i < after.size(); ++i) {
            const bool in_part = (i >= 10 && i < 30) || (i >= 100 && i < 120);
            const std::byte written = in_part && after[i] == part[0] ? part[0] : std::byte{3};
            ASSERT_EQ(after[i], written) << "byte " << i << ", seed " << seed;
        }
    }
}

TEST_P(aligned, only_those_that_rewrite_one_block_wait_for_each_other) {
    start({.order = fault::order::oldest_first});
    buffer whole = buffers.take(block());
    std::fill(whole.bytes().begin(), whole.bytes().end(), std::byte{3});
    bytes part = filled(20, 2);
    std::deque<operation> ops(6);
    file->submit(ops[0], request::write(0, whole.bytes()));
    file->submit(ops[1], request::write(0, whole.bytes()));
    EXPECT_EQ(io->in_flight(), 2U) << "whole blocks: their order is the guest's affair";
    drain();
    if (block() == 1) { return; }
    file->submit(ops[2], request::write(10, part));
    file->submit(ops[3], request::write(40, part));
    EXPECT_EQ(io->in_flight(), 1U) << "the same block";
    file->submit(ops[4], request::write(block() + 10, part));
    EXPECT_EQ(io->in_flight(), 2U) << "another block";
    file->submit(ops[5], request::read(40, part));
    EXPECT_EQ(io->in_flight(), 3U) << "reads never wait";
    drain();
    for (const operation& op : ops) { EXPECT_EQ(op.ends, 1U); }
}

TEST_P(aligned_blocks, an_error_ends_one_and_lets_the_next_go_on) {
    for (const opcode fails : {opcode::read, opcode::write}) {
        start({.order = fault::order::oldest_first});
        io->fail({.nth = 1, .code = fails, .host_errno = EIO});
        const bytes data = filled(20, 2);
        operation a;
        operation b;
        file->submit(a, request::write(10, data));
        file->submit(b, request::write(30, data));
        drain();
        EXPECT_EQ(a.outcome(), EIO);
        EXPECT_EQ(b.ends, 1U);
        EXPECT_EQ(b.outcome(), 0);
        bytes expected(block());
        std::copy(data.begin(), data.end(), expected.begin() + 30);
        EXPECT_EQ(content(block()), expected);
    }
}

TEST_P(aligned, close_lets_the_file_go) {
    file.reset();
    const open_mode alone{.write = true, .lock = file_lock::writer()};
    file.emplace(*io, *io->open("a", alone), buffers);
    EXPECT_EQ(run(request::write(0, filled(block(), 1))), 0);
    EXPECT_TRUE(file->is_open());
    EXPECT_FALSE(io->open("a", alone));
    file->close();
    EXPECT_FALSE(file->is_open());
    EXPECT_TRUE(io->open("a", alone));
}

TEST_P(aligned_blocks, without_memory_it_ends_with_enomem) {
    bytes data = filled(20, 2);
    operation read;
    operation write;
    {
        const gaur::test::no_memory_in_scope refuse;
        EXPECT_EQ(file->submit(read, request::read(1, data)), submit_status::done);
        EXPECT_EQ(file->submit(write, request::write(1, data)), submit_status::done);
    }
    EXPECT_EQ(read.outcome(), ENOMEM);
    EXPECT_EQ(write.outcome(), ENOMEM);
    EXPECT_EQ(run(request::write(1, data)), 0) << "it holds nobody off";
}

TEST_P(aligned, tells_holes_of_the_backends_file) {
    const bytes data = filled(4096, 7);
    ASSERT_EQ(run(request::write(65536, data)), 0);
    EXPECT_TRUE(file->run_at(0).is_hole);
    EXPECT_EQ(file->run_at(0).size, 65536U);
    EXPECT_FALSE(file->run_at(65536).is_hole);
    EXPECT_TRUE(file->run_at(65536 + 4096).is_hole);
    ASSERT_EQ(run(request::write(0, data)), 0);
    EXPECT_FALSE(file->run_at(0).is_hole) << "no hole is remembered";
}

} // namespace
} // namespace gaur::io
