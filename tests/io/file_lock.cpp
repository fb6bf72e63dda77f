// SPDX-License-Identifier: BSL-1.0
#include <gaur/io/file_lock.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <fcntl.h>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <tuple>
#include <unistd.h>
#include <utility>

namespace gaur::io {
namespace {

/// errc{} if it succeeded.
template <class T>
errc why(const result<T>& r) {
    return r ? errc{} : static_cast<errc>(std::error_code(r.error()).value());
}

constexpr file_lock reader = file_lock::reader();
constexpr file_lock writer = file_lock::writer();
constexpr file_lock forced = file_lock::forced_reader();

TEST(file_lock, of_an_open) {
    EXPECT_EQ(*lock_for(locking::on, false), reader);
    EXPECT_EQ(*lock_for(locking::on, true), writer);
    EXPECT_EQ(*lock_for(locking::force_share, false), forced);
    EXPECT_EQ(why(lock_for(locking::force_share, true)), errc::share_needs_read_only);
    EXPECT_TRUE(lock_for(locking::off, true)->is_empty());
    EXPECT_FALSE(reader.is_empty() || writer.is_empty() || forced.is_empty());
}

TEST(file_lock, says_who_is_in_the_way) {
    constexpr file_lock alone{0, permission::consistent_read | permission::write};
    EXPECT_EQ(why(check_lock(reader, reader)), errc{});
    EXPECT_EQ(why(check_lock(reader, writer)), errc::held_for_writing);
    EXPECT_EQ(why(check_lock(writer, writer)), errc::held_for_writing);
    EXPECT_EQ(why(check_lock(writer, reader)), errc::writers_excluded);
    EXPECT_EQ(why(check_lock(forced, writer)), errc{});
    EXPECT_EQ(why(check_lock(writer, forced)), errc{});
    EXPECT_EQ(why(check_lock(reader, alone)), errc::readers_excluded);
    EXPECT_EQ(why(check_lock(alone, reader)), errc::held_for_reading);
    EXPECT_EQ(why(check_lock(alone, writer)), errc::held_for_writing);
    EXPECT_EQ(why(check_lock({}, writer)), errc{});
}

class host_lock : public ::testing::Test {
  protected:
    void SetUp() override {
        ASSERT_GE(other, 0);
        ASSERT_GE(mine, 0);
        ::unlink(path.c_str());
    }
    void TearDown() override {
        ::close(mine);
        ::close(other);
    }
    /// A lock of another holder, of a kind that any program can take.
    int hold(short type, off_t byte) const {
        struct flock said;
        return detail::call_lock(other, F_OFD_SETLK, type, byte, 1, said);
    }

    std::string path = "file_lock." + std::to_string(::getpid());
    int mine = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    int other = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
};

/// The bytes are QEMU's: with other bytes the lock would not exclude QEMU.
TEST_F(host_lock, marks_the_bytes) {
    const auto marked = [&] {
        std::string bytes;
        for (off_t byte = 95; byte < 210; ++byte) {
            struct flock said;
            EXPECT_EQ(detail::call_lock(other, F_OFD_GETLK, F_WRLCK, byte, 1, said), 0);
            if (said.l_type == F_UNLCK) { continue; }
            EXPECT_EQ(said.l_type, F_RDLCK) << byte;
            bytes += std::to_string(byte) + ' ';
        }
        return bytes;
    };
    EXPECT_TRUE(take_lock(mine, {}));
    EXPECT_EQ(marked(), "");
    EXPECT_TRUE(take_lock(mine, reader));
    EXPECT_EQ(marked(), "100 201 203 ");
    drop_lock(mine);
    EXPECT_EQ(marked(), "");
    EXPECT_TRUE(take_lock(mine, writer));
    EXPECT_EQ(marked(), "100 101 103 201 203 ");
    drop_lock(mine);
    EXPECT_TRUE(take_lock(mine, forced));
    EXPECT_EQ(marked(), "100 ");
}

TEST_F(host_lock, asks_for_the_bytes) {
    for (const auto& [byte, to_read, to_write, to_share] : {
             std::tuple(100, errc{}, errc{}, errc{}),
             std::tuple(101, errc::held_for_writing, errc::held_for_writing, errc{}),
             std::tuple(102, errc{}, errc{}, errc{}),
             std::tuple(103, errc::held_for_writing, errc::held_for_writing, errc{}),
             std::tuple(200, errc::readers_excluded, errc::readers_excluded,
                        errc::readers_excluded),
             std::tuple(201, errc{}, errc::writers_excluded, errc{}),
             std::tuple(202, errc{}, errc{}, errc{}),
             std::tuple(203, errc{}, errc::writers_excluded, errc{})}) {
        SCOPED_TRACE(byte);
        ASSERT_EQ(hold(F_RDLCK, byte), 0);
        EXPECT_EQ(why(take_lock(mine, reader)), to_read);
        drop_lock(mine);
        EXPECT_EQ(why(take_lock(mine, writer)), to_write);
        drop_lock(mine);
        EXPECT_EQ(why(take_lock(mine, forced)), to_share);
        drop_lock(mine);
        ASSERT_EQ(hold(F_UNLCK, byte), 0);
    }
}

/// Like the kernel worker that ends what a killed process had in flight, and closes its file late.
TEST_F(host_lock, tries_again_for_a_while) {
    using std::chrono::milliseconds;
    ASSERT_TRUE(take_lock(other, writer));
    std::thread late([this] {
        std::this_thread::sleep_for(milliseconds(40));
        drop_lock(other);
    });
    EXPECT_EQ(why(take_lock(mine, writer, milliseconds(60'000))), errc{});
    late.join();
    drop_lock(mine);
}

TEST_F(host_lock, gives_up_in_time_and_leaves_no_mark) {
    using std::chrono::milliseconds;
    using clock = std::chrono::steady_clock;
    ASSERT_TRUE(take_lock(other, writer));
    const clock::time_point begin = clock::now();
    EXPECT_EQ(why(take_lock(mine, reader, milliseconds(0))), errc::held_for_writing);
    drop_lock(mine);
    EXPECT_EQ(why(take_lock(mine, reader, milliseconds(60))), errc::held_for_writing);
    EXPECT_GE(clock::now() - begin, milliseconds(60));
    drop_lock(other);
    EXPECT_EQ(why(take_lock(other, writer)), errc{}) << "the one that gave up is in the way";
}

/// Some other programs lock bytes exclusively that QEMU shares.
TEST_F(host_lock, bears_exclusive_locks_of_others) {
    ASSERT_EQ(hold(F_WRLCK, 101), 0);
    EXPECT_EQ(why(take_lock(mine, writer)), errc::held_for_writing);
    drop_lock(mine);
    EXPECT_EQ(why(take_lock(mine, reader)), errc::held_for_writing);
    drop_lock(mine);
    ASSERT_EQ(hold(F_UNLCK, 101), 0);
    ASSERT_EQ(hold(F_WRLCK, 100), 0);
    EXPECT_EQ(why(take_lock(mine, forced)), errc::readers_excluded);
}

TEST_F(host_lock, a_duplicate_is_the_same_holder) {
    ASSERT_TRUE(take_lock(mine, writer));
    const int duplicate = ::fcntl(mine, F_DUPFD_CLOEXEC, 0);
    ASSERT_GE(duplicate, 0);
    EXPECT_TRUE(take_lock(duplicate, writer));
    ::close(duplicate);
    EXPECT_EQ(why(take_lock(other, writer)), errc::held_for_writing) << "lost with a duplicate";
    const int again = ::fcntl(mine, F_DUPFD_CLOEXEC, 0);
    drop_lock(mine);
    EXPECT_TRUE(take_lock(other, writer)) << "kept by a duplicate";
    ::close(again);
}

TEST_F(host_lock, where_there_are_none) {
    for (const int none : {EINVAL, ENOLCK, ENOSYS, EOPNOTSUPP}) {
        EXPECT_TRUE(detail::has_no_locks(none));
    }
    for (const int another : {0, EAGAIN, EACCES, EBADF, EIO}) {
        EXPECT_FALSE(detail::has_no_locks(another));
    }
    EXPECT_EQ(take_lock(-1, reader).error().host_errno(), EBADF);
}

TEST(lock_table, counts_holders) {
    lock_table table;
    ASSERT_TRUE(table.take(reader));
    ASSERT_TRUE(table.take(reader));
    table.drop(reader);
    EXPECT_EQ(why(table.take(writer)), errc::writers_excluded);
    table.drop(reader);
    ASSERT_TRUE(table.take(writer)) << "a refused one counts for nothing";
    EXPECT_EQ(why(table.take(reader)), errc::held_for_writing);
    table.drop(writer);
    EXPECT_TRUE(table.take(reader));
}

TEST(held_lock, drops_what_it_holds_once) {
    const auto table = std::make_shared<lock_table>();
    {
        auto first = held_lock::take(table, writer);
        ASSERT_TRUE(first);
        held_lock moved = *std::move(first);
        auto none = held_lock::take(std::make_shared<lock_table>(), reader);
        ASSERT_TRUE(none);
        moved = *std::move(none);
        EXPECT_FALSE(held_lock::take(table, reader)) << "it lives on in the one it came from";
    }
    EXPECT_TRUE(held_lock::take(table, writer));
}

} // namespace
} // namespace gaur::io
