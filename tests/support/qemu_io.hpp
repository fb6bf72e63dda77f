// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "support/qemu_img.hpp"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <spawn.h>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>
#include <vector>

namespace gaur::test {

/// A qemu-io process that keeps an image open until it ends.
class qemu_io {
  public:
    /// `arguments` as on its command line: "-r -f qcow2 path". Returns when qemu-io has opened the
    /// image, or has failed to.
    explicit qemu_io(const std::string& arguments) {
        int in[2];
        int out[2];
        // Not inherited by other child processes, which would keep them open.
        if (::pipe2(in, O_CLOEXEC) != 0 || ::pipe2(out, O_CLOEXEC) != 0) { std::abort(); }
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
        posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
        posix_spawn_file_actions_adddup2(&actions, out[1], STDERR_FILENO);
        const std::string command = "exec qemu-io " + arguments;
        const char* const words[] = {"sh", "-c", command.c_str(), nullptr};
        const int failed = ::posix_spawn(&pid_, "/bin/sh", &actions, nullptr,
                                         const_cast<char* const*>(words), environ);
        posix_spawn_file_actions_destroy(&actions);
        ::close(in[0]);
        ::close(out[1]);
        if (failed != 0) { std::abort(); }
        commands_ = in[1];
        answers_ = out[0];
        // It answers a command only once the image is open. If the open fails, the pipe breaks.
        is_open_ = ask("length").find("iB\n") != std::string::npos;
    }
    qemu_io(const qemu_io&) = delete;
    qemu_io& operator=(const qemu_io&) = delete;
    ~qemu_io() { close(); }

    bool is_open() const noexcept { return is_open_; }
    /// All of its output so far.
    const std::string& said() const noexcept { return said_; }

    /// Sends one command. Returns its answer, to the end of the line.
    std::string ask(const std::string& command) {
        const std::string line = command + '\n';
        auto* const before = std::signal(SIGPIPE, SIG_IGN);
        const bool sent = ::write(commands_, line.data(), line.size()) ==
                          static_cast<ssize_t>(line.size());
        std::signal(SIGPIPE, before);
        std::string answer;
        for (char c = 0; c != '\n' && ::read(answers_, &c, 1) == 1;) { answer += c; }
        said_ += answer;
        return sent ? answer : "";
    }

    /// Makes it close the image and end.
    void close() {
        if (pid_ < 0) { return; }
        ::close(commands_);
        int status = 0;
        while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {}
        ::close(answers_);
        pid_ = -1;
        is_open_ = false;
    }

  private:
    pid_t pid_ = -1;
    int commands_ = -1;
    int answers_ = -1;
    bool is_open_ = false;
    std::string said_;
};

/// Why QEMU refuses to open an image with these arguments; empty if it opens it.
inline std::string qemu_refusal(const std::string& arguments) {
    const qemu_io it(arguments);
    return it.is_open() ? "" : it.said();
}

} // namespace gaur::test
