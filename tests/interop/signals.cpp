// SPDX-License-Identifier: BSL-1.0
// The effect of signals, closed descriptors and closed pipes on a command of gaur-img.
#include "support/gaur_img.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <poll.h>
#include <spawn.h>
#include <string>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace {

using gaur::test::said;

/// A command that blocks as soon as it has shown its first progress: its standard output is a pipe
/// with room for that line, and for few more.
class held_command {
  public:
    held_command(const std::string& command, const std::string& folder) {
        if (::pipe2(out_.data(), O_CLOEXEC) != 0 || ::pipe2(error_.data(), O_CLOEXEC) != 0) {
            std::abort();
        }
        const int size = ::fcntl(out_[1], F_SETPIPE_SZ, 4096);
        filled_ = static_cast<std::size_t>(size) - 40;
        const std::string filler(filled_, '.');
        if (::write(out_[1], filler.data(), filled_) != static_cast<ssize_t>(filled_)) {
            std::abort();
        }
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, out_[1], STDOUT_FILENO);
        posix_spawn_file_actions_adddup2(&actions, error_[1], STDERR_FILENO);
        const std::string line = "cd " + folder + " && exec " + command;
        const char* const words[] = {"sh", "-c", line.c_str(), nullptr};
        const int failed = ::posix_spawn(&pid_, "/bin/sh", &actions, nullptr,
                                         const_cast<char* const*>(words), environ);
        posix_spawn_file_actions_destroy(&actions);
        ::close(out_[1]);
        ::close(error_[1]);
        if (failed != 0) { std::abort(); }
    }
    held_command(const held_command&) = delete;
    held_command& operator=(const held_command&) = delete;
    ~held_command() {
        if (pid_ > 0) {
            ::kill(pid_, SIGKILL);
            end();
        }
        ::close(error_[0]);
    }

    /// Waits until the first line is there, so the command is at work. False if it ends before.
    bool wait_until_begun() const {
        int there = 0;
        while (::ioctl(out_[0], FIONREAD, &there) == 0) {
            if (static_cast<std::size_t>(there) > filled_) { return true; }
            siginfo_t ended{};
            ::waitid(P_PID, static_cast<id_t>(pid_), &ended, WEXITED | WNOHANG | WNOWAIT);
            if (ended.si_pid == pid_) { break; }
            std::this_thread::yield();
        }
        return false;
    }
    void send(int signal) const { ::kill(pid_, signal); }
    /// A line of its standard error, or what has arrived after ten seconds.
    std::string error_line() const {
        std::string line;
        pollfd in{error_[0], POLLIN, 0};
        char c = 0;
        while (c != '\n' && ::poll(&in, 1, 10'000) == 1 && ::read(error_[0], &c, 1) == 1) {
            line += c;
        }
        return line;
    }
    /// Closes the read end of its standard output.
    void break_pipe() { close_out(); }
    /// Lets it run to its end. Returns the status of waitpid(2).
    int end() {
        std::array<char, 4096> bytes;
        while (out_[0] >= 0 && ::read(out_[0], bytes.data(), bytes.size()) > 0) {}
        close_out();
        int status = 0;
        while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {}
        pid_ = -1;
        return status;
    }

  private:
    void close_out() {
        if (out_[0] >= 0) { ::close(out_[0]); }
        out_[0] = -1;
    }

    std::array<int, 2> out_{};
    std::array<int, 2> error_{};
    std::size_t filled_ = 0;
    pid_t pid_ = -1;
};

class signals : public gaur::test::gaur_img {
  protected:
    void SetUp() override {
        gaur_img::SetUp();
        if (IsSkipped()) { return; }
        // More pieces than lines that fit into the pipe.
        prepare("head -c 64M /dev/urandom > r.raw");
    }
    held_command hold(const std::string& arguments) const {
        return held_command(program() + ' ' + arguments, file(""));
    }
    void expect_whole(const std::string& target) const {
        prepare("qemu-img compare -f raw r.raw " + target);
    }
    bool exists(const std::string& name) const { return std::filesystem::exists(file(name)); }
};

bool is_progress(const std::string& line) {
    return line.starts_with("    (") && line.ends_with("/100%)\n");
}

TEST_F(signals, usr1_prints_how_far_it_is_and_it_goes_on) {
    for (const std::string backend : {"uring", "posix_aio", "sync", "threads"}) {
        SCOPED_TRACE(backend);
        if (ours("info --backend " + backend + " r.raw").exit_code != 0) { continue; } // missing
        const std::string target = backend + ".q";
        held_command c = hold("convert -p --backend " + backend + " -O qcow2 r.raw " + target);
        ASSERT_TRUE(c.wait_until_begun());
        for (int i = 0; i < 3; ++i) {
            c.send(SIGUSR1);
            const std::string line = c.error_line();
            EXPECT_TRUE(is_progress(line)) << line;
        }
        EXPECT_EQ(c.end(), 0);
        expect_whole(target);
    }
}

TEST_F(signals, usr1_works_for_every_command_that_takes_long) {
    // At least two L2 tables for each hundredth part of a check.
    prepare("qemu-img convert -O qcow2 -o cluster_size=512 r.raw small.q");
    for (const std::string arguments :
         {"compare -p -f raw -F qcow2 r.raw small.q", "check -p small.q"}) {
        SCOPED_TRACE(arguments);
        held_command c = hold(arguments);
        ASSERT_TRUE(c.wait_until_begun());
        c.send(SIGUSR1);
        const std::string line = c.error_line();
        EXPECT_TRUE(is_progress(line)) << line;
        EXPECT_EQ(c.end(), 0);
    }
}

/// Ignored until the program has a handler, so that the signal does not end it.
TEST_F(signals, usr1_prints_how_far_a_bench_is) {
    struct sigaction ignore {};
    struct sigaction before {};
    ignore.sa_handler = SIG_IGN;
    ::sigaction(SIGUSR1, &ignore, &before);
    const held_command c = hold("bench -c 1000000000 -f raw r.raw");
    ::sigaction(SIGUSR1, &before, nullptr);
    std::string line;
    std::atomic<bool> has_read{false};
    std::thread reader([&] {
        line = c.error_line();
        has_read = true;
    });
    while (!has_read) {
        c.send(SIGUSR1);
        std::this_thread::yield();
    }
    reader.join();
    EXPECT_TRUE(is_progress(line)) << line;
}

TEST_F(signals, a_closed_pipe_does_not_end_a_conversion) {
    held_command c = hold("convert -p -O qcow2 r.raw t.q");
    ASSERT_TRUE(c.wait_until_begun());
    c.break_pipe();
    EXPECT_EQ(c.end(), 0);
    expect_whole("t.q");
}

TEST_F(signals, a_signal_that_ends_it_leaves_no_target) {
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
        for (const std::string format : {"raw", "qcow2"}) {
            for (const std::string backend : {"sync", "threads"}) {
                SCOPED_TRACE(std::to_string(number) + ' ' + format + ' ' + backend);
                held_command c =
                    hold("convert -p --backend " + backend + " -O " + format + " r.raw t");
                ASSERT_TRUE(c.wait_until_begun());
                ASSERT_TRUE(exists("t"));
                c.send(number);
                const int status = c.end();
                EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == number) << status;
                const std::string said = c.error_line() + c.error_line();
                EXPECT_NE(said.find("'t' was removed"), said.npos) << said;
                EXPECT_FALSE(exists("t"));
            }
        }
    }
}

TEST_F(signals, a_file_that_was_replaced_in_part_is_left_empty) {
    for (const std::string format : {"raw", "qcow2"}) {
        SCOPED_TRACE(format);
        const std::string target = "t." + format;
        prepare("qemu-img create -q -f qcow2 " + target + " 64M && chmod 600 " + target);
        held_command c = hold("convert -p -O " + format + " r.raw " + target);
        ASSERT_TRUE(c.wait_until_begun());
        c.send(SIGTERM);
        const int status = c.end();
        EXPECT_TRUE(WIFSIGNALED(status)) << status;
        EXPECT_EQ(shell("stat -c '%s %a' " + target).text, "0 600\n");
    }
}

TEST_F(signals, an_image_that_was_there_stays_one) {
    prepare("qemu-img create -q -f qcow2 t 64M");
    held_command c = hold("convert -p -n -O qcow2 r.raw t");
    ASSERT_TRUE(c.wait_until_begun());
    c.send(SIGTERM);
    const int status = c.end();
    EXPECT_TRUE(WIFSIGNALED(status)) << status;
    const std::string said = c.error_line();
    EXPECT_NE(said.find("has a part of the data only"), said.npos) << said;
    // Leaks at most.
    EXPECT_NE(shell("qemu-img check t").exit_code, 2);
}

/// As in a background job of a shell, or under nohup.
TEST_F(signals, what_was_ignored_stays_ignored) {
    struct sigaction ignore {};
    struct sigaction before {};
    ignore.sa_handler = SIG_IGN;
    ::sigaction(SIGINT, &ignore, &before);
    held_command c = hold("convert -p -O raw r.raw t");
    ::sigaction(SIGINT, &before, nullptr);
    ASSERT_TRUE(c.wait_until_begun());
    c.send(SIGINT);
    EXPECT_EQ(c.end(), 0);
    expect_whole("t");
}

TEST_F(signals, a_closed_standard_descriptor_becomes_no_image) {
    // A qcow2 source over `sync` opens one descriptor, so the target would become the next.
    prepare("head -c 3M /dev/urandom > s.raw && qemu-img convert -O qcow2 s.raw s.q");
    for (const std::string closed :
         {"<&- >&-", "<&- >&- 2>&-", ">&- 2>&-", "2>&-", ">&-", "<&-", "<&- 2>&-"}) {
        for (const std::string format : {"raw", "qcow2"}) {
            SCOPED_TRACE(closed + ' ' + format);
            // Progress goes to descriptor 1; errors and the output for SIGUSR1 go to 2.
            for (const std::string source : {"s.raw", "s.q"}) {
                prepare(program() + " convert --backend sync -p -O " + format + ' ' + source +
                        " t " + closed);
                prepare("qemu-img compare -f raw -F " + format + " s.raw t");
            }
        }
    }
}

} // namespace
