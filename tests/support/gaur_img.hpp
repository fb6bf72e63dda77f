// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "support/qemu_img.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <ostream>
#include <sstream>
#include <string>
#include <sys/stat.h>
#include <sys/wait.h>
#include <vector>

namespace gaur::test {

/// The output of a program, and its exit code.
struct said {
    int exit_code = -1;
    std::string text; // standard output and error
    friend bool operator==(const said&, const said&) = default;
    friend std::ostream& operator<<(std::ostream& to, const said& s) {
        return to << "exit code " << s.exit_code << ":\n" << s.text;
    }
};

/// With sorted lines: JSON objects have no order.
inline said sorted(said s) {
    std::vector<std::string> lines;
    std::istringstream from(s.text);
    for (std::string line; std::getline(from, line);) {
        if (line.ends_with(',')) { line.pop_back(); }
        lines.push_back(line);
    }
    std::ranges::sort(lines);
    s.text.clear();
    for (const std::string& line : lines) { s.text += line + '\n'; }
    return s;
}

inline std::string last_line(const std::string& text) {
    const std::size_t end = text.find_last_not_of('\n') + 1;
    const std::size_t before = text.find_last_of('\n', end - 1);
    return text.substr(before + 1, end - before - 1);
}

/// Both programs, in a folder of the test's own.
class gaur_img : public ::testing::Test {
  protected:
    void SetUp() override {
        GAUR_NEEDS_QEMU_IMG();
        if (!std::filesystem::exists(program_)) { GTEST_SKIP() << "gaur-img was not built"; }
    }

    said shell(const std::string& command) const {
        std::string text;
        const int status = run("cd " + folder_.file("") + " && { " + command + "; }", &text);
        return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, text};
    }
    const std::string& program() const { return program_; }
    said ours(const std::string& arguments) const { return shell(program_ + " " + arguments); }
    /// With our program name in its output, so that both outputs can be compared.
    said qemu(const std::string& arguments) const {
        said s = shell("qemu-img " + arguments);
        for (std::size_t at = 0; (at = s.text.find("qemu-img:", at)) != std::string::npos;) {
            s.text.replace(at, 4, "gaur");
        }
        return s;
    }
    void prepare(const std::string& command) const {
        const said s = shell(command);
        ASSERT_EQ(s.exit_code, 0) << command << '\n' << s.text;
    }
    /// Data, a large hole, zeroes that are stored as data, and half a cluster at the end.
    void make_raw(const std::string& name) const {
        prepare("head -c 3333333 /dev/urandom > " + name + " && truncate -s 40M " + name +
                " && head -c 1M /dev/zero >> " + name + " && head -c 98304 /dev/urandom >> " +
                name);
    }
    std::string file(const std::string& name) const { return folder_.file(name); }
    std::uint64_t disk_bytes(const std::string& name) const {
        struct stat status {};
        EXPECT_EQ(::stat(folder_.file(name).c_str(), &status), 0);
        return static_cast<std::uint64_t>(status.st_blocks) * 512;
    }

  private:
    scratch_folder folder_;
    // build/<preset>/tests/test_interop and build/<preset>/examples/gaur-img
    std::string program_ =
        (std::filesystem::read_symlink("/proc/self/exe").parent_path().parent_path() / "examples" /
         "gaur-img")
            .string();
};

} // namespace gaur::test
