// SPDX-License-Identifier: BSL-1.0
// Processes that end without closing the image, one after another, over real files: what they have
// preallocated does not accumulate, and a clean close or a repair frees it.
#include "support/interop.hpp"

#include <gaur/io/threads.hpp>
#include <gaur/qcow2/repair.hpp>

#include <gtest/gtest.h>

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace gaur::test {
namespace {

using backend = io::threads::backend;
constexpr std::uint64_t mib = 1 << 20;

class unclean_ends : public ::testing::Test {
  protected:
    static constexpr std::uint64_t size = 4 * mib;

    void SetUp() override {
        const std::unique_ptr<backend> io = *backend::make();
        driver<backend> disks(*io);
        ASSERT_TRUE(disks.create(path, {.size = size}));
    }
    /// Allocated space on the host, in bytes.
    std::uint64_t allocated() const {
        struct stat status {};
        EXPECT_EQ(::stat(path.c_str(), &status), 0);
        return static_cast<std::uint64_t>(status.st_blocks) * 512;
    }
    std::uint64_t length() const { return std::filesystem::file_size(path); }
    std::uint64_t in_use() const {
        const std::unique_ptr<backend> io = *backend::make();
        driver<backend> disks(*io);
        const auto found = disks.check(path);
        EXPECT_TRUE(found);
        EXPECT_EQ(found->corruptions + found->check_errors, 0U);
        return found->image_end_offset;
    }

    /// A process that writes the whole disk and ends without a close, with requests in flight or
    /// not.
    void end_uncleanly(std::uint32_t round, bool flushes) {
        const pid_t pid = ::fork();
        if (pid == 0) {
            const std::unique_ptr<backend> io = *backend::make();
            driver<backend> disks(*io);
            auto disk = disks.open(path, {.write = true});
            bool well = disk.has_value();
            well = well && disks.write(*disk, load::whole(round, size, 1 << 16), 16);
            if (well && flushes) { well = disks.write(*disk, {round, {{}}}, 1).has_value(); }
            ::_exit(well ? 0 : 1);
        }
        int status = 0;
        ASSERT_EQ(::waitpid(pid, &status, 0), pid);
        EXPECT_EQ(status, 0);
    }
    void close_cleanly() {
        const std::unique_ptr<backend> io = *backend::make();
        driver<backend> disks(*io);
        ASSERT_TRUE(disks.write(path, {99, {{0, 4096}}}, 1));
    }

    const scratch_folder folder;
    const std::string path = folder.file("i");
};

TEST_F(unclean_ends, do_not_add_up) {
    for (std::uint32_t round = 1; round <= 6; ++round) {
        end_uncleanly(round, round % 2 == 0);
        // The 4 MiB that a writer without a flush has taken are not counted; one window.
        EXPECT_LE(allocated(), in_use() + size + 64 * mib + mib) << round;
    }
    close_cleanly();
    EXPECT_LE(allocated(), in_use() + mib);
    EXPECT_EQ(length(), in_use());
}

TEST_F(unclean_ends, are_given_back_by_a_repair) {
    for (std::uint32_t round = 1; round <= 3; ++round) { end_uncleanly(round, round == 2); }
    EXPECT_GT(length(), 32 * mib);
    const std::unique_ptr<backend> io = *backend::make();
    driver<backend> disks(*io);
    const auto repaired = disks.wait(qcow2::repair(*io, disks.get_executor(), path,
                                                   {.scope = qcow2::repair_scope::leaks}));
    ASSERT_TRUE(repaired) << repaired.error().message();
    EXPECT_EQ(length(), in_use());
    EXPECT_LE(length(), size + mib);
    if (has_qemu_img()) { expect_qemu_finds_nothing(path); }
}

/// QEMU does not truncate the file: clusters at the end that deleting a snapshot in QEMU has freed
/// are cut off by gaur's next close.
TEST_F(unclean_ends, what_qemu_has_freed_is_cut_off_too) {
    GAUR_NEEDS_QEMU_IMG();
    expect_runs("qemu-io -f qcow2 -c 'write -P 1 0 1M' " + path);
    expect_runs("qemu-img snapshot -c s " + path);
    expect_runs("qemu-io -f qcow2 -c 'write -P 2 0 1M' -c 'write -P 3 2M 1M' -c 'discard 2M 1M' " +
                path);
    expect_runs("qemu-img snapshot -d s " + path);
    const std::uint64_t before = length();
    close_cleanly();
    EXPECT_LE(length(), before);
    EXPECT_EQ(length(), in_use());
    expect_qemu_finds_nothing(path);
}

} // namespace
} // namespace gaur::test
