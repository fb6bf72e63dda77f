// SPDX-License-Identifier: BSL-1.0
// Each allocation in turn fails: the operation ends with an error, and the process goes on. Over a
// file of the host, since a disk in memory allocates its own content.
#include "support/counting_new.hpp"
#include "support/crafted_image.hpp"
#include "support/qemu_img.hpp"

#include <gaur/async/sync_wait.hpp>
#include <gaur/exec/inline.hpp>
#include <gaur/io/sync.hpp>
#include <gaur/qcow2/check.hpp>
#include <gaur/qcow2/image.hpp>
#include <gaur/qcow2/zlib.hpp>

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>

namespace gaur::test {
namespace {

class no_memory : public ::testing::Test {
  protected:
    /// The path fits into a std::string without an allocation: a caller's own copies are not
    /// tested.
    no_memory() {
        write_file(folder.file("a"), crafted_image().bytes);
        std::filesystem::current_path(folder.file(""));
    }
    ~no_memory() override { std::filesystem::current_path(before); }

    /// Runs `work` once for each of its allocations and makes that allocation fail, until none is
    /// left. `work` returns a result; its error must be ENOMEM or `other`.
    template <class F>
    void fail_each(F work, int other = ENOMEM) {
        for (std::uint64_t nth = 1; nth < 10'000; ++nth) {
            result<void> status;
            bool refused = false;
            {
                const nth_allocation_refused refuse(nth);
                status = work();
                refused = refuse.was_refused();
            }
            if (!refused) {
                EXPECT_TRUE(status) << status.error().message();
                EXPECT_GT(nth, 3U) << "nothing was tried";
                return;
            }
            if (status) { continue; } // the operation does not depend on what failed
            const int why = status.error().host_errno();
            EXPECT_TRUE(why == ENOMEM || why == other) << status.error().message() << nth;
        }
        ADD_FAILURE() << "it never came to its end";
    }
    template <class T>
    result<T> wait(async::task<T> task) {
        return sync_wait(io, loop.get_executor(), std::move(task));
    }
    auto open(bool write = false) {
        qcow2::open_options how;
        how.write = write;
        how.bitmaps = qcow2::bitmaps::invalidate; // crafted images have one
        how.inflate = &qcow2::zlib_inflate;
        return wait(qcow2::open(io, loop.get_executor(), path, how));
    }

    scratch_folder folder;
    io::sync::backend io;
    exec::inline_loop loop;
    const std::string path = "a"; ///< with a snapshot, a bitmap and compressed clusters
    const std::filesystem::path before = std::filesystem::current_path();
};

template <class T>
result<void> without_value(const result<T>& r) {
    if (!r) { return r.error(); }
    return {};
}

TEST_F(no_memory, to_open_for_reading) {
    fail_each([&] { return without_value(open()); });
}

TEST_F(no_memory, to_open_for_writing) {
    fail_each([&] { return without_value(open(true)); });
}

TEST_F(no_memory, to_read_and_to_tell_how_the_disk_is_stored) {
    std::array<std::byte, 8 * 4096> to;
    fail_each([&]() -> result<void> {
        auto disk = open();
        if (!disk) { return disk.error(); }
        auto reading = disk->read({0}, to);
        const result<void> read = sync_wait(reading);
        if (!read) { return read; }
        device::block_walk walk(*disk, {0}, disk->size());
        for (;;) {
            const result<device::block_run> run = wait(walk.next());
            if (!run) { return run.error(); }
            if (run->size == 0) { return {}; }
        }
    });
}

TEST_F(no_memory, to_check) {
    // EFBIG: a count did not fit into the available memory.
    fail_each([&] { return without_value(wait(qcow2::check(io, loop.get_executor(), path))); },
              EFBIG);
}

} // namespace
} // namespace gaur::test
