// SPDX-License-Identifier: BSL-1.0
#include <gaur/io/fault.hpp>

#include <gaur/io/memory.hpp>
#include <gaur/io/sync.hpp>

#include "support/backend_conformance.hpp"

#include <set>

namespace gaur::test {
namespace {

using io::opcode;
using io::request;
using io::fault::order;
using memory_fault = io::fault::backend<io::memory::backend>;
static_assert(io::check_backend<memory_fault>());
static_assert(io::check_backend<io::fault::backend<io::sync::backend>>());
static_assert(io::check_backend<io::fault::backend<memory_fault>>(), "wraps itself too");

/// Adds the fault backend over any other to the conformance suite: a queue of one keeps the order
/// of submission.
template <class Inner, order Order, class Base>
struct over : Base {
    using backend = io::fault::backend<Inner>;
    static result<std::unique_ptr<backend>> make(unsigned depth) {
        auto inner = inner_of(depth);
        if (!inner) { return inner.error(); }
        const order how = depth == 1 && Order != order::as_inner ? order::oldest_first : Order;
        return std::make_unique<backend>(
            *std::move(inner), io::fault::options{.order = how, .seed = 5, .record = true});
    }
    static auto inner_of(unsigned depth) {
        if constexpr (std::same_as<Inner, io::memory::backend>) {
            return Inner::make({.deferred = Order == order::random, .depth = depth});
        } else {
            return Inner::make();
        }
    }
};

template <order Order>
using over_memory = over<io::memory::backend, Order, memory_traits>;
using fault_backends = ::testing::Types<
    over_memory<order::as_inner>, over_memory<order::oldest_first>,
    over_memory<order::newest_first>, over_memory<order::oldest_last>, over_memory<order::random>,
    over<io::sync::backend, order::random, host_traits>>;
INSTANTIATE_TYPED_TEST_SUITE_P(fault, backend_conformance, fault_backends);

struct fault : ::testing::Test {
    using backend = memory_fault;
    using operation = tracked<backend>;

    void start(const io::fault::options& how, const io::memory::options& below = {}) {
        file.reset();
        io = std::make_unique<backend>(std::make_unique<io::memory::backend>(below), how);
        file = std::make_unique<backend::file>(open("a"));
    }
    backend::file open(const std::string& path) {
        auto opened = io->open(path, {.write = true, .create = true});
        EXPECT_TRUE(opened);
        return *std::move(opened);
    }
    int run(backend::file& on, const request& what) {
        operation op;
        if (io->submit(on, op, what) == io::submit_status::pending) {
            while (op.ends == 0) { io->wait(); }
        }
        return op.outcome();
    }
    int run(const request& what) { return run(*file, what); }
    io::sparse_bytes& content() { return io->inner().content("a"); }

    /// The order in which ten operations end that are in flight together.
    std::vector<int> order_of(const io::fault::options& how) {
        start(how);
        std::vector<int> ended;
        std::deque<operation> ops(10);
        for (int i = 0; i < 10; ++i) {
            operation& op = ops[static_cast<std::size_t>(i)];
            op.then = [&ended, i] { ended.push_back(i); };
            EXPECT_EQ(io->submit(*file, op, request::flush()), io::submit_status::pending);
        }
        while (io->in_flight() != 0) { io->wait(); }
        return ended;
    }

    std::vector<std::byte> bytes = std::vector<std::byte>(1024, std::byte{5});
    std::unique_ptr<backend> io;
    std::unique_ptr<backend::file> file;
};

TEST_F(fault, fails_the_nth) {
    start({});
    io->fail({.nth = 2, .host_errno = ENOSPC});
    EXPECT_EQ(run(request::write(0, bytes)), 0);
    EXPECT_EQ(run(request::write(4096, bytes)), ENOSPC);
    EXPECT_EQ(content().size(), bytes.size()) << "it changed nothing";
    EXPECT_EQ(run(request::write(4096, bytes)), 0);
    EXPECT_EQ(io->injected(), 1U);
    EXPECT_EQ(io->submitted(), 3U);
}

TEST_F(fault, fails_by_opcode_and_file) {
    start({});
    backend::file other = open("b");
    io->fail({.nth = 2, .code = opcode::flush, .file = "b"});
    EXPECT_EQ(run(other, request::flush()), 0);
    EXPECT_EQ(run(other, request::read(0, bytes)), 0);
    EXPECT_EQ(run(request::flush()), 0);
    EXPECT_EQ(run(other, request::flush()), EIO);
    EXPECT_EQ(run(other, request::flush()), 0);
}

TEST_F(fault, part_of_a_write_that_fails_may_arrive) {
    start({.record = true});
    io->fail({.nth = 1, .code = opcode::write, .host_errno = ENOSPC, .arrives = 700});
    iovec parts[] = {{bytes.data(), 600}, {bytes.data() + 600, 424}};
    EXPECT_EQ(run(request::write(4096, parts, 1024)), ENOSPC);
    EXPECT_EQ(content().size(), 4096U + 700);
    EXPECT_EQ(content().bytes()[4096 + 699], std::byte{5});
    EXPECT_EQ(io->injected(opcode::write), 1U);
    EXPECT_EQ(io->injected(opcode::flush), 0U);
    std::set<std::uint64_t> sizes;
    for (std::uint64_t seed = 0; seed < 50; ++seed) {
        sizes.insert(io->survivors(seed).at("a").size());
    }
    EXPECT_TRUE(sizes.contains(0)) << "it is not durable";
    EXPECT_TRUE(sizes.contains(4096 + 700));
    io->fail({.nth = 1, .code = opcode::write, .arrives = 5000});
    EXPECT_EQ(run(request::write(0, bytes)), EIO);
    EXPECT_EQ(content().bytes()[1023], std::byte{5});
    EXPECT_EQ(content().size(), 4096U + 700) << "no more than there was of it";
}

TEST_F(fault, fails_from_then_on) {
    start({});
    io->fail({.nth = 2, .code = opcode::read, .from_then_on = true});
    EXPECT_EQ(run(request::read(0, bytes)), 0);
    EXPECT_EQ(run(request::read(0, bytes)), EIO);
    EXPECT_EQ(run(request::write(0, bytes)), 0);
    EXPECT_EQ(run(request::read(0, bytes)), EIO);
    io->forget_rules();
    EXPECT_EQ(run(request::read(0, bytes)), 0);
}

TEST_F(fault, a_fail_loop_ends_when_nothing_was_failed) {
    unsigned rounds = 0;
    for (std::uint64_t nth = 1;; ++nth, ++rounds) {
        start({.order = order::random, .seed = nth});
        io->fail({.nth = nth});
        int failed = 0;
        for (int i = 0; i < 5; ++i) { failed += run(request::write(0, bytes)) != 0 ? 1 : 0; }
        ASSERT_EQ(failed, static_cast<int>(io->injected()));
        if (io->injected() == 0) { break; }
    }
    EXPECT_EQ(rounds, 5U);
}

TEST_F(fault, holds_operations_back) {
    EXPECT_EQ(order_of({.order = order::oldest_first}),
              (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
    EXPECT_EQ(order_of({.order = order::newest_first}),
              (std::vector<int>{9, 8, 7, 6, 5, 4, 3, 2, 1, 0}));
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
        const std::vector<int> starved = order_of({.order = order::oldest_last, .seed = seed});
        EXPECT_EQ(starved.back(), 0);
        EXPECT_FALSE(std::is_sorted(starved.begin(), starved.end() - 1));
        const io::fault::options random = {.order = order::random, .seed = seed};
        EXPECT_EQ(order_of(random), order_of(random)) << "a seed replays";
        EXPECT_NE(order_of(random), order_of({.order = order::random, .seed = seed + 1}));
    }
}

TEST_F(fault, a_held_write_has_not_happened) {
    start({.order = order::newest_first});
    operation write;
    operation read;
    std::vector<std::byte> in(bytes.size(), std::byte{1});
    io->submit(*file, write, request::write(0, bytes));
    io->submit(*file, read, request::read(0, in));
    while (io->in_flight() != 0) { io->wait(); }
    EXPECT_EQ(in, std::vector<std::byte>(bytes.size())) << "the read went first";
    EXPECT_EQ(content().bytes(), bytes);
}

TEST_F(fault, after_the_cut_all_fails) {
    start({.order = order::oldest_first, .record = true});
    ASSERT_EQ(run(request::write(0, bytes)), 0);
    io->cut_after(2);
    operation in_flight;
    io->submit(*file, in_flight, request::write(4096, bytes));
    EXPECT_FALSE(io->is_cut());
    EXPECT_EQ(run(request::read(0, bytes)), EIO);
    EXPECT_TRUE(io->is_cut());
    EXPECT_EQ(in_flight.ends, 1U);
    EXPECT_EQ(in_flight.outcome(), EIO);
    EXPECT_EQ(run(request::flush()), EIO);
    EXPECT_EQ(io->open("a", {}).error().host_errno(), EIO);
    EXPECT_EQ(io->log().unflushed(), 2U) << "the log stays as it was at the cut";
}

TEST_F(fault, what_was_flushed_survives) {
    start({.record = true});
    io->inner().set_content("untouched", io::sparse_bytes(bytes));
    ASSERT_EQ(run(request::write(0, bytes)), 0);
    ASSERT_EQ(run(request::flush()), 0);
    const std::vector<std::byte> second(512, std::byte{7});
    ASSERT_EQ(run(request::write(0, second)), 0);
    io->fail({.code = opcode::flush});
    ASSERT_EQ(run(request::flush()), EIO);
    io->cut();
    std::set<int> first_bytes;
    for (std::uint64_t seed = 0; seed < 100; ++seed) {
        const io::memory::disk after = io->survivors(seed);
        EXPECT_EQ(after, io->survivors(seed)) << "a seed replays";
        EXPECT_EQ(after.at("untouched").bytes(), bytes);
        const std::vector<std::byte> left = after.at("a").bytes();
        ASSERT_EQ(left.size(), bytes.size());
        EXPECT_EQ(left[512], bytes[512]);
        first_bytes.insert(std::to_integer<int>(left[0]));
    }
    EXPECT_EQ(first_bytes, (std::set<int>{5, 7})) << "nothing is sure without a flush";
    // One of the survivors can be used as a disk again.
    auto again = io::memory::backend::make({}, io->survivors(1));
    ASSERT_TRUE(again);
    EXPECT_EQ((*again)->content("a").size(), bytes.size());
}

TEST_F(fault, refused_writes_never_survive) {
    start({.order = order::oldest_first, .record = true});
    auto reading = io->open("a", {});
    ASSERT_TRUE(reading);
    operation on_reader;
    operation too_far;
    io->submit(*reading, on_reader, request::write(0, bytes));
    io->submit(*file, too_far, request::write(std::uint64_t{1} << 50, bytes));
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
        EXPECT_EQ(io->survivors(seed).at("a").size(), 0U);
    }
    while (io->in_flight() != 0) { io->wait(); }
    EXPECT_EQ(on_reader.outcome(), EBADF);
    EXPECT_EQ(too_far.outcome(), EFBIG);
}

TEST_F(fault, truncating_at_open_is_durable) {
    start({.record = true});
    ASSERT_EQ(run(request::write(0, bytes)), 0);
    ASSERT_EQ(run(request::flush()), 0);
    ASSERT_TRUE(io->open("a", {.write = true, .truncate = true}));
    EXPECT_EQ(io->survivors(1).at("a").size(), 0U);
}

} // namespace
} // namespace gaur::test
