// SPDX-License-Identifier: BSL-1.0
#include <gaur/io/uring.hpp>

#include "support/backend_conformance.hpp"

#include <array>
#include <csignal>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

namespace gaur::test {
namespace {

struct uring_traits : host_traits {
    using backend = io::uring::backend;
    static constexpr bool any_thread = false;
    static auto make(unsigned depth) { return backend::make({.depth = depth}); }
    static bool may_be_missing(error why) {
        return why.host_errno() == EPERM || why.host_errno() == ENOSYS;
    }
};

struct pooled_traits : uring_traits {
    static constexpr bool any_thread = true;
    static auto make(unsigned depth) {
        return backend::make({.depth = depth, .single_thread = false});
    }
};

struct sqpoll_traits : uring_traits {
    static constexpr bool any_thread = true;
    static auto make(unsigned depth) { return backend::make({.depth = depth, .sqpoll = true}); }
};

using uring_backends =
    ::testing::Types<uring_traits, direct<uring_traits>, pooled_traits, sqpoll_traits>;
INSTANTIATE_TYPED_TEST_SUITE_P(uring, backend_conformance, uring_backends);

/// Makes io_uring_setup(2) fail from now on, as a container does.
bool forbid_io_uring() {
    std::array program = {
        sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
        sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

TEST(uring, says_where_it_is_forbidden) {
    const pid_t child = ::fork();
    if (child == 0) {
        if (!forbid_io_uring()) { ::_exit(255); }
        const auto made = io::uring::backend::make();
        ::_exit(made ? 0 : made.error().host_errno());
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    if (WEXITSTATUS(status) == 255) { GTEST_SKIP() << "no seccomp here"; }
    EXPECT_EQ(WEXITSTATUS(status), EPERM);
}

TEST(uring, refuses_depths_that_no_ring_has) {
    for (const unsigned depth : {0U, 16385U}) {
        const auto made = io::uring::backend::make({.depth = depth});
        ASSERT_FALSE(made);
        EXPECT_EQ(made.error().host_errno(), EINVAL);
    }
}

class uring_test : public ::testing::Test {
  public:
    using op_type = tracked<io::uring::backend>;

    void make(const io::uring::options& how) {
        auto made = io::uring::backend::make(how);
        if (!made && uring_traits::may_be_missing(made.error())) {
            GTEST_SKIP() << made.error().message();
        }
        ASSERT_TRUE(made);
        io_ = *std::move(made);
    }
    void open(const std::string& path, bool direct = false) {
        auto opened = io_->open(path, {.write = true, .create = true, .direct = direct});
        ::unlink(path.c_str());
        ASSERT_TRUE(opened);
        file_ = std::make_unique<io::uring::file>(*std::move(opened));
    }
    int run(const io::request& what) {
        op_type op;
        io_->submit(*file_, op, what);
        while (io_->in_flight() != 0) { io_->wait(); }
        return op.outcome();
    }

    std::unique_ptr<io::uring::backend> io_;
    std::unique_ptr<io::uring::file> file_;
};

TEST_F(uring_test, moves_registered_memory_as_any_other) {
    make({.depth = 8});
    if (IsSkipped()) { return; }
    open("uring.registered");
    std::vector<std::byte> region(4 * block, std::byte{5});
    auto registered = io_->register_memory(region);
    if (!registered) { GTEST_SKIP() << registered.error().message(); }
    const std::span<std::byte> inside = std::span(region).subspan(block, 2 * block);
    EXPECT_EQ(run(io::request::write(0, inside)), 0);
    // Partly outside the region, so not through it; and a second region.
    std::vector<std::byte> other(2 * block);
    EXPECT_EQ(run(io::request::read(0, other)), 0);
    EXPECT_EQ(other, std::vector<std::byte>(2 * block, std::byte{5}));
    auto second = io_->register_memory(other);
    ASSERT_TRUE(second);
    std::ranges::fill(other, std::byte{6});
    EXPECT_EQ(run(io::request::write(block, std::span(other).first(block))), 0);
    EXPECT_EQ(run(io::request::read(0, inside)), 0);
    EXPECT_EQ(inside[0], std::byte{5});
    EXPECT_EQ(inside[block], std::byte{6});
    EXPECT_EQ(region[0], std::byte{5}) << "and nothing beside it";
    // Past the end of the file: the request still completes in full.
    EXPECT_EQ(run(io::request::read(block + 512, inside)), 0);
    EXPECT_EQ(inside[0], std::byte{6});
    EXPECT_EQ(inside.back(), std::byte{0});
}

TEST_F(uring_test, has_so_many_regions_and_gives_them_back) {
    make({.depth = 8});
    if (IsSkipped()) { return; }
    std::vector<std::byte> region(block);
    std::deque<io::uring::backend::registration> all;
    for (int i = 0; i < 16; ++i) {
        auto next = io_->register_memory(region);
        if (!next && i == 0) { GTEST_SKIP() << next.error().message(); }
        ASSERT_TRUE(next);
        all.push_back(*std::move(next));
    }
    const auto more = io_->register_memory(region);
    ASSERT_FALSE(more);
    EXPECT_EQ(more.error().host_errno(), ENOMEM);
    all.pop_front();
    EXPECT_TRUE(io_->register_memory(region));
    all.clear();
    // The region is no longer registered, and nothing goes to its old place.
    open("uring.given_back");
    EXPECT_EQ(run(io::request::write(0, region)), 0);
}

/// More files than the ring has slots, and slots that are reused.
TEST_F(uring_test, files_come_and_go) {
    make({.depth = 8});
    if (IsSkipped()) { return; }
    std::deque<std::unique_ptr<io::uring::file>> all;
    const auto add = [&](unsigned i) {
        open("uring.come_and_go");
        std::vector<std::byte> own(512, static_cast<std::byte>(i));
        EXPECT_EQ(run(io::request::write(0, own)), 0);
        all.push_back(std::move(file_));
    };
    const auto expect_own = [&](unsigned i) {
        std::vector<std::byte> found(512);
        file_ = std::move(all.front());
        all.pop_front();
        EXPECT_EQ(run(io::request::read(0, found)), 0);
        EXPECT_EQ(found, std::vector<std::byte>(512, static_cast<std::byte>(i)));
        file_.reset();
    };
    for (unsigned i = 0; i < 100; ++i) { add(i); }
    for (unsigned i = 0; i < 50; ++i) { expect_own(i); }
    for (unsigned i = 100; i < 150; ++i) { add(i); }
    for (unsigned i = 50; i < 150; ++i) { expect_own(i); }
}

/// A lease for writing is given only to the sole opener of the file.
TEST_F(uring_test, keeps_no_file_that_is_closed) {
    make({.depth = 8});
    if (IsSkipped()) { return; }
    const char* const path = "uring.closed";
    auto opened = io_->open(path, {.write = true, .create = true});
    ASSERT_TRUE(opened);
    file_ = std::make_unique<io::uring::file>(*std::move(opened));
    std::vector<std::byte> bytes(512);
    EXPECT_EQ(run(io::request::write(0, bytes)), 0);
    const int fd = ::open(path, O_RDWR);
    ::unlink(path);
    ASSERT_GE(fd, 0);
    EXPECT_NE(::fcntl(fd, F_SETLEASE, F_WRLCK), 0) << "we have it open";
    const int why = errno;
    file_.reset();
    const int leased = ::fcntl(fd, F_SETLEASE, F_WRLCK);
    ::close(fd);
    if (why != EAGAIN) { GTEST_SKIP() << "this file system has no leases"; }
    EXPECT_EQ(leased, 0) << "the ring still has it";
}

/// The kernel may cancel what a thread has left behind. That is not an outcome of the operation.
TEST_F(uring_test, outlives_the_thread_that_submitted) {
    make({.depth = 8, .single_thread = false});
    if (IsSkipped()) { return; }
    open("uring.outlives");
    std::deque<op_type> ops(40);
    std::vector<std::byte> out(ops.size() * block, std::byte{3});
    std::thread([&] {
        for (std::size_t i = 0; i < ops.size(); ++i) {
            const auto part = std::span(out).subspan(i * block, block);
            io_->submit(*file_, ops[i],
                        i % 2 == 0 ? io::request::write(i * block, part)
                                   : io::request::range(io::opcode::extend, i * block, block));
        }
        io_->poll();
    }).join();
    while (io_->in_flight() != 0) { io_->wait(); }
    for (const op_type& op : ops) {
        EXPECT_EQ(op.ends, 1U);
        EXPECT_EQ(op.outcome(), 0);
    }
}

/// Made in one thread and used in another, with its default options: as on a strand of a pool.
TEST_F(uring_test, goes_over_to_the_thread_that_uses_it) {
    make({.depth = 8});
    if (IsSkipped()) { return; }
    open("uring.goes_over");
    std::vector<std::byte> out(block, std::byte{3});
    std::vector<std::byte> in(block);
    EXPECT_EQ(run(io::request::write(0, out)), 0);
    for (int i = 0; i < 3; ++i) {
        std::ranges::fill(in, std::byte{0});
        std::thread([&] { EXPECT_EQ(run(io::request::read(0, in)), 0); }).join();
        EXPECT_EQ(in, out);
    }
    EXPECT_EQ(run(io::request::read(0, in)), 0);
}

TEST_F(uring_test, says_why_another_thread_cannot_have_it_now) {
    make({.depth = 8});
    if (IsSkipped()) { return; }
    open("uring.not_now");
    std::vector<std::byte> bytes(block);
    op_type mine;
    ASSERT_EQ(io_->submit(*file_, mine, io::request::flush()), io::submit_status::pending);
    std::thread([&] {
        op_type others;
        EXPECT_EQ(io_->submit(*file_, others, io::request::read(0, bytes)),
                  io::submit_status::done);
        ASSERT_FALSE(others.status());
        EXPECT_TRUE(others.status().error() == errc::ring_of_another_thread);
    }).join();
    while (io_->in_flight() != 0) { io_->wait(); }
    EXPECT_EQ(mine.outcome(), 0);
}

/// The kernel ends what a killed process had in flight, and closes the file, after the parent has
/// seen the process end.
TEST_F(uring_test, a_killed_process_holds_the_lock_a_little_longer) {
    const std::string path = "uring.killed." + std::to_string(::getpid());
    const io::open_mode mode{.write = true, .create = true, .lock = io::file_lock::writer()};
    std::array<int, 2> ready{};
    ASSERT_EQ(::pipe(ready.data()), 0);
    for (int round = 0; round < 10; ++round) {
        const pid_t child = ::fork();
        if (child == 0) {
            auto made = io::uring::backend::make({.depth = 64});
            if (!made) { ::_exit(100); }
            auto file = (*made)->open(path, mode);
            if (!file) { ::_exit(101); }
            std::vector<std::byte> bytes(std::size_t{1} << 20);
            std::deque<op_type> ops(64);
            char say = 1;
            for (std::size_t i = 0;; i = (i + 1) % ops.size()) {
                (*made)->submit(*file, ops[i],
                                i % 8 == 7 ? io::request::flush()
                                           : io::request::write(i * bytes.size(), bytes));
                if (i != ops.size() - 1) { continue; }
                (*made)->poll();
                if (say != 0 && ::write(ready[1], &say, 1) == 1) { say = 0; }
                while ((*made)->in_flight() != 0) { (*made)->wait(); }
            }
        }
        pollfd said{ready[0], POLLIN, 0};
        char byte = 0;
        while (::poll(&said, 1, 100) == 0) {
            int status = 0;
            if (::waitpid(child, &status, WNOHANG) != child) { continue; }
            ::unlink(path.c_str());
            ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 100) << status;
            GTEST_SKIP() << "no io_uring here";
        }
        ASSERT_EQ(::read(ready[0], &byte, 1), 1);
        ASSERT_EQ(::kill(child, SIGKILL), 0);
        ASSERT_EQ(::waitpid(child, nullptr, 0), child);
        const auto next = io::host_file::open(path, mode);
        EXPECT_TRUE(next) << "round " << round << ": " << next.error().message();
    }
    ::close(ready[0]);
    ::close(ready[1]);
    ::unlink(path.c_str());
}

/// tmpfs has no ZERO_RANGE: the fallback uses system calls.
TEST_F(uring_test, finds_a_way_round_what_the_host_refuses) {
    make({});
    if (IsSkipped()) { return; }
    open("/dev/shm/uring." + std::to_string(::getpid()));
    std::vector<std::byte> bytes(3 * block, std::byte{3});
    ASSERT_EQ(run(io::request::write(0, bytes)), 0);
    EXPECT_EQ(run(io::request::range(io::opcode::zero, block, block)), 0);
    EXPECT_EQ(run(io::request::read(0, bytes)), 0);
    EXPECT_EQ(bytes[block - 1], std::byte{3});
    EXPECT_EQ(bytes[block], std::byte{0});
    EXPECT_EQ(bytes[2 * block], std::byte{3});
}

} // namespace
} // namespace gaur::test
