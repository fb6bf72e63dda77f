// SPDX-License-Identifier: BSL-1.0
#include <gaur/io/memory.hpp>

#include "support/backend_conformance.hpp"
#include "support/counting_new.hpp"

namespace gaur::test {
namespace {

template <io::memory::options (*How)(unsigned)>
struct with : memory_traits {
    using backend = io::memory::backend;
    static auto make(unsigned depth) { return backend::make(How(depth)); }
};

using done = with<+[](unsigned) { return io::memory::options{}; }>;
using deferred = with<+[](unsigned) { return io::memory::options{.deferred = true}; }>;
using slow = with<+[](unsigned depth) {
    return io::memory::options{.latency = 1000, .depth = depth};
}>;
using shuffled = with<+[](unsigned depth) {
    return io::memory::options{.latency = 500, .depth = depth, .seed = 42};
}>;
using aligned = direct<with<+[](unsigned) {
    return io::memory::options{
        .limits = {.memory_alignment = 4096, .offset_alignment = 4096, .max_vectors = 64}};
}>>;
using aligned_deferred = direct<with<+[](unsigned) {
    return io::memory::options{
        .limits = {.memory_alignment = 512, .offset_alignment = 512}, .deferred = true};
}>>;

using memory_backends =
    ::testing::Types<done, deferred, slow, shuffled, aligned, aligned_deferred>;
INSTANTIATE_TYPED_TEST_SUITE_P(memory, backend_conformance, memory_backends);

using io::opcode;
using io::request;
using operation = tracked<io::memory::backend>;

struct memory : ::testing::Test {
    void start(const io::memory::options& how) {
        auto made = io::memory::backend::make(how);
        ASSERT_TRUE(made);
        io = *std::move(made);
        auto opened = io->open("a", {.write = true, .create = true});
        ASSERT_TRUE(opened);
        file.emplace(*std::move(opened));
    }
    int run(const request& what) {
        operation op;
        if (io->submit(*file, op, what) == io::submit_status::pending) {
            while (op.ends == 0) { io->wait(); }
        }
        return op.outcome();
    }
    std::vector<std::byte> bytes = std::vector<std::byte>(8192, std::byte{5});
    std::unique_ptr<io::memory::backend> io;
    std::optional<io::memory::file> file;
};

TEST_F(memory, contents_are_reached_by_name) {
    start({});
    EXPECT_FALSE(io->contains("b"));
    io->set_content("b", io::sparse_bytes(bytes));
    auto b = io->open("b", {});
    ASSERT_TRUE(b);
    EXPECT_EQ(*b->size(), bytes.size());
    io->set_content("b", {});
    EXPECT_EQ(*b->size(), 0U) << "open handles see it";
    EXPECT_EQ(run(request::write(0, bytes)), 0);
    EXPECT_EQ(io->content("a").bytes(), bytes);

    EXPECT_TRUE(io->remove("a"));
    EXPECT_FALSE(io->remove("a"));
    EXPECT_EQ(*file->size(), bytes.size()) << "open handles keep it";
    EXPECT_EQ(io->open("a", {}).error().host_errno(), ENOENT);
    auto again = io->open("a", {.write = true, .create = true});
    ASSERT_TRUE(again);
    EXPECT_NE(again->identity(), file->identity());
}

TEST_F(memory, snapshots_are_values) {
    start({});
    ASSERT_EQ(run(request::write(0, bytes)), 0);
    const io::memory::disk before = io->snapshot();
    ASSERT_EQ(run(request::truncate(1)), 0);
    io->set_content("b", {});
    EXPECT_NE(io->snapshot(), before);
    io->restore(before);
    EXPECT_EQ(io->snapshot(), before);
    EXPECT_FALSE(io->contains("b"));
    EXPECT_EQ(*file->size(), bytes.size());
    auto other = io::memory::backend::make({}, before);
    ASSERT_TRUE(other);
    EXPECT_EQ((*other)->content("a").bytes(), bytes);
}

TEST_F(memory, deferred_takes_effect_at_its_end) {
    start({.deferred = true});
    operation write;
    EXPECT_EQ(io->submit(*file, write, request::write(0, bytes)), io::submit_status::pending);
    EXPECT_EQ(*file->size(), 0U);
    EXPECT_EQ(io->poll(), 1U);
    EXPECT_EQ(*file->size(), bytes.size());
    EXPECT_EQ(io->now(), 0U);
}

TEST_F(memory, a_poll_leaves_alone_what_callbacks_submit) {
    start({.deferred = true});
    operation first;
    operation second;
    first.then = [&] { io->submit(*file, second, request::flush()); };
    io->submit(*file, first, request::flush());
    EXPECT_EQ(io->poll(), 1U);
    EXPECT_EQ(io->in_flight(), 1U);
    EXPECT_EQ(io->poll(), 1U);
}

TEST_F(memory, the_clock_counts_latency_and_depth) {
    for (const unsigned depth : {0U, 1U, 4U}) {
        start({.latency = 1000, .depth = depth});
        std::deque<operation> ops(8);
        for (operation& op : ops) { io->submit(*file, op, request::read(0, bytes)); }
        while (io->in_flight() != 0) { io->wait(); }
        EXPECT_EQ(io->now(), depth == 0 ? 1000U : 8000U / depth);
        EXPECT_EQ(run(request::flush()), 0); // an idle device starts at once
        EXPECT_EQ(io->now(), (depth == 0 ? 1000U : 8000U / depth) + 1000U);
    }
}

TEST_F(memory, a_poll_lets_time_pass) {
    start({.latency = 3});
    operation op;
    io->submit(*file, op, request::flush());
    EXPECT_EQ(io->poll() + io->poll() + io->poll(), 0U);
    EXPECT_EQ(io->poll(), 1U);
}

TEST_F(memory, a_seed_replays_its_order) {
    const auto order_of = [&](std::uint64_t seed) {
        start({.seed = seed});
        std::vector<int> order;
        std::deque<operation> ops(20);
        for (int i = 0; i < 20; ++i) {
            ops[static_cast<std::size_t>(i)].then = [&order, i] { order.push_back(i); };
            io->submit(*file, ops[static_cast<std::size_t>(i)], request::flush());
        }
        while (io->in_flight() != 0) { io->wait(); }
        return order;
    };
    const std::vector<int> first = order_of(1);
    EXPECT_FALSE(std::ranges::is_sorted(first));
    EXPECT_EQ(order_of(1), first);
    EXPECT_NE(order_of(2), first);
}

TEST_F(memory, space_runs_out) {
    start({.capacity = 8192});
    EXPECT_EQ(run(request::write(0, bytes)), 0);
    EXPECT_EQ(run(request::write(0, bytes)), 0) << "the same space again";
    EXPECT_EQ(run(request::write(8192, std::span(bytes).first(1))), ENOSPC);
    EXPECT_EQ(run(request::range(opcode::extend, 4096, 8192)), ENOSPC);
    EXPECT_EQ(*file->size(), 8192U) << "nothing happened";
    EXPECT_EQ(run(request::truncate(1 << 30)), 0) << "holes are free";
    EXPECT_EQ(run(request::range(opcode::discard, 0, 4096)), 0);
    EXPECT_EQ(run(request::write(1 << 20, std::span(bytes).first(1))), 0);
    EXPECT_EQ(run(request::truncate(0)), 0);
    io->set_content("b", io::sparse_bytes(bytes)); // other files' space counts
    EXPECT_EQ(run(request::write(0, std::span(bytes).first(1))), ENOSPC);
}

TEST_F(memory, a_file_ends_at_16_tib) {
    start({});
    constexpr std::uint64_t end = io::sparse_bytes::max_size;
    EXPECT_EQ(run(request::write(end - 1, std::span(bytes).first(1))), 0);
    EXPECT_EQ(run(request::write(end - 1, std::span(bytes).first(2))), EFBIG);
    EXPECT_EQ(run(request::truncate(end + 1)), EFBIG);
    EXPECT_EQ(run(request::read(std::uint64_t{1} << 60, bytes)), 0);
    EXPECT_EQ(bytes, std::vector<std::byte>(bytes.size()));
}

TEST_F(memory, counts_what_is_asked) {
    start({});
    run(request::write(0, bytes));
    run(request::write(0, std::span(bytes).first(512)));
    run(request::read(0, bytes));
    run(request::flush());
    EXPECT_EQ(io->counters().requests(opcode::write), 2U);
    EXPECT_EQ(io->counters().bytes(opcode::write), 8704U);
    EXPECT_EQ(io->counters().requests(opcode::read), 1U);
    EXPECT_EQ(io->counters().requests(opcode::flush), 1U);
    EXPECT_EQ(io->counters().requests(opcode::discard), 0U);
    io->reset_counters();
    EXPECT_EQ(io->counters().bytes(opcode::write), 0U);
}

TEST_F(memory, requests_allocate_nothing) {
    for (const bool later : {false, true}) {
        start({.deferred = later});
        run(request::write(0, bytes)); // takes its chunk
        const allocations_in_scope news;
        for (int i = 0; i < 100; ++i) {
            run(request::write(0, bytes));
            run(request::read(0, bytes));
            run(request::flush());
        }
        EXPECT_EQ(news.count(), 0U);
    }
}

} // namespace
} // namespace gaur::test
