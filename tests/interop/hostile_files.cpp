// SPDX-License-Identifier: BSL-1.0
// The program gaur-img over the hostile images of support/hostile_rows.hpp, one of each row: the
// right exit code, no control character on the terminal, no byte of the file changed by reading,
// and writing also ends with an exit code.
#include "support/hostile_rows.hpp"
#include "support/qemu_img.hpp"

#include <gaur/qcow2/layout/parse_header.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <sys/wait.h>
#include <variant>
#include <utility>
#include <vector>

namespace gaur::test::hostile {
namespace {

class hostile_files : public ::testing::Test {
  protected:
    void SetUp() override {
        if (!std::filesystem::exists(program_)) { GTEST_SKIP() << "gaur-img was not built"; }
    }

    /// Exit code; -1 if it was killed, as by a sanitizer or a timeout.
    int ours(const std::string& arguments) {
        said_.clear();
        const int status = run("cd " + folder_.file("") + " && timeout -s KILL 20 " + program_ +
                                   ' ' + arguments,
                               &said_);
        const bool plain = std::ranges::all_of(said_, [](unsigned char c) {
            return c == '\n' || c == '\t' || (c >= ' ' && c != 0x7f);
        });
        EXPECT_TRUE(plain) << "control characters in: " << said_;
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }

    /// `info` reports every image whose header and snapshot table parse, whether or not it can be
    /// opened.
    static int of_info(const variant& v, const std::vector<std::byte>& bytes) {
        const bool table_read = v.expected.reading != errc::snapshot_malformed;
        return qcow2::layout::parse(bytes, bytes.size()) && table_read ? 0 : 1;
    }
    static int of_check(const outcome& expected) {
        const auto* const found = std::get_if<verdict>(&expected.check);
        if (found == nullptr) { return 1; }
        constexpr int codes[] = {0, 3, 2, 1};
        return codes[static_cast<int>(*found)];
    }
    static int of_convert(const outcome& expected) {
        return expected.reading || expected.read ? 1 : 0;
    }

    scratch_folder folder_;
    std::string said_;
    // build/<preset>/tests/test_interop and build/<preset>/examples/gaur-img
    std::string program_ =
        (std::filesystem::read_symlink("/proc/self/exe").parent_path().parent_path() / "examples" /
         "gaur-img")
            .string();
};

TEST_F(hostile_files, are_read_and_never_written) {
    unsigned last = 0;
    for (const variant& v : variants()) {
        if (std::exchange(last, v.row) == v.row) { continue; }
        SCOPED_TRACE(std::to_string(v.row) + ' ' + row_names[v.row] + ", " + v.name);
        crafted_image image(v.made_of);
        files beside;
        v.damage(image, beside);
        for (const auto& [name, bytes] : beside) { write_file(folder_.file(name), bytes); }
        write_file(folder_.file("image"), image.bytes);

        EXPECT_EQ(ours("info -f qcow2 image"), of_info(v, image.bytes)) << said_;
        const int checked = ours("check -f qcow2 image");
        // As with qemu-img, tables that could not be read take precedence over corruptions.
        const bool in_part = said_.find("internal errors have occurred") != std::string::npos;
        EXPECT_EQ(checked, in_part ? 1 : of_check(v.expected)) << said_;
        // Like qemu-img, the command follows the references in the image. And a TiB takes too long.
        const bool follows = v.policy == qcow2::references::refuse && v.row != 25;
        if (follows && image.header().size == image.size() && v.row != 57) {
            EXPECT_EQ(ours("convert -f qcow2 -O raw image raw"), of_convert(v.expected)) << said_;
        }
        EXPECT_TRUE(read_file(folder_.file("image")) == image.bytes) << "it was written to";
    }
    EXPECT_EQ(last, row_count);
}

/// Whatever a write meets, gaur-img ends with an exit code, never by a signal.
TEST_F(hostile_files, are_written_to_with_an_end) {
    const std::vector<std::byte> raw(200'000, std::byte{0x5a});
    write_file(folder_.file("source"), raw);
    unsigned last = 0;
    for (const variant& v : variants()) {
        if (std::exchange(last, v.row) == v.row) { continue; }
        SCOPED_TRACE(std::to_string(v.row) + ' ' + row_names[v.row] + ", " + v.name);
        crafted_image image(v.made_of);
        files beside;
        v.damage(image, beside);
        for (const auto& [name, bytes] : beside) { write_file(folder_.file(name), bytes); }
        for (const std::string& command :
             {std::string("bench -w -c 64 -d 1 -s 4096 -f qcow2 --backend sync image"),
              std::string("bench -w -c 64 -d 16 -s 4096 -f qcow2 --backend threads image"),
              std::string("bench -w -c 64 -d 64 -s 1024 -f qcow2 image"),
              std::string("convert -n -f raw -O qcow2 source image"),
              std::string("check -r leaks -f qcow2 image"),
              std::string("check -r all -f qcow2 image")}) {
            write_file(folder_.file("image"), image.bytes);
            const int code = ours(command);
            EXPECT_TRUE(code >= 0 && code <= 3) << command << ": " << code << ' ' << said_;
        }
    }
    EXPECT_EQ(last, row_count);
}

} // namespace
} // namespace gaur::test::hostile
