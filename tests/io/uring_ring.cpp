// SPDX-License-Identifier: BSL-1.0
#include <gaur/io/uring_ring.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <cstddef>
#include <fcntl.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace gaur::io::uring {
namespace {

class ring_test : public ::testing::Test {
  protected:
    void SetUp() override {
        const int failed = kept.start({.depth = 8});
        if (failed == EPERM || failed == ENOSYS) { GTEST_SKIP() << "no io_uring here"; }
        ASSERT_EQ(failed, 0);
    }
    bool adopt_elsewhere(bool idle) {
        bool adopted = false;
        std::thread([&] { adopted = kept.adopt(idle); }).join();
        return adopted;
    }
    ring kept;
};

TEST_F(ring_test, is_its_threads_own_while_operations_are_in_flight) {
    EXPECT_TRUE(kept.adopt(false));
    EXPECT_FALSE(adopt_elsewhere(false));
    const int fd = kept.get().ring_fd;
    EXPECT_TRUE(kept.adopt(true));
    EXPECT_EQ(kept.get().ring_fd, fd) << "nothing to change";
}

TEST_F(ring_test, becomes_everybodys_with_all_that_is_registered) {
    const int file = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    ASSERT_GE(file, 0);
    const int slot = kept.add_file(file);
    std::vector<std::byte> bytes(4096);
    const auto region = kept.add_region(bytes);
    const int event = kept.descriptor();
    EXPECT_TRUE(adopt_elsewhere(true));
    EXPECT_TRUE(adopt_elsewhere(false)) << "for good";
    EXPECT_TRUE(kept.adopt(false));
    EXPECT_EQ(kept.descriptor(), event);
    if (region) { EXPECT_EQ(kept.region_of(bytes.data() + 10, 100), static_cast<int>(*region)); }
    if (slot < 0) { GTEST_SKIP() << "this kernel registers no files so"; }
    // A write by the file's slot and the region's index, in a thread that did not make the ring.
    std::thread([&] {
        io_uring_sqe* const entry = ::io_uring_get_sqe(&kept.get());
        ASSERT_NE(entry, nullptr);
        if (region) {
            ::io_uring_prep_write_fixed(entry, slot, bytes.data(), 512, 0,
                                        static_cast<int>(*region));
        } else {
            ::io_uring_prep_write(entry, slot, bytes.data(), 512, 0);
        }
        ::io_uring_sqe_set_flags(entry, IOSQE_FIXED_FILE);
        ASSERT_EQ(::io_uring_submit_and_wait(&kept.get(), 1), 1);
        io_uring_cqe* ended = nullptr;
        ASSERT_EQ(::io_uring_peek_cqe(&kept.get(), &ended), 0);
        EXPECT_EQ(ended->res, 512);
        ::io_uring_cqe_seen(&kept.get(), ended);
    }).join();
    kept.remove_file(static_cast<unsigned>(slot), true);
    ::close(file);
}

} // namespace
} // namespace gaur::io::uring
