// SPDX-License-Identifier: BSL-1.0
#include <gaur/io/system_call.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace gaur::io {
namespace {

constexpr limits no_limits{};
constexpr limits direct_limits{512, 4096, 4};

/// A file without a name, open for reading and writing.
class scratch_file {
  public:
    explicit scratch_file(const char* folder = ".") {
        std::string path = std::string(folder) + "/system_call.XXXXXX";
        fd_ = ::mkstemp(path.data());
        EXPECT_GE(fd_, 0);
        ::unlink(path.c_str());
    }
    scratch_file(const scratch_file&) = delete;
    scratch_file& operator=(const scratch_file&) = delete;
    ~scratch_file() { ::close(fd_); }

    int fd() const { return fd_; }
    int run(request what, const limits& asks = no_limits) { return run_request(fd_, asks, what); }
    struct stat status() const {
        struct stat found {};
        EXPECT_EQ(::fstat(fd_, &found), 0);
        return found;
    }
    std::string content() {
        std::string bytes(static_cast<std::size_t>(status().st_size), '?');
        EXPECT_EQ(run(request::read(0, std::as_writable_bytes(std::span(bytes)))), 0);
        return bytes;
    }
    void set_content(const std::string& bytes) {
        EXPECT_EQ(run(request::truncate(0)), 0);
        EXPECT_EQ(run(request::write(0, std::as_bytes(std::span(bytes)))), 0);
    }

  private:
    int fd_;
};

TEST(check_request, takes_offsets_up_to_the_host_s_last_one) {
    constexpr std::uint64_t last = (std::uint64_t{1} << 63) - 1;
    const auto check = [](std::uint64_t offset, std::uint64_t size) {
        return check_request(no_limits, request::range(opcode::extend, offset, size));
    };
    EXPECT_EQ(check(last - 10, 10), 0);
    EXPECT_EQ(check(last - 10, 11), EINVAL);
    EXPECT_EQ(check(last + 1, 0), EINVAL);
    EXPECT_EQ(check(~std::uint64_t{0}, 2), EINVAL);
    EXPECT_EQ(check_request(no_limits, request::truncate(last)), 0);
    EXPECT_EQ(check_request(no_limits, request::truncate(last + 1)), EINVAL);
}

TEST(check_request, asks_reads_and_writes_for_alignment) {
    alignas(4096) std::array<std::byte, 8192> memory{};
    const auto check = [&](std::size_t from, std::uint64_t offset, std::size_t size) {
        const auto part = std::span(memory).subspan(from, size);
        const int reading = check_request(direct_limits, request::read(offset, part));
        EXPECT_EQ(check_request(direct_limits, request::write(offset, part)), reading);
        iovec vector{part.data(), part.size()};
        const request vectored = request::read(offset, std::span(&vector, 1), size);
        EXPECT_EQ(check_request(direct_limits, vectored), reading);
        EXPECT_EQ(check_request(no_limits, vectored), 0);
        return reading;
    };
    EXPECT_EQ(check(0, 4096, 4096), 0);
    EXPECT_EQ(check(512, 4096, 4096), 0);
    EXPECT_EQ(check(256, 4096, 4096), EINVAL) << "memory";
    EXPECT_EQ(check(0, 512, 4096), EINVAL) << "offset";
    EXPECT_EQ(check(0, 4096, 512), EINVAL) << "size";
    EXPECT_EQ(check_request(direct_limits, request::range(opcode::zero, 1, 1)), 0);
    EXPECT_EQ(check_request(direct_limits, request::truncate(1)), 0);
    EXPECT_EQ(check_request(direct_limits, request::flush()), 0);

    // Each part of a vector must be aligned, and the vector must not be too long.
    std::array<iovec, 2> uneven = {iovec{memory.data(), 1024}, iovec{memory.data() + 1024, 3072}};
    EXPECT_EQ(check_request(direct_limits, request::read(0, std::span(uneven), 4096)), EINVAL);
    std::array<iovec, 5> many{};
    EXPECT_EQ(check_request(direct_limits, request::read(0, std::span(many), 0)), EINVAL);
    EXPECT_EQ(check_request(direct_limits, request::read(0, std::span(many).first(4), 0)), 0);
}

TEST(advance, goes_on_in_the_middle_of_a_buffer) {
    std::array<std::byte, 10> bytes{};
    request one = request::read(100, std::span(bytes));
    advance(one, 3);
    EXPECT_EQ(one.offset, 103U);
    EXPECT_EQ(one.size, 7U);
    EXPECT_EQ(one.data, bytes.data() + 3);

    std::array<iovec, 4> parts = {iovec{bytes.data(), 2}, iovec{bytes.data() + 2, 0},
                                  iovec{bytes.data() + 2, 4}, iovec{bytes.data() + 6, 4}};
    request many = request::read(100, std::span(parts), 10);
    advance(many, 0);
    EXPECT_EQ(many.vector_count, 4U);
    advance(many, 3); // all of the first, one byte of the third
    EXPECT_EQ(many.offset, 103U);
    EXPECT_EQ(many.size, 7U);
    EXPECT_EQ(many.vector_count, 2U);
    EXPECT_EQ(many.vectors[0].iov_base, bytes.data() + 3);
    EXPECT_EQ(many.vectors[0].iov_len, 3U);
    advance(many, 7);
    EXPECT_EQ(many.size, 0U);
    EXPECT_EQ(many.vector_count, 0U);
}

TEST(after_transfer, knows_what_a_short_one_means) {
    alignas(4096) std::array<std::byte, 8192> memory{};
    const auto after = [&](opcode code, const limits& asks, std::size_t moved) {
        std::ranges::fill(memory, std::byte{1});
        request what = request::read(0, std::span(memory));
        what.code = code;
        return after_transfer(asks, what, moved);
    };
    EXPECT_EQ(after(opcode::read, no_limits, 8192), 0);
    EXPECT_EQ(memory[8191], std::byte{1});
    EXPECT_EQ(after(opcode::read, no_limits, 5000), unfinished);
    EXPECT_EQ(after(opcode::read, direct_limits, 4096), unfinished);
    EXPECT_EQ(after(opcode::write, no_limits, 5000), unfinished);
    EXPECT_EQ(after(opcode::write, no_limits, 0), EIO) << "it would go on for ever";
    // The end of the file: at once, or in the middle of a block.
    EXPECT_EQ(after(opcode::read, no_limits, 0), 0);
    EXPECT_EQ(memory[0], std::byte{0});
    EXPECT_EQ(after(opcode::read, direct_limits, 5000), 0);
    EXPECT_EQ(memory[4999], std::byte{1});
    EXPECT_EQ(memory[5000], std::byte{0});
    EXPECT_EQ(memory[8191], std::byte{0});
}

TEST(run_request, zeroes_and_punches_within_the_file) {
    scratch_file file;
    const std::string block(4096, 'x');
    const std::string hole(4096, '\0');
    for (const opcode code : {opcode::zero, opcode::discard}) {
        file.set_content(block + block + block + block);
        EXPECT_EQ(file.run(request::flush()), 0); // otherwise the file may have no space yet
        const auto space = file.status().st_blocks;
        const int outcome = file.run(request::range(code, 4096, 8192));
        if (outcome == EOPNOTSUPP) { GTEST_SKIP() << "this file system has no holes"; }
        EXPECT_EQ(outcome, 0);
        EXPECT_EQ(file.content(), block + hole + hole + block);
        if (code == opcode::discard) { EXPECT_LT(file.status().st_blocks, space); }
        EXPECT_EQ(file.run(request::range(code, 12288, 1 << 20)), 0);
        EXPECT_EQ(file.status().st_size, 16384) << "the size stays";
        EXPECT_EQ(file.run(request::range(code, 0, 0)), 0) << "fallocate says EINVAL";
    }
}

TEST(run_request, zeroes_by_a_hole_where_the_host_has_no_other_way) {
    scratch_file file("/dev/shm");
    if (::fallocate(file.fd(), FALLOC_FL_ZERO_RANGE, 0, 1) == 0) {
        GTEST_SKIP() << "/dev/shm can zero ranges";
    }
    const std::string block(4096, 'x');
    file.set_content(block + block + block);
    EXPECT_EQ(file.run(request::range(opcode::zero, 4096, 4096)), 0);
    EXPECT_EQ(file.content(), block + std::string(4096, '\0') + block);
}

TEST(run_request, extends_with_space_and_keeps_content) {
    scratch_file file;
    file.set_content("abc");
    EXPECT_EQ(file.run(request::range(opcode::extend, 0, 1 << 20)), 0);
    EXPECT_EQ(file.status().st_size, 1 << 20);
    EXPECT_GE(file.status().st_blocks * 512, 1 << 20);
    EXPECT_EQ(file.content().substr(0, 4), std::string("abc\0", 4));
    EXPECT_EQ(file.run(request::range(opcode::extend, 0, 4096)), 0);
    EXPECT_EQ(file.status().st_size, 1 << 20) << "never shorter";
}

TEST(grow_by_rewriting, grows_and_keeps_content) {
    scratch_file file;
    const auto grow = [&](const limits& asks, std::uint64_t offset, std::uint64_t size) {
        return detail::grow_by_rewriting(file.fd(), asks,
                                         request::range(opcode::extend, offset, size));
    };
    file.set_content("abc");
    EXPECT_EQ(grow(no_limits, 0, 10), 0);
    EXPECT_EQ(file.content(), "abc" + std::string(7, '\0'));
    EXPECT_EQ(grow(no_limits, 0, 2), 0);
    EXPECT_EQ(file.content(), "abc" + std::string(7, '\0'));
    // In whole blocks, and in none outside the range.
    EXPECT_EQ(grow(direct_limits, 0, 4096), 0);
    EXPECT_EQ(file.content(), "abc" + std::string(4093, '\0'));
    EXPECT_EQ(grow(direct_limits, 4096, 4097), EOPNOTSUPP);
    EXPECT_EQ(grow(direct_limits, 7680, 512), EOPNOTSUPP);
    EXPECT_EQ(grow({512, 8192, 4}, 0, 8192), EOPNOTSUPP);
    EXPECT_EQ(file.status().st_size, 4096);
}

TEST(run_request, tells_the_host_s_errors) {
    alignas(4096) std::array<std::byte, 4096> memory{};
    request read = request::read(0, std::span(memory));
    EXPECT_EQ(run_request(-1, no_limits, read), EBADF);
    for (const opcode code : {opcode::zero, opcode::discard, opcode::extend, opcode::truncate}) {
        request what = request::range(code, 0, 4096);
        EXPECT_EQ(run_request(-1, no_limits, what), EBADF);
    }
    request flush = request::flush();
    EXPECT_EQ(run_request(-1, no_limits, flush), EBADF);
}

TEST(refusal, is_one_errno_for_all_hosts) {
    EXPECT_EQ(refusal(EOPNOTSUPP), EOPNOTSUPP);
    EXPECT_EQ(refusal(ENOSYS), EOPNOTSUPP);
    EXPECT_EQ(refusal(ENODEV), EOPNOTSUPP);
    EXPECT_EQ(refusal(ENOSPC), ENOSPC);
    EXPECT_EQ(refusal(0), 0);
}

} // namespace
} // namespace gaur::io
