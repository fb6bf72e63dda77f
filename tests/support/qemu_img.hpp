// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <vector>

namespace gaur::test {

/// A folder of one test's own, gone with it.
class scratch_folder {
  public:
    scratch_folder() {
        std::string name = (std::filesystem::temp_directory_path() / "gaur.XXXXXX").string();
        if (::mkdtemp(name.data()) == nullptr) { std::abort(); }
        path_ = name;
    }
    scratch_folder(const scratch_folder&) = delete;
    scratch_folder& operator=(const scratch_folder&) = delete;
    ~scratch_folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }

    std::string file(const std::string& name) const { return (path_ / name).string(); }

  private:
    std::filesystem::path path_;
};

inline std::vector<std::byte> read_file(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    const auto bytes = std::as_bytes(std::span(text));
    return {bytes.begin(), bytes.end()};
}

/// Runs a command line; what it prints, standard error too, lands in `output`.
inline int run(const std::string& command, std::string* output = nullptr) {
    const scratch_folder folder;
    const std::string log = folder.file("log");
    const int status = std::system((command + " >" + log + " 2>&1").c_str());
    if (output != nullptr) {
        const auto bytes = read_file(log);
        output->assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    }
    return status;
}

inline bool has_qemu_img() {
    static const bool found = run("qemu-img --version") == 0;
    return found;
}

} // namespace gaur::test

/// For the tests whose oracle is QEMU: without it they are skipped, and say so.
#define GAUR_NEEDS_QEMU_IMG()                                                                      \
    if (!gaur::test::has_qemu_img()) { GTEST_SKIP() << "qemu-img is not installed"; }              \
    static_assert(true)
