// SPDX-License-Identifier: BSL-1.0
#include <gaur/io/operation_queue.hpp>

#include <gtest/gtest.h>

#include <deque>
#include <vector>

namespace gaur::io {
namespace {

struct numbered : operation {
    explicit numbered(int n) : operation([](operation&) noexcept {}), number(n) {}
    int number;
};

std::vector<int> drain(operation_queue<numbered>& queue) {
    std::vector<int> numbers;
    while (!queue.empty()) { numbers.push_back(queue.pop().number); }
    return numbers;
}

TEST(operation_queue, keeps_the_order) {
    operation_queue<numbered> queue;
    EXPECT_TRUE(queue.empty());
    std::deque<numbered> ops;
    for (int i = 0; i < 4; ++i) { queue.push(ops.emplace_back(i)); }
    numbered& first = queue.pop();
    EXPECT_EQ(first.number, 0);
    queue.push_front(first);
    queue.push(ops.emplace_back(4));
    EXPECT_EQ(drain(queue), (std::vector{0, 1, 2, 3, 4}));
}

TEST(operation_queue, takes_all_of_another_one) {
    operation_queue<numbered> all;
    operation_queue<numbered> more;
    all.take_all(more);
    EXPECT_TRUE(all.empty());
    std::deque<numbered> ops;
    for (int i = 0; i < 3; ++i) { more.push(ops.emplace_back(i)); }
    all.take_all(more);
    EXPECT_TRUE(more.empty());
    more.push(ops.emplace_back(3));
    all.take_all(more);
    all.push(ops.emplace_back(4));
    EXPECT_EQ(drain(all), (std::vector{0, 1, 2, 3, 4}));
}

} // namespace
} // namespace gaur::io
