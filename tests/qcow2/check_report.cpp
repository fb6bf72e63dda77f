// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/check_report.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

namespace gaur::qcow2 {
namespace {

using kind = check_finding::kind;

TEST(check_report, counts_by_kind) {
    check_report report;
    EXPECT_TRUE(report.is_clean());
    report.note(kind::corruption, 3, {}, "a");
    report.note(kind::leak, 2, {}, "b");
    report.note(kind::error, 1, {}, "c");
    EXPECT_EQ(report.corruptions, 3U);
    EXPECT_EQ(report.leaks, 2U);
    EXPECT_EQ(report.check_errors, 1U);
    EXPECT_FALSE(report.is_clean());
}

TEST(check_report, any_kind_is_not_clean) {
    for (const kind k : {kind::corruption, kind::leak, kind::error}) {
        check_report report;
        report.note(k, 1, {}, "x");
        EXPECT_FALSE(report.is_clean());
    }
}

TEST(check_report, words_and_numbers) {
    check_report report;
    report.note(kind::leak, 1, {0x30000}, "Leaked cluster ", std::uint64_t{3}, " at 0x",
                detail::hex{0x30000});
    ASSERT_EQ(report.findings.size(), 1U);
    EXPECT_EQ(report.findings[0].text, "Leaked cluster 3 at 0x30000");
    EXPECT_EQ(report.findings[0].where.value, 0x30000U);
    std::string text;
    detail::append(text, detail::hex{0});
    detail::append(text, detail::hex{~std::uint64_t{0}});
    EXPECT_EQ(text, "0ffffffffffffffff");
}

TEST(check_report, describes_only_so_many) {
    check_report report;
    report.max_findings = 2;
    for (int i = 0; i < 5; ++i) { report.note(kind::leak, 1, {}, "x"); }
    EXPECT_EQ(report.findings.size(), 2U);
    EXPECT_EQ(report.leaks, 5U);
}

TEST(check_report, the_first_that_is_beyond_repair_is_always_described) {
    check_report report;
    report.max_findings = 1;
    report.note(kind::leak, 1, {}, "x");
    report.note_beyond_repair(kind::corruption, 3, {}, "y");
    report.note_beyond_repair(kind::error, 1, {}, "z");
    EXPECT_EQ(report.beyond_repair, 2U);
    EXPECT_EQ(report.corruptions, 3U);
    EXPECT_EQ(report.check_errors, 1U);
    ASSERT_EQ(report.findings.size(), 2U);
    EXPECT_FALSE(report.findings[0].beyond_repair);
    EXPECT_TRUE(report.findings[1].beyond_repair);
    EXPECT_EQ(report.findings[1].text, "y");
}

} // namespace
} // namespace gaur::qcow2
