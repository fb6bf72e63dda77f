// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/repair.hpp>

#include "support/memory_image.hpp"

#include <gaur/qcow2/image.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <vector>

namespace gaur::test {
namespace {

namespace field = qcow2::layout::field;
using outcome = qcow2::repair_outcome;
using scope = qcow2::repair_scope;

constexpr std::uint64_t copied = std::uint64_t{1} << 63;

/// An image of 1 MiB with clusters of 4 KiB: header 0, refcount table 1, block 2, L1 3, L2 4, and
/// data from 5 on.
class repair_test : public ::testing::Test {
  protected:
    void SetUp() override { create({.size = 1 << 20, .cluster_bits = 12}); }
    void create(const qcow2::create_options& how) {
        images.create("i", how);
        auto disk =
            images.wait(qcow2::open(images.io, images.get_executor(), "i", {.write = true}));
        ASSERT_TRUE(disk);
        const std::vector<std::byte> data(20'480, std::byte{7});
        auto w = disk->write({4096}, data);
        ASSERT_TRUE(async::sync_wait(w));
        ASSERT_TRUE(images.wait(disk->close()));
        content_ = content();
    }
    qcow2::repair_report repair(scope what = scope::all) {
        auto r = images.wait(
            qcow2::repair(images.io, images.get_executor(), "i", {.scope = what}));
        EXPECT_TRUE(r) << r.error().message();
        return r ? *std::move(r) : qcow2::repair_report();
    }
    qcow2::check_report check() {
        return *images.wait(qcow2::check(images.io, images.get_executor(), "i"));
    }
    std::vector<std::byte> content() {
        const reference_image at_rest(images.bytes("i"));
        std::vector<std::byte> all(1 << 20);
        at_rest.read_over(all);
        return all;
    }
    void expect_mended() {
        const auto v = images.check("i");
        EXPECT_EQ(v.corruptions, 0U) << v.first;
        EXPECT_EQ(v.leaks, 0U);
        EXPECT_TRUE(check().is_clean());
        EXPECT_TRUE(content() == content_);
    }
    /// The image is repaired and sound, and its content is unchanged.
    void expect_repairs(std::uint64_t leaks, std::uint64_t corruptions) {
        const auto r = repair();
        EXPECT_EQ(r.outcome, outcome::mended);
        EXPECT_EQ(r.leaks_fixed, leaks);
        EXPECT_EQ(r.corruptions_fixed, corruptions);
        expect_mended();
        EXPECT_EQ(repair().outcome, outcome::sound);
    }
    void expect_refused(scope what = scope::all) {
        const std::vector<std::byte> before = images.bytes("i");
        const auto r = repair(what);
        EXPECT_EQ(r.outcome, outcome::refused);
        EXPECT_TRUE(images.bytes("i") == before);
        EXPECT_EQ(r.leaks_fixed + r.corruptions_fixed, 0U);
    }
    std::uint64_t l1() { return images.header("i").l1_table_offset; }
    std::uint64_t l2(std::uint64_t n) {
        return (images.get("i", l1()) & ~copied) + n * 8;
    }
    void set_refcount(std::uint64_t c, std::uint64_t value) {
        const auto h = images.header("i");
        const std::uint64_t block = images.get("i", h.refcount_table_offset);
        std::vector<std::byte> bytes = images.bytes("i");
        h.refcounts().set(&bytes[block], c, value);
        images.set_bytes("i", bytes);
    }

    memory_images images;
    std::vector<std::byte> content_;
};

TEST_F(repair_test, leaves_a_sound_image_alone) {
    images.reset_counters();
    EXPECT_EQ(repair().outcome, outcome::sound);
    EXPECT_EQ(images.counters().requests(io::opcode::write), 0U);
    EXPECT_EQ(images.counters().requests(io::opcode::flush), 0U);
}

TEST_F(repair_test, clears_the_marks_of_a_sound_image) {
    for (const scope s : {scope::leaks, scope::all}) {
        images.set<std::uint64_t>("i", field::incompatible_features, 3);
        EXPECT_EQ(repair(s).outcome, outcome::sound);
        EXPECT_EQ(images.header("i").incompatible_features, 0U);
    }
}

TEST_F(repair_test, lowers_leaks_in_place) {
    set_refcount(8, 3); // data, whose COPIED flag does not fit yet
    images.set("i", l2(4), images.get("i", l2(4)) & ~copied);
    set_refcount(40, 1);
    set_refcount(9, 1);
    std::vector<std::byte> bytes = images.bytes("i");
    bytes.resize(50 * 4096);
    images.set_bytes("i", bytes);
    const auto r = repair(scope::leaks);
    EXPECT_EQ(r.outcome, outcome::mended);
    EXPECT_EQ(r.leaks_fixed, 2U);
    expect_mended();
}

/// More refcount blocks than are written together: 16-bit refcounts, 256 to a block of 512 bytes.
TEST_F(repair_test, many_refcount_blocks) {
    images.create("i", {.size = 12 << 20, .cluster_bits = 9});
    {
        auto disk =
            images.wait(qcow2::open(images.io, images.get_executor(), "i", {.write = true}));
        ASSERT_TRUE(disk);
        const std::vector<std::byte> data(12 << 20, std::byte{7});
        auto w = disk->write({0}, data);
        ASSERT_TRUE(async::sync_wait(w));
        ASSERT_TRUE(images.wait(disk->close()));
    }
    content_ = content();
    const auto h = images.header("i");
    std::uint64_t blocks = 0;
    for (std::uint64_t i = 0; i < h.refcount_table_clusters * 64U; ++i) {
        const std::uint64_t block = images.get("i", h.refcount_table_offset + i * 8);
        if (block == 0) { continue; }
        images.set<std::uint16_t>("i", block + 20, 0);
        ++blocks;
    }
    EXPECT_GT(blocks, 80U);
    EXPECT_EQ(repair().outcome, outcome::mended);
    expect_mended();
}

TEST_F(repair_test, a_leak_alone_costs_one_write) {
    set_refcount(11, 1);
    std::vector<std::byte> bytes = images.bytes("i");
    bytes.resize(12 * 4096);
    images.set_bytes("i", bytes);
    images.reset_counters();
    const auto r = repair(scope::leaks);
    EXPECT_EQ(r.leaks_fixed, 1U);
    EXPECT_EQ(images.counters().requests(io::opcode::write), 1U);
    EXPECT_EQ(images.counters().bytes(io::opcode::write), 512U);
    expect_mended();
}

TEST_F(repair_test, raises_refcounts) {
    set_refcount(6, 0);
    set_refcount(3, 0);
    set_refcount(0, 0);
    expect_repairs(0, 3);
}

TEST_F(repair_test, mends_flags) {
    images.set("i", l1(), images.get("i", l1()) & ~copied);
    images.set("i", l2(2), images.get("i", l2(2)) & ~copied);
    expect_repairs(0, 2);
}

TEST_F(repair_test, clears_flags_of_what_is_shared) {
    // Two entries for one cluster: as if it had been shared on purpose.
    const std::vector<std::byte> was = images.bytes("i");
    images.set("i", l2(10), images.get("i", l2(2)));
    content_ = content();
    expect_repairs(0, 3); // the refcount, and two flags
    EXPECT_EQ(images.get("i", l2(10)) & copied, 0U);
}

TEST_F(repair_test, rebuilds_what_is_lost_of_the_refcounts) {
    const auto h = images.header("i");
    for (const std::uint64_t entry : {std::uint64_t{0}, std::uint64_t{0x2200},
                                      std::uint64_t{1} << 40, std::uint64_t{0x2001}}) {
        SetUp();
        images.set("i", h.refcount_table_offset, entry);
        EXPECT_EQ(repair().outcome, outcome::mended) << entry;
        expect_mended();
    }
    SetUp();
    images.set("i", h.refcount_table_offset + 8, images.get("i", h.refcount_table_offset));
    EXPECT_EQ(repair().outcome, outcome::mended) << "one block twice";
    expect_mended();
}

TEST_F(repair_test, a_block_that_cannot_be_read_is_made_anew) {
    // Reads: the header twice, the refcount table, and then the block, twice.
    for (const std::uint64_t nth : {3U, 4U, 5U}) {
        SetUp();
        images.io.fail({.nth = nth, .code = io::opcode::read});
        images.io.fail({.nth = nth + 1, .code = io::opcode::read});
        auto r = images.wait(qcow2::repair(images.io, images.get_executor(), "i"));
        images.io.forget_rules();
        if (r && r->outcome == outcome::mended) {
            expect_mended();
            EXPECT_NE(r->found.check_errors, 0U);
            return;
        }
    }
    FAIL() << "no refcount block failed";
}

TEST_F(repair_test, data_over_tables_keeps_its_bytes) {
    const auto h = images.header("i");
    // The guest reads a refcount block, the active L1 table and an L2 table.
    for (const std::uint64_t at :
         {std::uint64_t{0x2000}, h.l1_table_offset, l2(0), h.refcount_table_offset}) {
        SetUp();
        images.set("i", l2(20), at | copied);
        content_ = content();
        EXPECT_EQ(repair().outcome, outcome::mended);
        expect_mended();
    }
}

TEST_F(repair_test, drops_preallocated_clusters_that_are_not_aligned) {
    images.set("i", l2(3), 0x7201);
    content_ = content();
    expect_repairs(1, 1);
    EXPECT_EQ(images.get("i", l2(3)), 1U);
}

TEST_F(repair_test, mends_flags_that_have_no_place) {
    images.set("i", l2(30), copied);
    expect_repairs(0, 1);
    EXPECT_EQ(images.get("i", l2(30)), 0U);
}

TEST_F(repair_test, leaves_untouched_what_it_cannot_mend) {
    const std::uint64_t entry = images.get("i", l2(2));
    for (const std::uint64_t broken : {entry | 2, entry | std::uint64_t{1} << 60, entry ^ 512,
                                       copied | std::uint64_t{1} << 45}) {
        images.set("i", l2(2), broken);
        set_refcount(11, 1);
        expect_refused(scope::all);
        expect_refused(scope::leaks);
        const auto r = repair();
        ASSERT_NE(r.obstacle(), nullptr);
        EXPECT_NE(r.obstacle()->text.find("ERROR"), std::string::npos);
        set_refcount(11, 0);
    }
    images.set("i", l2(2), entry);
    images.set("i", l1(), images.get("i", l1()) ^ 512);
    expect_refused();
}

TEST_F(repair_test, tables_that_lie_over_each_other) {
    // The second L2 table is the refcount table.
    create({.size = 8 << 20, .cluster_bits = 12});
    images.set("i", l1() + 8, images.header("i").refcount_table_offset);
    set_refcount(1, 2);
    EXPECT_EQ(check().beyond_repair, 1U);
    expect_refused();
    EXPECT_NE(repair().obstacle()->text.find("refcount table"), std::string::npos);
}

TEST_F(repair_test, leaks_beside_corruptions) {
    std::vector<std::byte> bytes = images.bytes("i");
    bytes.resize(20 * 4096);
    images.set_bytes("i", bytes);
    set_refcount(12, 1);
    set_refcount(6, 0);
    const auto r = repair(scope::leaks);
    EXPECT_EQ(r.outcome, outcome::corrupt_still);
    EXPECT_EQ(r.leaks_fixed, 1U);
    const auto now = check();
    EXPECT_EQ(now.leaks, 0U);
    EXPECT_EQ(now.corruptions, r.found.corruptions);
    expect_repairs(0, 1);
}

TEST_F(repair_test, leaks_need_sound_refcount_blocks) {
    images.set("i", images.header("i").refcount_table_offset, 0x2200);
    expect_refused(scope::leaks);
    EXPECT_EQ(repair(scope::leaks).obstacle(), nullptr);
    EXPECT_EQ(repair(scope::all).outcome, outcome::mended);
    expect_mended();
}

TEST_F(repair_test, a_device_without_room_behind_its_end) {
    std::vector<std::byte> bytes = images.bytes("i");
    bytes.resize(20 * 4096);
    images.set_bytes("i", bytes);
    set_refcount(6, 0);
    expect_repairs(0, 1);
    EXPECT_LE(images.bytes("i").size(), 20U * 4096) << "it went to free clusters";
}

/// A repair cuts off what a killed writer has left behind the end of use, whatever else it repairs.
TEST_F(repair_test, cuts_off_what_lies_behind_the_end_of_use) {
    const std::vector<std::byte> sound = images.bytes("i");
    std::vector<std::byte> longer = sound;
    longer.resize(50 * 4096, std::byte{0xee});
    for (const scope s : {scope::leaks, scope::all}) {
        images.set_bytes("i", longer);
        EXPECT_EQ(repair(s).outcome, outcome::sound);
        EXPECT_TRUE(images.bytes("i") == sound);

        set_refcount(20, 1); // a leak, in the range to be cut off
        std::vector<std::byte> leaking = images.bytes("i");
        leaking.resize(50 * 4096, std::byte{0xee});
        images.set_bytes("i", leaking);
        EXPECT_EQ(repair(s).outcome, outcome::mended);
        EXPECT_TRUE(images.bytes("i") == sound);
    }
    images.set_bytes("i", longer);
    set_refcount(6, 0);
    expect_repairs(0, 1);
    EXPECT_LE(images.bytes("i").size(), sound.size() + 4 * 4096) << "the new tables";
}

TEST_F(repair_test, cuts_nothing_where_something_stays_wrong) {
    std::vector<std::byte> longer = images.bytes("i");
    longer.resize(50 * 4096, std::byte{0xee});
    images.set_bytes("i", longer);
    set_refcount(6, 0);
    set_refcount(40, 1);
    EXPECT_EQ(repair(scope::leaks).outcome, outcome::corrupt_still);
    EXPECT_EQ(images.bytes("i").size(), longer.size());
    images.set("i", l2(10), (std::uint64_t{100} << 12) | copied); // behind the file's end
    expect_refused();
}

TEST_F(repair_test, a_host_that_cannot_cut_keeps_what_it_has) {
    std::vector<std::byte> longer = images.bytes("i");
    longer.resize(50 * 4096, std::byte{0xee});
    images.set_bytes("i", longer);
    images.io.fail({.nth = 1, .code = io::opcode::truncate, .host_errno = EINVAL});
    EXPECT_EQ(repair().outcome, outcome::sound);
    EXPECT_TRUE(images.bytes("i") == longer);
}

/// After a power cut that lost the file's growth, clusters past its end are counted.
TEST_F(repair_test, frees_what_is_counted_behind_the_files_end) {
    for (const scope s : {scope::leaks, scope::all}) {
        set_refcount(images.bytes("i").size() / 4096, 1);
        set_refcount(2000, 1);
        const auto found = check();
        EXPECT_TRUE(found.is_clean()) << "qemu-img does not look there";
        EXPECT_EQ(found.leaks_past_end, 2U);
        const auto r = repair(s);
        EXPECT_EQ(r.outcome, outcome::mended);
        EXPECT_EQ(r.leaks_fixed, 2U);
        expect_mended();
        EXPECT_EQ(check().leaks_past_end, 0U);
    }
}

TEST_F(repair_test, clears_unknown_autoclear_bits_when_it_changes_tables) {
    images.set<std::uint64_t>("i", field::autoclear_features, 0x80);
    set_refcount(6, 0);
    expect_repairs(0, 1);
    EXPECT_EQ(images.header("i").autoclear_features, 0U);
}

TEST_F(repair_test, refcounts_of_every_width) {
    for (const std::uint32_t bits : {1U, 2U, 4U, 8U, 16U, 32U, 64U}) {
        SCOPED_TRACE(bits);
        create({.size = 1 << 20, .cluster_bits = 9, .refcount_bits = bits});
        set_refcount(12, 0);
        set_refcount(13, 0);
        expect_repairs(0, 2);
        images.set("i", images.header("i").refcount_table_offset, 0);
        EXPECT_EQ(repair().outcome, outcome::mended);
        expect_mended();
    }
}

TEST_F(repair_test, a_refcount_too_narrow_for_its_references) {
    create({.size = 1 << 20, .cluster_bits = 9, .refcount_bits = 1});
    images.set("i", l2(30), images.get("i", l2(9)));
    expect_refused();
    EXPECT_NE(repair().obstacle()->text.find("overflow"), std::string::npos);
}

/// If any request fails, the image is no worse, and the next repair succeeds.
TEST_F(repair_test, fails_at_every_request) {
    set_refcount(6, 0);
    set_refcount(8, 4);
    const std::vector<std::byte> damaged = images.bytes("i");
    const std::uint64_t corruptions = images.check("i").corruptions;
    for (const io::opcode code : {io::opcode::read, io::opcode::write, io::opcode::flush}) {
        for (std::uint64_t nth = 1;; ++nth) {
            SCOPED_TRACE(nth);
            images.set_bytes("i", damaged);
            const std::uint64_t had = images.io.injected();
            images.io.fail(
                {.nth = nth, .code = code, .host_errno = ENOSPC, .from_then_on = true});
            const auto r = images.wait(qcow2::repair(images.io, images.get_executor(), "i"));
            images.io.forget_rules();
            if (images.io.injected() == had) {
                EXPECT_TRUE(r);
                EXPECT_GT(nth, 1U);
                break;
            }
            EXPECT_LE(images.check("i").corruptions, corruptions);
            EXPECT_TRUE(content() == content_);
            // A refcount block that cannot be read is rebuilt, and is no failure.
            if (!r) { EXPECT_EQ(r.error().host_errno(), ENOSPC); }
            EXPECT_NE(repair().outcome, outcome::refused);
            expect_mended();
        }
    }
}

TEST_F(repair_test, version_2) {
    create({.size = 1 << 20, .version = 2, .cluster_bits = 12});
    set_refcount(6, 0);
    expect_repairs(0, 1);
}

} // namespace
} // namespace gaur::test
