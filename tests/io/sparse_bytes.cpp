// SPDX-License-Identifier: BSL-1.0
#include <gaur/io/sparse_bytes.hpp>

#include <gaur/io/seeded.hpp>

#include <gtest/gtest.h>

namespace gaur::io {
namespace {

constexpr std::uint64_t page = sparse_bytes::page_size;
constexpr std::uint64_t chunk = sparse_bytes::chunk_size;
constexpr std::uint64_t tebibyte = std::uint64_t{1} << 40;

std::vector<std::byte> filled(std::size_t size, int with) {
    return std::vector<std::byte>(size, static_cast<std::byte>(with));
}
void put(sparse_bytes& to, std::uint64_t offset, std::size_t size, int with) {
    to.write(offset, filled(size, with).data(), size);
}
std::vector<std::byte> get(const sparse_bytes& from, std::uint64_t offset, std::size_t size) {
    std::vector<std::byte> bytes = filled(size, 0xee);
    from.read(offset, bytes.data(), size);
    return bytes;
}

TEST(sparse_bytes, holes_cost_no_space) {
    sparse_bytes file;
    put(file, tebibyte - 1, 1, 7);
    EXPECT_EQ(file.size(), tebibyte);
    EXPECT_EQ(file.allocated(), page);
    EXPECT_EQ(get(file, tebibyte - 1, 1), filled(1, 7));
    EXPECT_EQ(get(file, tebibyte / 2, 3 * chunk), filled(3 * chunk, 0));
    EXPECT_EQ(get(file, 8 * tebibyte, 10), filled(10, 0));
}

TEST(sparse_bytes, tells_its_holes) {
    sparse_bytes file;
    EXPECT_FALSE(file.is_allocated(0));
    EXPECT_EQ(file.run_end(0), 0U) << "a hole that ends nowhere";
    put(file, tebibyte + 5 * page + 7, 1, 7);
    put(file, 3 * chunk - page, 2 * page, 7);
    EXPECT_FALSE(file.is_allocated(0));
    EXPECT_EQ(file.run_end(11), 3 * chunk - page);
    EXPECT_TRUE(file.is_allocated(3 * chunk));
    EXPECT_EQ(file.run_end(3 * chunk - page), 3 * chunk + page) << "across chunks";
    EXPECT_EQ(file.run_end(3 * chunk + page), tebibyte + 5 * page) << "over a tebibyte";
    EXPECT_EQ(file.run_end(tebibyte + 5 * page), file.size());
    EXPECT_FALSE(file.is_allocated(file.size())) << "in the last page, but past the end";
    EXPECT_EQ(file.run_end(file.size()), 0U);
    file.discard(3 * chunk, page);
    EXPECT_EQ(file.run_end(3 * chunk - page), 3 * chunk);
}

TEST(sparse_bytes, copies_do_not_see_each_other) {
    sparse_bytes one(filled(3 * chunk, 1));
    sparse_bytes two = one;
    EXPECT_EQ(one, two);
    put(two, chunk + 5, 2, 9);
    EXPECT_NE(one, two);
    EXPECT_EQ(get(one, 0, 3 * chunk), filled(3 * chunk, 1));
    one.zero(0, 3 * chunk);
    EXPECT_EQ(get(two, chunk + 4, 4),
              (std::vector<std::byte>{std::byte{1}, std::byte{9}, std::byte{9}, std::byte{1}}));
    const sparse_bytes three = std::move(two);
    EXPECT_EQ(three.size(), 3 * chunk);
    EXPECT_EQ(two.size(), 0U); // NOLINT: what is left is an empty file
}

TEST(sparse_bytes, equal_is_about_bytes_not_space) {
    sparse_bytes zeroes(filled(2 * chunk, 0));
    sparse_bytes hole;
    hole.truncate(2 * chunk);
    EXPECT_EQ(hole, zeroes);
    hole.truncate(2 * chunk + 1);
    EXPECT_NE(hole, zeroes);
}

TEST(sparse_bytes, counts_space_in_pages) {
    sparse_bytes file;
    put(file, page - 1, 2, 1); // across a border
    EXPECT_EQ(file.allocated(), 2 * page);
    EXPECT_EQ(file.missing(0, 4 * page), 2 * page);
    file.allocate(3 * page, 1);
    EXPECT_EQ(file.allocated(), 3 * page);
    EXPECT_EQ(file.size(), 3 * page + 1);
    EXPECT_EQ(file.missing(0, 4 * page), page);
    file.zero(0, 4 * page);
    EXPECT_EQ(file.allocated(), 3 * page) << "zeroes keep their space";
    file.discard(1, 2 * page); // only the second page is whole
    EXPECT_EQ(file.allocated(), 2 * page);
    file.allocate(0, 40 * chunk);
    EXPECT_EQ(file.allocated(), 40 * chunk);
    file.discard(0, 80 * chunk);
    EXPECT_EQ(file.allocated(), 0U);
    EXPECT_EQ(file.size(), 40 * chunk);
}

TEST(sparse_bytes, what_was_cut_off_reads_as_zeroes_when_the_file_grows_again) {
    sparse_bytes file(filled(2 * chunk, 1));
    file.truncate(1000);
    EXPECT_EQ(file.allocated(), page);
    file.truncate(2 * chunk);
    std::vector<std::byte> expected = filled(2 * chunk, 0);
    std::fill_n(expected.begin(), 1000, std::byte{1});
    EXPECT_EQ(file.bytes(), expected);
}

TEST(sparse_bytes, ranges_reach_across_large_holes) {
    sparse_bytes file;
    constexpr std::uint64_t step = 16 << 20; // start of the next table of chunks
    for (const std::uint64_t at : {std::uint64_t{0}, 2 * step, 5 * step}) { put(file, at, 1, 7); }
    file.zero(0, 3 * step);
    EXPECT_EQ(get(file, 2 * step, 1), filled(1, 0));
    EXPECT_EQ(get(file, 5 * step, 1), filled(1, 7));
    file.discard(0, ~std::uint64_t{0});
    EXPECT_EQ(file.allocated(), 0U);
}

/// Against a plain vector, with random operations near the borders of pages, chunks and leaves.
TEST(sparse_bytes, behaves_like_plain_memory) {
    constexpr std::uint64_t leaf = 256 * chunk;
    for (const std::uint64_t base : {std::uint64_t{0}, leaf - 2 * chunk, 5 * leaf - chunk - 77}) {
        seeded random(base + 1);
        std::vector<std::byte> plain(4 * chunk);
        sparse_bytes file;
        file.truncate(base + plain.size());
        for (int round = 0; round < 400; ++round) {
            const std::uint64_t at = random.below(plain.size());
            const std::uint64_t size = 1 + random.below(std::min(plain.size() - at, 2 * chunk));
            const int fill = static_cast<int>(1 + random.below(255));
            const std::span part(plain.data() + at, size);
            switch (random.below(4)) {
            case 0: file.zero(base + at, size), std::ranges::fill(part, std::byte{0}); break;
            case 1: file.discard(base + at, size), std::ranges::fill(part, std::byte{0}); break;
            case 2: file.allocate(base + at, size); break;
            default:
                put(file, base + at, size, fill);
                std::ranges::fill(part, static_cast<std::byte>(fill));
            }
            ASSERT_EQ(get(file, base, plain.size()), plain) << round;
            ASSERT_EQ(file.allocated() + file.missing(0, file.size()),
                      align_up(file.size(), page));
        }
    }
}

} // namespace
} // namespace gaur::io
