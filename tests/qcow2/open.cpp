// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/open.hpp>

#include "support/crafted_image.hpp"
#include "support/memory_image.hpp"

#include <gaur/qcow2/image.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

namespace gaur::test {
namespace {

namespace field = qcow2::layout::field;

class open_test : public ::testing::Test {
  protected:
    /// Why the image `name` does not open; empty if it opens.
    std::string refusal(const qcow2::open_options& how, const std::string& name = "i") {
        const auto r = images.wait(qcow2::open(images.io, images.get_executor(), name, how));
        return r ? "" : r.error().message();
    }
    static std::string text(errc why, std::uint64_t where = 0) {
        return error(why, where).message();
    }
    void create(const qcow2::create_options& how = {.size = 1 << 20}) { images.create("i", how); }

    memory_images images;
};

/// One field of a sound image is changed: the errors of an open for reading and for writing.
struct changed_field {
    std::uint64_t at;
    unsigned bytes;
    std::uint64_t value;
    errc why;
    std::uint64_t where;
    bool read_only_opens = false;
};

TEST_F(open_test, every_field_that_can_be_wrong) {
    constexpr std::uint64_t far = std::uint64_t{1} << 40;
    const changed_field fields[] = {
        {0, 4, 0x5146'4900, errc::not_qcow2, 0x5146'4900},
        {field::version, 4, 1, errc::unsupported_version, 1},
        {field::version, 4, 4, errc::unsupported_version, 4},
        {field::cluster_bits, 4, 8, errc::cluster_bits, 8},
        {field::cluster_bits, 4, 22, errc::cluster_bits, 22},
        {field::header_length, 4, 96, errc::header_length, 96},
        {field::header_length, 4, 108, errc::header_length, 108},
        {field::header_length, 4, 0x20000, errc::header_length, 0x20000},
        {field::incompatible_features, 8, 1, errc::dirty_image, 0, true},
        {field::incompatible_features, 8, 2, errc::corrupt_image, 0, true},
        {field::incompatible_features, 8, 4, errc::external_data_file, 0},
        {field::incompatible_features, 8, 8, errc::compression_bit, 0},
        {field::incompatible_features, 8, 16, errc::extended_l2, 0},
        {field::incompatible_features, 8, 64, errc::unknown_features, 64},
        {field::compression_type, 1, 1, errc::compression_bit, 1},
        {field::compression_type, 1, 2, errc::compression_type, 2},
        {field::refcount_order, 4, 7, errc::refcount_order, 7},
        {field::crypt_method, 4, 1, errc::encrypted, 1},
        {field::crypt_method, 4, 2, errc::extension_malformed,
         qcow2::layout::extension_magic::crypto},
        {field::crypt_method, 4, 3, errc::crypt_method, 3},
        {field::backing_file_offset, 8, 0x10001, errc::backing_offset, 0x10001},
        {field::backing_file_offset, 8, 8, errc::backing_overlap, 8},
        {field::backing_file_offset, 8, 0x1000, errc::backing_size, 0},
        {field::refcount_table_clusters, 4, 0, errc::refcount_table_missing, 0},
        {field::refcount_table_clusters, 4, 129, errc::refcount_table_too_large, 129},
        {field::refcount_table_offset, 8, 0x10200, errc::refcount_table_offset, 0x10200},
        {field::refcount_table_offset, 8, far, errc::table_past_end, far},
        {field::l1_size, 4, 0, errc::l1_too_small, 0},
        {field::l1_size, 4, 0x40'0001, errc::l1_too_large, 0x40'0001},
        {field::l1_table_offset, 8, 0x30008, errc::l1_offset, 0x30008},
        {field::l1_table_offset, 8, 0, errc::l1_offset, 0},
        {field::l1_table_offset, 8, far, errc::table_past_end, far},
        {field::l1_table_offset, 8, 0x10000, errc::tables_overlap, 0x10000, true},
        {field::size, 8, std::uint64_t{1} << 63, errc::size_too_large, std::uint64_t{1} << 63},
        {field::size, 8, std::uint64_t{1} << 40, errc::l1_too_small, 1},
        {field::size, 8, (1 << 20) - 1, errc::size_unaligned, (1 << 20) - 1, true},
        {field::nb_snapshots, 4, 65537, errc::snapshot_table_too_large, 65537},
        {field::nb_snapshots, 4, 1, errc::snapshot_table_offset, 0},
        {field::snapshots_offset, 8, 0x200, errc::snapshot_table_offset, 0x200},
    };
    create();
    const std::vector<std::byte> sound = images.bytes("i");
    EXPECT_EQ(refusal({.write = true}), "");
    for (const changed_field& f : fields) {
        SCOPED_TRACE(text(f.why) + ", field at " + std::to_string(f.at));
        std::vector<std::byte> bytes = sound;
        for (unsigned i = 0; i < f.bytes; ++i) {
            bytes[f.at + i] = static_cast<std::byte>(f.value >> (8 * (f.bytes - 1 - i)));
        }
        images.set_bytes("i", bytes);
        EXPECT_EQ(refusal({.write = true}), text(f.why, f.where));
        EXPECT_EQ(refusal({}), f.read_only_opens ? "" : text(f.why, f.where));
        EXPECT_EQ(images.bytes("i"), bytes) << "a refused image was written to";
    }
}

/// A writer must be told that the bitmaps may be invalidated. They are, before anything else is
/// written.
TEST_F(open_test, persistent_bitmaps) {
    const crafted_image made;
    images.set_bytes("i", made.bytes);
    EXPECT_EQ(refusal({}), "");
    EXPECT_EQ(refusal({.write = true}), text(errc::bitmaps_present, 1));
    EXPECT_EQ(images.bytes("i"), made.bytes);
    EXPECT_EQ(refusal({.write = true, .bitmaps = qcow2::bitmaps::invalidate}), "");
    EXPECT_EQ(images.header("i").autoclear_features, 0U);
    EXPECT_EQ(refusal({.write = true}), "") << "there are none any more";
}

TEST_F(open_test, truncated_header) {
    create();
    const std::vector<std::byte> sound = images.bytes("i");
    for (const std::size_t size : {0U, 3U, 20U, 71U, 103U}) {
        images.set_bytes("i", std::span(sound).first(size));
        EXPECT_EQ(refusal({}), text(errc::truncated_header, size));
    }
}

TEST_F(open_test, malformed_snapshot_table) {
    create();
    const std::uint64_t end = images.bytes("i").size();
    images.set<std::uint32_t>("i", field::nb_snapshots, 1);
    images.set("i", field::snapshots_offset, end);
    for (std::uint64_t at = 0; at < 80; at += 8) { images.set("i", end + at, 0); }
    EXPECT_EQ(refusal({}), "");
    images.set<std::uint32_t>("i", end + 36, 2000); // extra data
    EXPECT_EQ(refusal({}), text(errc::snapshot_malformed, end));
    EXPECT_EQ(refusal({.write = true}), text(errc::snapshot_malformed, end));
    images.set<std::uint32_t>("i", end + 36, 0);
    images.set<std::uint16_t>("i", end + 14, 65535); // a name past the file's last cluster
    EXPECT_EQ(refusal({}), text(errc::snapshot_malformed, end));
}

/// A malformed snapshot table is not examined if the reader asks for that, and neither are its
/// fields in the header. (All of row 38: tests/hostile/rows.cpp.)
TEST_F(open_test, without_snapshots) {
    create();
    images.set<std::uint32_t>("i", field::nb_snapshots, 65537);
    images.set("i", field::snapshots_offset, 512 + 8);
    const std::vector<std::byte> before = images.bytes("i");
    EXPECT_EQ(refusal({}), text(errc::snapshot_table_too_large, 65537));
    EXPECT_EQ(refusal({.without_snapshots = true}), "");
    EXPECT_EQ(refusal({.write = true, .without_snapshots = true}), text(errc::snapshots_left_out));
    EXPECT_EQ(images.bytes("i"), before);
    images.create("top", {.size = 4096, .backing_file = "i", .backing_format = "qcow2"});
    const auto follow = qcow2::references::follow;
    EXPECT_EQ(refusal({.references = follow}, "top"), text(errc::snapshot_table_too_large, 65537));
    EXPECT_EQ(refusal({.references = follow, .without_snapshots = true}, "top"), "");
    images.set_bytes("i", std::span(before).first(70)); // shorter than the fields
    EXPECT_EQ(refusal({.without_snapshots = true}), text(errc::truncated_header, 70));
}

TEST_F(open_test, names_are_followed_only_where_allowed) {
    images.set_bytes("dir/below", std::vector<std::byte>(4096, std::byte{9}));
    images.create("dir/top", {.size = 4096, .backing_file = "below", .backing_format = "raw"});
    using qcow2::references;
    EXPECT_EQ(refusal({}, "dir/top"), text(errc::reference_refused));
    const auto read = [&](references how) {
        auto disk = images.wait(
            qcow2::open(images.io, images.get_executor(), "dir/top", {.references = how}));
        EXPECT_TRUE(disk) << disk.error().message();
        std::vector<std::byte> bytes(4096, std::byte{1});
        auto r = disk->read({0}, bytes);
        EXPECT_TRUE(async::sync_wait(r));
        return bytes;
    };
    EXPECT_EQ(read(references::follow), std::vector<std::byte>(4096, std::byte{9}));
    EXPECT_EQ(read(references::ignore), std::vector<std::byte>(4096, std::byte{0}));
}

TEST_F(open_test, formats_are_never_guessed) {
    create();
    qcow2::layout::header h = images.header("i");
    h.backing_file = "below";
    const auto rewrite = [&](const std::string& format) {
        h.remove_extension(qcow2::layout::extension_magic::backing_format);
        if (!format.empty()) {
            const auto name = std::as_bytes(std::span(format));
            h.set_extension(
                {qcow2::layout::extension_magic::backing_format, {name.begin(), name.end()}});
        }
        std::vector<std::byte> bytes = images.bytes("i");
        const auto first = *qcow2::layout::write(h);
        std::ranges::copy(first, bytes.begin());
        images.set_bytes("i", bytes);
    };
    const auto follow = qcow2::references::follow;
    images.create("below", {.size = 4096});
    rewrite("");
    EXPECT_EQ(refusal({.references = follow}), text(errc::format_missing));
    EXPECT_EQ(refusal({.references = follow, .backing_format = "qcow2"}), "");
    EXPECT_EQ(refusal({.references = follow, .backing_format = "raw"}), "");
    rewrite("vmdk");
    EXPECT_EQ(refusal({.references = follow}), text(errc::backing_format_unknown));
    rewrite("qcow2");
    EXPECT_EQ(refusal({.references = follow}), "");
    images.set_bytes("below", std::vector<std::byte>(4096));
    EXPECT_EQ(refusal({.references = follow}), text(errc::not_qcow2));
}

TEST_F(open_test, chains_that_do_not_end) {
    const auto follow = qcow2::references::follow;
    images.create("i", {.size = 4096, .backing_file = "i", .backing_format = "qcow2"});
    EXPECT_EQ(refusal({.references = follow}), text(errc::backing_loop));
    images.create("i", {.size = 4096, .backing_file = "b", .backing_format = "qcow2"});
    images.create("b", {.size = 4096, .backing_file = "i", .backing_format = "raw"});
    EXPECT_EQ(refusal({.references = follow}), text(errc::backing_loop));
    images.set_bytes("c", std::vector<std::byte>(4096));
    images.create("b", {.size = 4096, .backing_file = "c", .backing_format = "raw"});
    EXPECT_EQ(refusal({.references = follow, .max_depth = 3}), "");
    EXPECT_EQ(refusal({.references = follow, .max_depth = 2}), text(errc::too_many_files, 2));
    images.create("b", {.size = 4096, .backing_file = "gone", .backing_format = "raw"});
    EXPECT_EQ(refusal({.references = follow}), error::from_errno(ENOENT).message());
}

/// The top layer is held for writing when the chain comes back to it. The error is a loop
/// nevertheless.
TEST_F(open_test, chains_that_do_not_end_in_a_writer) {
    const auto follow = qcow2::references::follow;
    for (const std::string format : {"qcow2", "raw"}) {
        images.create("i", {.size = 4096, .backing_file = "i", .backing_format = format});
        EXPECT_EQ(refusal({.write = true, .references = follow}), text(errc::backing_loop));
    }
}

TEST_F(open_test, says_which_file_of_the_chain_it_was) {
    std::string path;
    const auto fails_at = [&](qcow2::open_options how, const std::string& name = "a/i") {
        path = "?";
        how.failed_path = &path;
        EXPECT_NE(refusal(how, name), "");
        return path;
    };
    const auto follow = qcow2::references::follow;
    EXPECT_EQ(fails_at({}, "nowhere"), "nowhere");
    images.create("a/i", {.size = 4096, .backing_file = "b/c", .backing_format = "qcow2"});
    EXPECT_EQ(fails_at({}), "a/b/c") << "refused";
    EXPECT_EQ(fails_at({.references = follow}), "a/b/c") << "missing";
    images.set_bytes("a/b/c", std::vector<std::byte>(4096));
    EXPECT_EQ(fails_at({.references = follow}), "a/b/c") << "no image";
    images.create("a/b/c", {.size = 4096, .backing_file = "/d", .backing_format = "raw"});
    EXPECT_EQ(fails_at({.references = follow}), "/d");
    EXPECT_EQ(fails_at({.references = follow, .max_depth = 2}), "/d") << "one too many";
    const auto held = images.io.open("a/i", {.write = true, .lock = io::file_lock::writer()});
    EXPECT_EQ(fails_at({.references = follow}), "a/i");
}

TEST_F(open_test, names_the_format_that_it_does_not_read) {
    std::string format;
    std::string path;
    images.set_bytes("b", std::vector<std::byte>(4096));
    images.create("i", {.size = 4096, .backing_file = "b", .backing_format = "vmdk"});
    EXPECT_EQ(refusal({.references = qcow2::references::follow, .failed_path = &path,
                       .failed_format = &format}),
              text(errc::backing_format_unknown));
    EXPECT_EQ(format, "vmdk");
    EXPECT_EQ(path, "b");
}

TEST_F(open_test, follows_paths_and_no_protocol) {
    const qcow2::open_options how = {.references = qcow2::references::follow};
    images.set_bytes("a/b", std::vector<std::byte>(4096));
    images.set_bytes("a/nbd:b", std::vector<std::byte>(4096));
    const auto opens = [&](const std::string& name) {
        images.create("a/i", {.size = 4096, .backing_file = name, .backing_format = "raw"});
        return refusal(how, "a/i");
    };
    EXPECT_EQ(opens("file:b"), "") << "in the image's folder";
    EXPECT_EQ(opens("file:nbd:b"), "");
    EXPECT_EQ(opens("nbd:b"), text(errc::protocol_not_supported));
    EXPECT_EQ(opens("file:"), text(errc::protocol_not_supported));
    EXPECT_EQ(opens("json:{}"), text(errc::protocol_not_supported));
    EXPECT_EQ(opens("./nbd:b"), error::from_errno(ENOENT).message())
        << "a path, and in memory another file";
}

/// Every file of the chain goes through the policy. tests/qcow2/reference_policy.cpp tests its
/// decisions.
TEST_F(open_test, asks_the_gate_for_each_file) {
    images.create("x/i", {.size = 4096, .backing_file = "b", .backing_format = "qcow2"});
    images.create("x/b", {.size = 4096, .backing_file = "/c", .backing_format = "raw"});
    images.set_bytes("/c", std::vector<std::byte>(4096));
    std::vector<std::string> asked;
    const auto ask = [&](bool all) {
        asked.clear();
        return qcow2::reference_policy::asking([&asked, all](const qcow2::reference& r) {
            asked.push_back(r.image + ' ' + r.name + ' ' + r.path + ' ' + r.format);
            return all || r.name == "b";
        });
    };
    EXPECT_EQ(refusal({.references = ask(true)}, "x/i"), "");
    const std::vector<std::string> both{"x/i b x/b qcow2", "x/b /c /c raw"};
    EXPECT_EQ(asked, both);
    EXPECT_EQ(refusal({.references = ask(false)}, "x/i"), text(errc::reference_refused));
    EXPECT_EQ(asked, both);

    // The policy's path is opened, not the image's: in memory "x/./b" is another file.
    const auto listed = [](const std::string& first) {
        return qcow2::reference_policy::listed({first, "/c"});
    };
    EXPECT_EQ(refusal({.references = listed("x/b")}, "x/i"), "");
    EXPECT_EQ(refusal({.references = listed("x/./b")}, "x/i"), error::from_errno(ENOENT).message());
}

/// A writer that does not maintain the structures clears their autoclear bits.
TEST_F(open_test, a_writer_clears_the_autoclear_bits) {
    create();
    images.set("i", field::autoclear_features, 1 | 1 << 9);
    EXPECT_EQ(refusal({}), "");
    EXPECT_EQ(images.header("i").autoclear_features, 1U | 1U << 9);
    EXPECT_EQ(refusal({.write = true}), "");
    EXPECT_EQ(images.header("i").autoclear_features, 0U);
}

/// They are cleared only when the open is certain to succeed. If they cannot be cleared, it fails.
TEST_F(open_test, clears_the_autoclear_bits_last) {
    images.create("i", {.size = 4096, .backing_file = "b", .backing_format = "raw"});
    images.set("i", field::autoclear_features, 1 << 9);
    const qcow2::open_options how = {.write = true, .references = qcow2::references::follow};
    EXPECT_EQ(refusal(how), error::from_errno(ENOENT).message());
    EXPECT_EQ(images.header("i").autoclear_features, 1U << 9);
    images.set_bytes("b", std::vector<std::byte>(4096));
    for (const io::opcode code : {io::opcode::write, io::opcode::flush}) {
        images.io.fail({.code = code});
        EXPECT_EQ(refusal(how), error::from_errno(EIO).message());
        images.io.forget_rules();
    }
    EXPECT_EQ(refusal(how), "");
    EXPECT_EQ(images.header("i").autoclear_features, 0U);
}

TEST_F(open_test, unknown_compatible_features_stay) {
    create();
    images.set("i", field::compatible_features, std::uint64_t{1} << 40);
    EXPECT_EQ(refusal({.write = true}), "");
    EXPECT_EQ(images.header("i").compatible_features, std::uint64_t{1} << 40);
}

TEST_F(open_test, passes_on_the_hosts_errors) {
    EXPECT_EQ(refusal({}, "nowhere"), error::from_errno(ENOENT).message());
    create();
    images.reset_counters();
    EXPECT_EQ(refusal({.write = true}), "");
    const std::uint64_t reads = images.counters().requests(io::opcode::read);
    for (std::uint64_t nth = 1; nth <= reads; ++nth) {
        images.io.fail({.nth = nth, .code = io::opcode::read});
        // The last read is of a refcount block: its clusters count as in use until a write needs
        // it.
        EXPECT_EQ(refusal({.write = true}),
                  nth < reads ? error::from_errno(EIO).message() : std::string())
            << nth;
        images.io.forget_rules();
    }
}

} // namespace
} // namespace gaur::test
