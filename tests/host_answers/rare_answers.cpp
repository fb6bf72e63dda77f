// SPDX-License-Identifier: BSL-1.0
// Answers that a host may give and rarely does: EINTR and EAGAIN for every call and completion,
// short transfers that end at each kind of byte, and every cause for a lost wake of a descriptor.
// For each backend over the host's calls.
#include "support/backends.hpp"
#include "support/host_answers.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <fcntl.h>
#include <memory>
#include <optional>
#include <poll.h>
#include <sched.h>
#include <span>
#include <string>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <utility>
#include <vector>

namespace gaur::test {
namespace {

constexpr std::size_t sector = 512;
constexpr std::size_t size = 16 * sector;

/// An operation that counts its completions.
template <class B>
struct counted : B::operation {
    counted() : B::operation(&on_end) {}
    static void on_end(io::operation& op) noexcept { ++static_cast<counted&>(op).ends; }
    unsigned ends = 0;
};

template <class B>
class rare_answers : public ::testing::Test {
  public:
    void SetUp() override {
        auto made = B::make();
        if (!made && is_forbidden(made.error())) { GTEST_SKIP() << made.error().message(); }
        ASSERT_TRUE(made) << made.error().message();
        io_ = *std::move(made);
        const auto* const test = ::testing::UnitTest::GetInstance()->current_test_info();
        path_ = "rare." + std::string(B::name) + '.' + test->name() + '.' +
                std::to_string(::getpid());
    }
    void TearDown() override {
        if (!path_.empty()) { ::unlink(path_.c_str()); }
    }

    int open() {
        file_.reset();
        auto opened = io_->open(path_, {.write = true, .create = true, .truncate = true,
                                        .lock = io::file_lock::writer()});
        if (!opened) {
            const int why = opened.error().host_errno();
            return why != 0 ? why : -1;
        }
        file_.emplace(*std::move(opened));
        return 0;
    }
    int run(const io::request& what) {
        counted<B> op;
        if (io_->submit(*file_, op, what) == io::submit_status::done) { ++op.ends; }
        while (io_->in_flight() != 0) { io_->wait(); }
        EXPECT_EQ(op.ends, 1U);
        return op.outcome();
    }

    static std::vector<std::byte> pattern(unsigned seed) {
        std::vector<std::byte> bytes(size);
        for (std::size_t i = 0; i < size; ++i) {
            bytes[i] = static_cast<std::byte>(i / sector * 31 + i % 251 + seed);
        }
        return bytes;
    }
    /// Three parts for one request, none of whole sectors.
    static std::array<iovec, 3> parts_of(std::vector<std::byte>& bytes) {
        return {iovec{bytes.data(), sector + 1}, iovec{bytes.data() + sector + 1, 3},
                iovec{bytes.data() + sector + 4, size - sector - 4}};
    }

    /// Does everything that a backend can do with a file. Returns "" or what fails first, and how.
    std::string use_the_file() {
        const auto failed = [](const char* what, int why) {
            return why == 0 ? "" : std::string(what) + ": " + std::to_string(why);
        };
        if (const int why = open(); why != 0) { return failed("open", why); }
        std::string first;
        const auto step = [&](const char* what, const io::request& asked) {
            if (const int why = run(asked); first.empty()) { first = failed(what, why); }
        };
        std::vector<std::byte> one = pattern(1);
        std::vector<std::byte> two = pattern(7);
        std::array<iovec, 3> parts = parts_of(two);
        step("extend", io::request::range(io::opcode::extend, 0, 4 * size));
        step("write", io::request::write(0, one));
        step("write of a vector", io::request::write(size + 1, std::span(parts), size));
        step("flush", io::request::flush());
        std::vector<std::byte> in(size);
        step("read", io::request::read(0, in));
        if (first.empty() && in != one) { first = "read: other bytes"; }
        std::ranges::fill(in, std::byte{0xee});
        parts = parts_of(in);
        step("read of a vector", io::request::read(size + 1, std::span(parts), size));
        if (first.empty() && in != two) { first = "read of a vector: other bytes"; }
        step("zero", io::request::range(io::opcode::zero, 0, sector));
        step("discard", io::request::range(io::opcode::discard, sector, sector));
        step("truncate", io::request::truncate(5 * size));
        step("read behind", io::request::read(4 * size, in));
        if (first.empty() && in != std::vector<std::byte>(size)) { first = "no zeroes behind"; }
        step("read of holes", io::request::read(0, in));
        std::fill_n(one.begin(), 2 * sector, std::byte{0});
        if (first.empty() && in != one) { first = "read of holes: other bytes"; }
        const auto length = file_->size();
        if (first.empty() && (!length || *length != 5 * size)) { first = "another length"; }
        return first;
    }

    std::unique_ptr<B> io_;
    std::optional<typename B::file> file_;
    std::string path_;
};
TYPED_TEST_SUITE(rare_answers, host_backends, backend_names);

constexpr host_call all_calls[] = {
    host_call::open,        host_call::lock,          host_call::read,
    host_call::write,       host_call::flush,         host_call::truncate,
    host_call::allocate,    host_call::aio_end,       host_call::aio_suspend,
    host_call::ring_enter,  host_call::ring_end,      host_call::event_read,
    host_call::event_write,
};

TYPED_TEST(rare_answers, what_a_signal_interrupts_is_done_again) {
    for (const host_call call : all_calls) {
        host_answers host;
        host.every_other(call, {.host_errno = EINTR});
        EXPECT_EQ(this->use_the_file(), "") << "call " << static_cast<int>(call);
    }
    host_answers host;
    for (const host_call call : all_calls) { host.every_other(call, {.host_errno = EINTR}); }
    EXPECT_EQ(this->use_the_file(), "") << "all together";
    EXPECT_GE(host.answered(), 7U);
}

/// A call in this thread may return EAGAIN as its outcome: a file of the host has no reason for it.
/// Submissions and completions of queues are retried.
TYPED_TEST(rare_answers, what_the_host_has_no_room_for_is_done_later) {
    for (const host_call call : {host_call::aio_submit, host_call::aio_end, host_call::aio_suspend,
                                 host_call::ring_enter, host_call::ring_end,
                                 host_call::event_read}) {
        host_answers host;
        host.every_other(call, {.host_errno = EAGAIN});
        EXPECT_EQ(this->use_the_file(), "") << "call " << static_cast<int>(call);
    }
    ASSERT_EQ(this->open(), 0);
    std::vector<std::byte> bytes = this->pattern(3);
    for (const host_call call : {host_call::read, host_call::write, host_call::flush,
                                 host_call::truncate, host_call::allocate}) {
        host_answers host;
        host.every_other(call, {.host_errno = EAGAIN});
        for (const io::request& what :
             {io::request::write(0, bytes), io::request::read(0, bytes), io::request::flush(),
              io::request::truncate(2 * size),
              io::request::range(io::opcode::extend, 0, 2 * size)}) {
            const int outcome = this->run(what);
            EXPECT_TRUE(outcome == 0 || outcome == EAGAIN) << outcome;
        }
        EXPECT_EQ(bytes, this->pattern(3)) << "call " << static_cast<int>(call);
    }
}

/// Short by one byte, one less than a sector, a sector, all but one: the rest follows, from the
/// right place in file and memory.
TYPED_TEST(rare_answers, short_transfers_go_on_where_they_ended) {
    for (const std::size_t most : {std::size_t{1}, sector - 1, sector, sector + 2, size - 1}) {
        for (const host_call call :
             {host_call::read, host_call::write, host_call::ring_transfer}) {
            host_answers host;
            host.every_other(call, {.most = most});
            EXPECT_EQ(this->use_the_file(), "")
                << most << " bytes, call " << static_cast<int>(call);
        }
        host_answers host;
        for (const host_call call :
             {host_call::read, host_call::write, host_call::ring_transfer}) {
            host.every_other(call, {.most = most});
            host.every_other(call, {.host_errno = call == host_call::ring_transfer ? 0 : EINTR});
        }
        host.every_other(host_call::ring_end, {.host_errno = EINTR});
        EXPECT_EQ(this->use_the_file(), "") << most << " bytes, interrupted too";
    }
}

/// A host that writes 0 bytes would be asked forever.
TYPED_TEST(rare_answers, a_write_that_moves_nothing_is_an_error) {
    ASSERT_EQ(this->open(), 0);
    const std::vector<std::byte> bytes = this->pattern(3);
    ASSERT_EQ(this->run(io::request::truncate(size)), 0);
    host_answers host;
    host.every_other(host_call::write, {.most = 0}, 1);
    host.every_other(host_call::ring_transfer, {.most = 0}, 1);
    EXPECT_EQ(this->run(io::request::write(0, bytes)), EIO);
    EXPECT_EQ(this->run(io::request::write(0, bytes)), 0);
}

/// A foreign loop sleeps until the descriptor is readable.
template <class B>
class wakes : public rare_answers<B> {
  public:
    /// Whether all that is in flight ends this way. `turns`: of the loop.
    bool drive() {
        const int descriptor = this->io_->descriptor();
        this->io_->poll();
        while (this->io_->in_flight() != 0) {
            pollfd ready{descriptor, POLLIN, 0};
            if (::poll(&ready, 1, 5000) != 1) { return false; }
            this->io_->poll();
        }
        return true;
    }
    /// The loop is stopped with operations in flight: nothing of them may remain.
    void give_up() {
        while (this->io_->in_flight() != 0) { this->io_->wait(); }
    }
};
#if __has_include(<liburing.h>)
using pollable_backends = ::testing::Types<io::threads::backend, io::uring::backend>;
#else
using pollable_backends = ::testing::Types<io::threads::backend>;
#endif
TYPED_TEST_SUITE(wakes, pollable_backends, backend_names);

TYPED_TEST(wakes, are_not_lost_with_what_the_host_refuses_at_first) {
    ASSERT_EQ(this->open(), 0);
    std::vector<std::byte> bytes = this->pattern(3);
    ASSERT_TRUE(this->drive()) << "the descriptor is in use";
    for (const int why : {EINTR, EAGAIN, EBUSY}) {
        for (const host_call call :
             {host_call::ring_enter, host_call::event_read, host_call::event_write}) {
            if (call == host_call::event_write && why != EINTR) { continue; }
            host_answers host;
            host.every_other(call, {.host_errno = why});
            std::deque<counted<TypeParam>> ops(10);
            for (std::size_t i = 0; i < ops.size(); ++i) {
                this->io_->submit(*this->file_, ops[i], io::request::write(i * size, bytes));
                const bool called = this->drive();
                this->give_up();
                ASSERT_TRUE(called) << "call " << static_cast<int>(call) << ", " << why;
            }
            for (const auto& op : ops) { EXPECT_EQ(op.ends, 1U); }
        }
    }
}

/// An operation that ends while poll() reads the descriptor: either that poll() delivers it, or the
/// descriptor becomes readable again. The second operation is released when the signal of the first
/// is about to be read.
TYPED_TEST(wakes, of_what_ends_while_a_signal_is_read) {
    constexpr bool by_kernel = TypeParam::name == "uring";
    ASSERT_EQ(::mkfifo(this->path_.c_str(), 0600), 0);
    std::array<std::byte, 8> first{};
    std::array<std::byte, 8> second{};
    for (int round = 0; round < 20; ++round) {
        auto opened = this->io_->open(by_kernel ? this->path_ : "/dev/zero", {.write = true});
        ASSERT_TRUE(opened) << opened.error().message();
        this->file_.emplace(*std::move(opened));
        auto device = this->io_->open("/dev/zero", {});
        ASSERT_TRUE(device);
        ASSERT_TRUE(this->drive());

        host_answers host;
        // Workers block in their reads until they are released; the kernel blocks in a read of a
        // pipe.
        std::atomic<int> reads = 0;
        std::atomic<int> let_go = 0;
        std::atomic<int> signals = 0;
        bool first_ended = false;
        if (!by_kernel) {
            host.before(host_call::read, [&] {
                for (const int mine = ++reads; let_go < mine;) { ::sched_yield(); }
            });
        }
        host.before(host_call::event_write, [&] { ++signals; });
        host.before(host_call::event_read, [&] {
            if (!std::exchange(first_ended, false)) { return; }
            if (by_kernel) {
                const int pipe = ::open(this->path_.c_str(), O_WRONLY | O_NONBLOCK);
                EXPECT_EQ(::write(pipe, second.data(), second.size()), 8);
                ::close(pipe);
                return;
            }
            // It ends within this time in most runs, if it can.
            const int before = signals;
            let_go = 2;
            for (int turn = 0; turn < 5000 && signals == before; ++turn) { ::sched_yield(); }
        });

        counted<TypeParam> one;
        counted<TypeParam> two;
        this->io_->submit(*device, one, io::request::read(0, first));
        this->io_->submit(*this->file_, two, io::request::read(0, second));
        if (!by_kernel) {
            EXPECT_EQ(this->io_->poll(), 0U);
            while (reads < 2) { ::sched_yield(); }
            let_go = 1;
            pollfd ready{this->io_->descriptor(), POLLIN, 0};
            EXPECT_EQ(::poll(&ready, 1, 5000), 1);
        }
        first_ended = true;
        EXPECT_TRUE(this->drive()) << "the descriptor does not call, round " << round;
        let_go = 2;
        this->give_up();
        EXPECT_EQ(one.ends + two.ends, 2U);
        if (this->HasFailure()) { break; }
    }
    this->file_.reset();
}

#if __has_include(<liburing.h>)
/// The kernel refuses a transfer past the end of a registered region: it is submitted as a plain
/// one.
TEST(registered_regions, of_which_a_transfer_has_a_part_only) {
    GAUR_NEEDS_BACKEND(io::uring::backend, io);
    const std::string path = "rare.region." + std::to_string(::getpid());
    auto file = io->open(path, {.write = true, .create = true});
    ::unlink(path.c_str());
    ASSERT_TRUE(file);
    constexpr std::size_t page = 4096;
    std::vector<std::byte> memory(5 * page);
    const auto all = std::span(memory);
    auto registered = io->register_memory(all.subspan(page, 2 * page));
    if (!registered) { GTEST_SKIP() << registered.error().message(); }
    struct {
        std::size_t at;
        std::size_t bytes;
    } const transfers[] = {{page, 2 * page},     {page, 2 * page + 1},     {2 * page, page + 1},
                           {2 * page, 2 * page}, {page - 1, page},         {page - 1, 2 * page + 1},
                           {0, 5 * page},        {3 * page - 1, 2},        {3 * page, page},
                           {0, page},            {3 * page - sector, page}};
    for (const auto& t : transfers) {
        SCOPED_TRACE(std::to_string(t.at) + " + " + std::to_string(t.bytes));
        for (std::size_t i = 0; i < memory.size(); ++i) {
            memory[i] = static_cast<std::byte>(i / 7 + t.at);
        }
        const std::vector<std::byte> before = memory;
        const auto part = all.subspan(t.at, t.bytes);
        for (const bool reads : {false, true}) {
            counted<io::uring::backend> op;
            if (reads) { std::ranges::fill(part, std::byte{0}); }
            io->submit(*file, op, reads ? io::request::read(0, part) : io::request::write(0, part));
            while (io->in_flight() != 0) { io->wait(); }
            EXPECT_EQ(op.outcome(), 0) << (reads ? "read" : "write");
        }
        EXPECT_TRUE(memory == before) << "other bytes";
    }
}
#endif

} // namespace
} // namespace gaur::test
