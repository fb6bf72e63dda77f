// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <sys/wait.h>
#include <vector>

namespace gaur::test {

/// A folder for one test, removed in the destructor.
class scratch_folder {
  public:
    explicit scratch_folder(
        const std::filesystem::path& inside = std::filesystem::temp_directory_path()) {
        std::string name = (inside / "gaur.XXXXXX").string();
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

inline void write_file(const std::string& path, std::span<const std::byte> bytes) {
    std::ofstream out(path, std::ios::binary);
    out.write(reinterpret_cast<const char*>(bytes.data()),
              static_cast<std::streamsize>(bytes.size()));
}

/// Runs a command line. `output` receives what it prints, including standard error.
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

/// Runs a command line and expects it to succeed.
inline void expect_runs(const std::string& command) {
    std::string said;
    const int status = run(command, &said);
    EXPECT_EQ(status, 0) << command << "\n" << said;
}

/// The result of `qemu-img check` for an image.
struct qemu_verdict {
    int exit_code = -1; ///< 0: no error, 2: corruptions, 3: leaks
    std::uint64_t corruptions = 0;
    std::uint64_t leaks = 0;
    std::uint64_t check_errors = 0;
    std::uint64_t total_clusters = 0;
    std::uint64_t allocated_clusters = 0;
    std::uint64_t fragmented_clusters = 0;
    std::uint64_t compressed_clusters = 0;
    std::uint64_t image_end_offset = 0;
    std::uint64_t leaks_fixed = 0;
    std::uint64_t corruptions_fixed = 0;
    std::string said;
};

/// `how`: "-r all" or "-r leaks", to repair.
inline qemu_verdict qemu_check(const std::string& path, const std::string& how = {}) {
    qemu_verdict v;
    const int status = run("qemu-img check -f qcow2 --output=json " + how + ' ' + path, &v.said);
    v.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    // qemu-img omits figures that are zero.
    const auto number = [&v](const std::string& key) -> std::uint64_t {
        const std::size_t at = v.said.find('"' + key + "\": ");
        return at == std::string::npos ? 0 : std::stoull(v.said.substr(at + key.size() + 4));
    };
    v.corruptions = number("corruptions");
    v.leaks = number("leaks");
    v.check_errors = number("check-errors");
    v.total_clusters = number("total-clusters");
    v.allocated_clusters = number("allocated-clusters");
    v.fragmented_clusters = number("fragmented-clusters");
    v.compressed_clusters = number("compressed-clusters");
    v.image_end_offset = number("image-end-offset");
    v.leaks_fixed = number("leaks-fixed");
    v.corruptions_fixed = number("corruptions-fixed");
    return v;
}

/// Expects neither a corruption nor a leak.
inline void expect_qemu_finds_nothing(const std::string& path) {
    const qemu_verdict v = qemu_check(path);
    EXPECT_EQ(v.exit_code, 0) << path << "\n" << v.said;
}

/// Expects the guest of `image` to read the bytes of the file `raw`.
inline void expect_qemu_reads(const std::string& image, const std::string& raw,
                              const std::string& format = "qcow2") {
    expect_runs("qemu-img compare -f " + format + " -F raw " + image + ' ' + raw);
}

} // namespace gaur::test

/// For tests whose oracle is QEMU: skips them, with a message, if QEMU is missing.
#define GAUR_NEEDS_QEMU_IMG()                                                                      \
    if (!gaur::test::has_qemu_img()) {                                                             \
        GTEST_SKIP() << "qemu-img is not installed";                                               \
    }                                                                                              \
    static_assert(true)
