// SPDX-License-Identifier: BSL-1.0
// One file, several programs: gaur does not open what QEMU holds, and the other way round. Each of
// the other programs is a running qemu-io or qemu-nbd, not an imitation of their locks.
#include "support/interop.hpp"
#include "support/qemu_io.hpp"

#include <gaur/qcow2/create.hpp>
#include <gaur/raw/image.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <memory>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

namespace gaur::test {
namespace {

using io::locking;

template <class B>
class locks : public ::testing::Test {
  protected:
    using image = typename driver<B>::image;

    void SetUp() override {
        GAUR_NEEDS_QEMU_IMG();
        auto made = B::make();
        if (!made && is_forbidden(made.error())) {
            GTEST_SKIP() << B::name << ": " << made.error().message();
        }
        ASSERT_TRUE(made) << made.error().message();
        io_ = *std::move(made);
        b = std::make_unique<bench<B>>(*io_);
        path = b->path("i.qcow2");
        ASSERT_TRUE(b->disks.create(path, {.size = 1 << 20}));
        qcow2 = "-f qcow2 " + path;
    }

    /// Why gaur does not open it; empty if it does.
    template <class T>
    static std::string why(const result<T>& r) {
        return r ? "" : r.error().message();
    }
    static std::string text(errc code) { return error(code).message(); }
    std::string ours(const std::string& at, qcow2::open_options how) {
        return why(b->disks.open(at, std::move(how)));
    }
    result<image> open(const std::string& at, qcow2::open_options how) {
        return b->disks.open(at, std::move(how));
    }
    std::string ours_raw(raw::open_options how) {
        return why(b->disks.wait(raw::open(*io_, b->disks.get_executor(), b->path("raw"), how)));
    }
    void expect_qemu_refuses(const std::string& arguments) {
        const std::string said = qemu_refusal(arguments);
        EXPECT_NE(said.find("Failed to get"), std::string::npos) << arguments << ": " << said;
    }
    void expect_qemu_opens(const std::string& arguments) {
        EXPECT_EQ(qemu_refusal(arguments), "") << arguments;
    }

    std::unique_ptr<B> io_;
    std::unique_ptr<bench<B>> b;
    std::string path;
    std::string qcow2; // the arguments for qemu-io
};
TYPED_TEST_SUITE(locks, host_backends, backend_names);

TYPED_TEST(locks, a_writer_of_theirs_holds_us_off) {
    const std::string held = this->text(errc::held_for_writing);
    qemu_io theirs(this->qcow2);
    ASSERT_TRUE(theirs.is_open()) << theirs.said();
    EXPECT_EQ(this->ours(this->path, {.write = true}), held);
    EXPECT_EQ(this->ours(this->path, {}), held);
    EXPECT_EQ(this->why(this->b->disks.check(this->path)), held);
    const auto before = read_file(this->path);
    EXPECT_EQ(this->why(this->b->disks.create(this->path, {.size = 512})), held);
    EXPECT_EQ(read_file(this->path), before);
    EXPECT_EQ(this->ours(this->path, {.locking = locking::force_share}), "");
    EXPECT_EQ(this->ours(this->path, {.locking = locking::off}), "");
    theirs.close();
    EXPECT_EQ(this->ours(this->path, {.write = true}), "");
}

TYPED_TEST(locks, readers_share) {
    const qemu_io theirs("-r " + this->qcow2);
    ASSERT_TRUE(theirs.is_open()) << theirs.said();
    EXPECT_EQ(this->ours(this->path, {.write = true}), this->text(errc::writers_excluded));
    const auto reader = this->open(this->path, {});
    ASSERT_TRUE(reader);
    this->expect_qemu_opens("-r " + this->qcow2);
}

TYPED_TEST(locks, a_writer_of_ours_holds_them_off) {
    auto disk = this->open(this->path, {.write = true});
    ASSERT_TRUE(disk);
    // Many at a time, so that a pool of descriptors is in use: they count as one holder.
    const load some = load::random(1, 1 << 20, 50, 65536);
    ASSERT_TRUE(this->b->disks.write(*disk, some, 24));
    this->expect_qemu_refuses(this->qcow2);
    this->expect_qemu_refuses("-r " + this->qcow2);
    this->expect_qemu_opens("-r -U " + this->qcow2);
    const auto size = read_file(this->path).size();
    EXPECT_NE(run("qemu-img create -q -f qcow2 " + this->path + " 1M"), 0);
    EXPECT_EQ(read_file(this->path).size(), size);
    ASSERT_TRUE(this->b->disks.wait(disk->close()));
    this->expect_qemu_opens(this->qcow2);
    std::vector<std::byte> twin(1 << 20);
    some.apply(twin);
    this->b->expect_holds(this->path, twin);
}

TYPED_TEST(locks, a_reader_of_ours_holds_off_writers) {
    auto disk = this->open(this->path, {});
    ASSERT_TRUE(disk);
    this->expect_qemu_refuses(this->qcow2);
    this->expect_qemu_opens("-r " + this->qcow2);
    ASSERT_TRUE(this->b->disks.wait(disk->close()));
    this->expect_qemu_opens(this->qcow2);

    const auto forced = this->open(this->path, {.locking = locking::force_share});
    ASSERT_TRUE(forced);
    this->expect_qemu_opens(this->qcow2);
}

TYPED_TEST(locks, backing_files_too) {
    const std::string top = this->b->path("top");
    const std::string twin = this->b->path("twin");
    for (const std::string& over : {top, twin}) {
        ASSERT_TRUE(this->b->disks.create(
            over, {.size = 4096, .backing_file = this->path, .backing_format = "qcow2"}));
    }
    {
        const qemu_io theirs("-f qcow2 " + top);
        ASSERT_TRUE(theirs.is_open()) << theirs.said();
        EXPECT_EQ(this->ours(twin, {.write = true}), "") << "over the same file";
        EXPECT_EQ(this->ours(this->path, {.write = true}), this->text(errc::writers_excluded));
    }
    const auto ours = this->open(top, {.write = true});
    ASSERT_TRUE(ours);
    this->expect_qemu_opens("-f qcow2 " + twin);
    this->expect_qemu_refuses(this->qcow2);
}

/// A process writes to a backing file: the image must not be opened.
TYPED_TEST(locks, a_backing_file_that_is_written_to) {
    const std::string top = this->b->path("top");
    ASSERT_TRUE(this->b->disks.create(
        top, {.size = 4096, .backing_file = this->path, .backing_format = "qcow2"}));
    {
        const qemu_io theirs(this->qcow2);
        ASSERT_TRUE(theirs.is_open()) << theirs.said();
        std::string failed;
        EXPECT_EQ(this->ours(top, {.write = true, .failed_path = &failed}),
                  this->text(errc::held_for_writing));
        EXPECT_EQ(failed, this->path);
        EXPECT_EQ(this->ours(top, {.locking = locking::force_share}), "");
    }
    const auto ours = this->open(this->path, {.write = true});
    ASSERT_TRUE(ours);
    this->expect_qemu_refuses("-f qcow2 " + top);
}

/// gaur's locks are as strict as those of a guest's disk. QEMU's tools let other programs write to
/// a raw file.
TYPED_TEST(locks, raw_files) {
    const std::string raw = "-f raw " + this->b->path("raw");
    write_file(this->b->path("raw"), std::vector<std::byte>(1 << 20));
    {
        const qemu_io theirs(raw);
        ASSERT_TRUE(theirs.is_open()) << theirs.said();
        EXPECT_EQ(this->ours_raw({.write = true}), this->text(errc::held_for_writing));
        EXPECT_EQ(this->ours_raw({}), this->text(errc::held_for_writing));
        EXPECT_EQ(this->ours_raw({.locking = locking::force_share}), "");
    }
    {
        const qemu_io theirs("-r " + raw);
        ASSERT_TRUE(theirs.is_open()) << theirs.said();
        EXPECT_EQ(this->ours_raw({.write = true}), "") << "a reader of QEMU's tools bears it";
    }
    auto& disks = this->b->disks;
    auto ours = disks.wait(raw::open(*this->io_, disks.get_executor(), this->b->path("raw"),
                                     {.write = true}));
    ASSERT_TRUE(ours);
    this->expect_qemu_refuses(raw);
    this->expect_qemu_opens("-r " + raw);
    ASSERT_TRUE(disks.wait(ours->close()));
    this->expect_qemu_opens(raw);
}

TYPED_TEST(locks, a_server_of_theirs) {
    if (run("qemu-nbd --version") != 0) { GTEST_SKIP() << "qemu-nbd is not installed"; }
    const std::string pid_file = this->b->path("pid");
    const std::string serve = "qemu-nbd --fork --persistent --pid-file=" + pid_file +
                              " --socket=" + this->b->path("socket") + ' ';
    const auto end_server = [&] {
        const auto bytes = read_file(pid_file);
        const std::string number(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        ::kill(std::stoi(number), SIGTERM);
        // It is not a child of this process, so it cannot be waited for. Waits until its locks are
        // gone.
        const auto late = std::chrono::steady_clock::now() + std::chrono::seconds(60);
        while (this->ours(this->path, {.write = true}) != "") {
            ASSERT_LT(std::chrono::steady_clock::now(), late);
            std::this_thread::yield();
        }
        ::unlink(pid_file.c_str());
    };
    ASSERT_EQ(run(serve + this->qcow2), 0);
    EXPECT_EQ(this->ours(this->path, {}), this->text(errc::held_for_writing));
    end_server();
    ASSERT_EQ(run(serve + "--read-only " + this->qcow2), 0);
    EXPECT_EQ(this->ours(this->path, {.write = true}), this->text(errc::writers_excluded));
    EXPECT_EQ(this->ours(this->path, {}), "");
    end_server();
    auto ours = this->open(this->path, {});
    ASSERT_TRUE(ours);
    EXPECT_NE(run(serve + this->qcow2), 0);
}

/// Another gaur process. If it is killed, it leaves no lock behind.
TYPED_TEST(locks, a_process_of_ours) {
    int ready[2];
    ASSERT_EQ(::pipe(ready), 0);
    const pid_t pid = ::fork();
    if (pid == 0) {
        io::sync::backend io;
        driver<io::sync::backend> disks(io);
        const auto disk = disks.open(this->path, {.write = true});
        const char answer = disk ? 'y' : 'n';
        if (::write(ready[1], &answer, 1) == 1) { ::pause(); }
        ::_exit(1);
    }
    ::close(ready[1]);
    char answer = 0;
    EXPECT_EQ(::read(ready[0], &answer, 1), 1);
    ::close(ready[0]);
    EXPECT_EQ(answer, 'y');
    EXPECT_EQ(this->ours(this->path, {.write = true}), this->text(errc::held_for_writing));
    this->expect_qemu_refuses(this->qcow2);
    ::kill(pid, SIGKILL);
    ASSERT_EQ(::waitpid(pid, nullptr, 0), pid);
    EXPECT_EQ(this->ours(this->path, {.write = true}), "");
}

/// Two images in one process exclude each other like two processes.
TYPED_TEST(locks, our_own_exclude_each_other) {
    {
        const auto writer = this->open(this->path, {.write = true});
        ASSERT_TRUE(writer);
        EXPECT_EQ(this->ours(this->path, {.write = true}), this->text(errc::held_for_writing));
        EXPECT_EQ(this->ours(this->path, {}), this->text(errc::held_for_writing));
    }
    const auto reader = this->open(this->path, {});
    ASSERT_TRUE(reader);
    EXPECT_EQ(this->ours(this->path, {}), "");
    EXPECT_EQ(this->ours(this->path, {.write = true}), this->text(errc::writers_excluded));
}

} // namespace
} // namespace gaur::test
