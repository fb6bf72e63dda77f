// SPDX-License-Identifier: BSL-1.0
#include <gaur/io/backend.hpp>

#include <gaur/io/sync.hpp>

#include <gtest/gtest.h>

#include <concepts>
#include <cstdint>
#include <string>

// Both directions: a type with every member is a backend, and a type that lacks one is not.
// tests/compile_fail/backend_*.cpp test the messages that name the missing member.
namespace gaur::io {
namespace {

/// Everything that the concept requires, and nothing else.
struct complete {
    static constexpr const char* name = "complete";
    using operation = io::operation;
    struct file {
        io::limits limits() const noexcept { return {}; }
        result<std::uint64_t> size() const noexcept { return std::uint64_t{0}; }
        file_identity identity() const noexcept { return {}; }
    };
    result<file> open(const std::string&, open_mode) { return file{}; }
    submit_status submit(file&, operation&, const request&) noexcept {
        return submit_status::done;
    }
    unsigned poll() noexcept { return 0; }
    unsigned wait() noexcept { return 0; }
    unsigned in_flight() const noexcept { return 0; }
};
static_assert(IoBackend<complete>);
static_assert(check_backend<complete>());
static_assert(IoBackend<sync::backend>);
static_assert(!IoBackend<int>);

// Each of these breaks one member.
struct no_name : complete {
    void name() = delete;
};
struct foreign_operation : complete {
    struct operation {
        explicit operation(io::operation::callback) {}
    };
};
struct operation_without_callback : complete {
    struct operation : io::operation {
        operation() : io::operation(nullptr) {}
    };
};
struct pinned_file : complete {
    struct file : complete::file {
        file(const file&) = delete;
    };
};
struct file_without_limits : complete {
    struct file {
        result<std::uint64_t> size() const noexcept { return std::uint64_t{0}; }
        file_identity identity() const noexcept { return {}; }
    };
    result<file> open(const std::string&, open_mode) { return file{}; }
    submit_status submit(file&, operation&, const request&) noexcept {
        return submit_status::done;
    }
};
struct opens_another_file : complete {
    struct file : complete::file {};
    submit_status submit(file&, operation&, const request&) noexcept {
        return submit_status::done;
    }
};
struct submit_throws : complete {
    submit_status submit(file&, operation&, const request&) { return submit_status::done; }
};
struct no_poll : complete {
    void poll() = delete;
};
struct wait_says_nothing : complete {
    void wait() noexcept {}
};
struct in_flight_changes_it : complete {
    unsigned in_flight() noexcept { return 0; }
};
static_assert(!IoBackend<no_name>);
static_assert(!IoBackend<foreign_operation>);
static_assert(!IoBackend<operation_without_callback>);
static_assert(!IoBackend<pinned_file>);
static_assert(!IoBackend<file_without_limits>);
static_assert(!IoBackend<opens_another_file>);
static_assert(!IoBackend<submit_throws>);
static_assert(!IoBackend<no_poll>);
static_assert(!IoBackend<wait_says_nothing>);
static_assert(!IoBackend<in_flight_changes_it>);

struct pollable : complete {
    int descriptor() const noexcept { return 0; }
};
struct almost_pollable : complete {
    int descriptor() noexcept { return 0; }
};
static_assert(PollableBackend<pollable>);
static_assert(!PollableBackend<complete>);
static_assert(!PollableBackend<almost_pollable>);

TEST(backend, tells_files_apart) {
    EXPECT_EQ((file_identity{1, 2}), (file_identity{1, 2}));
    EXPECT_FALSE((file_identity{1, 2}) == (file_identity{1, 3}));
    EXPECT_FALSE((file_identity{1, 2}) == (file_identity{3, 2}));
}

TEST(backend, asks_for_nothing_unless_it_says_so) {
    constexpr limits asks;
    EXPECT_EQ(asks.memory_alignment, 1U);
    EXPECT_EQ(asks.offset_alignment, 1U);
    constexpr open_mode mode;
    EXPECT_FALSE(mode.write || mode.create || mode.truncate || mode.direct);
}

} // namespace
} // namespace gaur::io
