// SPDX-License-Identifier: BSL-1.0
// The hostile rows whose damage is an L2 entry. That entry is the first, a middle and the last one
// of a request that spans several entries, beside good ones that need new clusters. The damaged
// entry does not change, no reference is lost, and shared clusters are not written to.
#include "support/hostile_rows.hpp"

#include <gaur/async/sync_wait.hpp>
#include <gaur/exec/inline.hpp>
#include <gaur/io/memory.hpp>
#include <gaur/qcow2/check.hpp>
#include <gaur/qcow2/image.hpp>
#include <gaur/qcow2/zlib.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace gaur::test::hostile {
namespace {

/// A malformed L2 entry, from a row.
struct bad_entry {
    std::string name;
    std::uint64_t raw;
    errc why;
    craft made_of;
};

/// The entries of all rows that damage one L2 entry and nothing else but refcounts.
std::vector<bad_entry> bad_entries() {
    std::vector<bad_entry> all;
    for (const variant& v : variants()) {
        const crafted_image sound(v.made_of);
        crafted_image damaged(v.made_of);
        files beside;
        v.damage(damaged, beside);
        const std::uint64_t entry = sound.entry(v.at / sound.cluster());
        const refusal why = v.expected.write;
        if (!why || damaged.bytes.size() != sound.bytes.size() || entry + 8 > sound.end() ||
            damaged.get(entry) == sound.get(entry)) {
            continue;
        }
        if (*why != errc::l2_entry && *why != errc::l2_past_end && *why != errc::zero_flag_in_v2) {
            continue;
        }
        const std::string name = std::to_string(v.row) + ' ' + v.name;
        all.push_back({name, damaged.get(entry), *why, v.made_of});
        if (*why == errc::l2_past_end && v.row == 43) {
            // It reads as zeroes wherever it points. To replace it would free that cluster.
            const std::uint64_t zero = damaged.get(entry) | 1;
            all.push_back({name + ", zero", zero & ~crafted_image::copied, *why, v.made_of});
        }
        const std::uint64_t uncopied = damaged.get(entry) & ~crafted_image::copied;
        const bool still_bad = uncopied != 0 && uncopied != damaged.get(entry) &&
                               !qcow2::layout::check(qcow2::layout::l2_entry{uncopied},
                                                     v.made_of.version, v.made_of.cluster_bits,
                                                     {});
        const bool past_end = *why == errc::l2_past_end && uncopied != damaged.get(entry);
        if (still_bad || past_end) {
            all.push_back({name + ", without COPIED", uncopied, *why, v.made_of});
        }
    }
    return all;
}

/// One image with a span of entries, one of them bad, and one write over it.
class span_of_entries {
  public:
    static constexpr std::uint64_t first = 100; ///< guest cluster
    static constexpr std::uint64_t count = 5;

    /// `shared`: the snapshot shares the good entries' clusters; otherwise only COPIED is missing.
    span_of_entries(const bad_entry& bad, std::uint64_t place, bool shared)
        : bad_(bad), place_(place), image_(bad.made_of) {
        // An offset past the end of the row's image must be past the end of this longer one.
        const std::uint64_t moved =
            bad.why == errc::l2_past_end ? (count + 1) * cluster() : 0;
        for (std::uint64_t n = 0; n < count; ++n) {
            const std::uint64_t at = image_.take(1);
            std::fill(image_.bytes.begin() + static_cast<std::ptrdiff_t>(at), image_.bytes.end(),
                      old_byte(n));
            if (n == place) {
                image_.set(image_.entry(first + n), bad.raw + moved);
                image_.set_refcount(at / cluster(), 0);
                continue;
            }
            hosts_.push_back(at);
            image_.set(image_.entry(first + n), at);
            if (shared) {
                image_.set(image_.snapshot_l2 + (first + n) * 8, at);
                image_.set_refcount(at / cluster(), 2);
            }
        }
        // The last cluster of the file has a refcount, or the image would not open for writing.
        static_cast<void>(image_.take(1));
        io_.set_content("image", io::sparse_bytes(image_.bytes));
    }

    void write(std::uint64_t from, std::uint64_t size) {
        const auto before = check();
        std::optional<error> told;
        auto opened = wait(qcow2::open(io_, loop_.get_executor(), "image",
                                       {.write = true,
                                        .bitmaps = qcow2::bitmaps::invalidate,
                                        .on_damage = [&](error why) { told = why; },
                                        .inflate = &qcow2::zlib_inflate}));
        ASSERT_TRUE(opened) << opened.error().message();
        const std::vector<std::byte> data(size, std::byte{0xab});
        auto writing = opened->write({from}, data);
        const result<void> written = async::sync_wait(writing);
        ASSERT_FALSE(written);
        EXPECT_TRUE(written.error() == bad_.why) << written.error().message();
        EXPECT_TRUE(told.has_value());
        for (int n = 0; n < 3; ++n) { // lowers the dropped refcounts
            auto flushing = opened->flush();
            EXPECT_TRUE(async::sync_wait(flushing));
        }
        EXPECT_TRUE(wait(opened->close()));
        const auto after = check();
        EXPECT_LE(after.corruptions, before.corruptions)
            << (after.findings.empty() ? "" : after.findings.back().text);
        expect_entries();
        expect_old_data();
    }

  private:
    std::uint64_t cluster() const { return image_.cluster(); }
    static std::byte old_byte(std::uint64_t n) { return static_cast<std::byte>(0x30 + n); }

    template <class T>
    result<T> wait(async::task<T> task) {
        return async::sync_wait(io_, loop_.get_executor(), std::move(task));
    }
    qcow2::check_report check() {
        auto found = wait(qcow2::check(io_, loop_.get_executor(), "image"));
        EXPECT_TRUE(found) << found.error().message();
        return found ? *found : qcow2::check_report();
    }
    std::uint64_t get(std::uint64_t at) {
        std::byte raw[8];
        io_.content("image").read(at, raw, sizeof raw);
        return load_be<std::uint64_t>(raw);
    }

    /// The bad entry is unchanged. Of the others only those before it may be new.
    void expect_entries() {
        for (std::uint64_t n = 0; n < count; ++n) {
            const std::uint64_t was = image_.get(image_.entry(first + n));
            if (n >= place_) {
                EXPECT_EQ(get(image_.entry(first + n)), was) << "entry " << n << " has changed";
            }
        }
    }
    void expect_old_data() {
        for (const std::uint64_t at : hosts_) {
            std::vector<std::byte> now(cluster());
            io_.content("image").read(at, now.data(), now.size());
            const auto then = std::span(image_.bytes).subspan(at, cluster());
            EXPECT_TRUE(std::ranges::equal(now, then)) << "written to in its place";
        }
    }

    const bad_entry& bad_;
    std::uint64_t place_;
    crafted_image image_;
    std::vector<std::uint64_t> hosts_;
    io::memory::backend io_;
    exec::inline_loop loop_;
};

TEST(span_of_entries, is_not_run_over_whatever_is_bad_in_it) {
    const std::vector<bad_entry> all = bad_entries();
    EXPECT_GE(all.size(), 10U);
    constexpr std::uint64_t count = span_of_entries::count;
    for (const bad_entry& bad : all) {
        for (const std::uint64_t place : {std::uint64_t{0}, count / 2, count - 1}) {
            for (const bool shared : {true, false}) {
                SCOPED_TRACE(bad.name + ", at " + std::to_string(place) +
                             (shared ? ", shared" : ", flags lack"));
                const std::uint64_t cluster = std::uint64_t{1} << bad.made_of.cluster_bits;
                const std::uint64_t from = span_of_entries::first * cluster;
                span_of_entries(bad, place, shared).write(from, count * cluster);
                span_of_entries(bad, place, shared).write(from + 512, (count - 1) * cluster);
            }
        }
    }
}

} // namespace
} // namespace gaur::test::hostile
