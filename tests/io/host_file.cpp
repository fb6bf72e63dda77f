// SPDX-License-Identifier: BSL-1.0
#include <gaur/io/host_file.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <fcntl.h>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace gaur::io {
namespace {

class host_file_test : public ::testing::Test {
  public:
    void TearDown() override { ::unlink(path_.c_str()); }

    std::string path_ = "host_file." + std::to_string(::getpid());
    static constexpr open_mode make{.write = true, .create = true};
};

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) != -1; }

int errno_of(const result<host_file>& opened) {
    return opened ? 0 : opened.error().host_errno();
}

TEST_F(host_file_test, opens_as_the_mode_says) {
    EXPECT_EQ(errno_of(host_file::open(path_, {})), ENOENT);
    EXPECT_EQ(errno_of(host_file::open(path_, {.write = true})), ENOENT);
    {
        const result made = host_file::open(path_, make);
        ASSERT_TRUE(made);
        EXPECT_EQ(::pwrite(made->fd(), "abc", 3, 0), 3);
        EXPECT_EQ(::fcntl(made->fd(), F_GETFD), FD_CLOEXEC);
        EXPECT_EQ(*made->size(), 3U);
    }
    const result reading = host_file::open(path_, {});
    ASSERT_TRUE(reading);
    EXPECT_EQ(*reading->size(), 3U);
    EXPECT_EQ(::pwrite(reading->fd(), "abc", 3, 0), -1);
    const result cut = host_file::open(path_, {.write = true, .truncate = true});
    ASSERT_TRUE(cut);
    EXPECT_EQ(*cut->size(), 0U);
}

TEST_F(host_file_test, opens_no_directory) {
    EXPECT_EQ(errno_of(host_file::open(".", {})), EISDIR);
}

TEST_F(host_file_test, closes_once_wherever_it_has_moved) {
    int fd = -1;
    {
        result opened = host_file::open(path_, make);
        ASSERT_TRUE(opened);
        fd = opened->fd();
        host_file moved = *std::move(opened);
        EXPECT_EQ(moved.fd(), fd);
        EXPECT_EQ(opened->fd(), -1);
        result other = host_file::open("/dev/null", {});
        ASSERT_TRUE(other);
        const int null = other->fd();
        moved = *std::move(other);
        EXPECT_EQ(moved.fd(), null);
        EXPECT_TRUE(is_open(null));
    }
    EXPECT_FALSE(is_open(fd));
}

TEST_F(host_file_test, is_known_by_its_inode) {
    const result first = host_file::open(path_, make);
    const result again = host_file::open("./" + path_, {});
    const result other = host_file::open("/dev/null", {});
    ASSERT_TRUE(first && again && other);
    EXPECT_EQ(first->identity(), again->identity());
    EXPECT_FALSE(first->identity() == other->identity());
    struct stat status {};
    ASSERT_EQ(::stat(path_.c_str(), &status), 0);
    EXPECT_EQ(first->identity(), identity_of(status));
}

/// Through any node: the inode of the node does not identify the device.
TEST_F(host_file_test, a_block_device_is_known_by_its_number) {
    struct stat status {};
    status.st_mode = S_IFBLK;
    status.st_dev = 5;
    status.st_ino = 600;
    status.st_rdev = 0x700;
    struct stat other = status;
    other.st_ino = 601;
    EXPECT_EQ(identity_of(status), identity_of(other));
    other.st_rdev = 0x701;
    EXPECT_FALSE(identity_of(status) == identity_of(other));
    status.st_mode = S_IFREG;
    EXPECT_EQ(identity_of(status), (file_identity{5, 600}));
}

/// A child that this process forked may still have the description open.
TEST_F(host_file_test, its_lock_ends_with_it) {
    constexpr open_mode alone{.write = true, .create = true, .lock = file_lock::writer()};
    int kept = -1;
    {
        const result opened = host_file::open(path_, alone);
        ASSERT_TRUE(opened);
        kept = ::dup(opened->fd());
        EXPECT_TRUE(host_file::open(path_, alone).error() == errc::held_for_writing);
    }
    EXPECT_TRUE(is_open(kept));
    EXPECT_TRUE(host_file::open(path_, alone));
    ::close(kept);
}

TEST_F(host_file_test, asks_for_alignment_past_the_page_cache_only) {
    const result cached = host_file::open(path_, make);
    ASSERT_TRUE(cached);
    EXPECT_EQ(cached->limits().offset_alignment, 1U);
    EXPECT_EQ(cached->limits().memory_alignment, 1U);
    const result direct = host_file::open(path_, {.write = true, .direct = true});
    if (errno_of(direct) == EINVAL) { GTEST_SKIP() << "no O_DIRECT in this directory"; }
    ASSERT_TRUE(direct);
    EXPECT_NE(::fcntl(direct->fd(), F_GETFL) & O_DIRECT, 0);
    const limits asks = direct->limits();
    EXPECT_GE(asks.offset_alignment, 512U);
    EXPECT_LE(asks.offset_alignment, 4096U);
    EXPECT_GT(asks.memory_alignment, 1U);
}

} // namespace
} // namespace gaur::io
