// SPDX-License-Identifier: BSL-1.0
// The 62 hostile inputs of support/hostile_rows.hpp, each through every operation of gaur on an
// image: the right refusal, bounded memory and work, and a file that reading leaves unchanged.
#include "support/counting_new.hpp"
#include "support/hostile_rows.hpp"

#include <gaur/async/sync_wait.hpp>
#include <gaur/exec/inline.hpp>
#include <gaur/io/memory.hpp>
#include <gaur/qcow2/check.hpp>
#include <gaur/qcow2/image.hpp>
#include <gaur/qcow2/repair.hpp>
#include <gaur/qcow2/zlib.hpp>
#include <gaur/raw/image.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace gaur::test::hostile {
namespace {

using guest = crafted_image;
constexpr std::size_t most_heap = std::size_t{64} << 20;

template <class T>
std::string text(const result<T>& r) {
    return r ? "success" : r.error().message();
}
template <class T>
bool is(const result<T>& r, const refusal& why) {
    return why ? !r && r.error() == *why : r.has_value();
}

/// One image and the files beside it, in memory.
class stage {
  public:
    using image_type = qcow2::image<io::memory::backend, exec::inline_loop::executor>;

    explicit stage(const io::memory::options& how = {}) : io(how) {}

    io::memory::backend io;
    std::optional<exec::inline_loop> own{std::in_place};
    exec::inline_loop& loop = *own;

    template <class T>
    result<T> wait(async::task<T> task) {
        return async::sync_wait(io, loop.get_executor(), std::move(task));
    }
    /// Destroys the loop. The backend has nothing in flight then.
    void leave() {
        own.reset();
        EXPECT_EQ(io.in_flight(), 0U);
    }
    result<image_type> open(const qcow2::open_options& how, const std::string& name = "image") {
        return wait(qcow2::open(io, loop.get_executor(), name, how));
    }
    auto check() { return wait(qcow2::check(io, loop.get_executor(), "image")); }
    auto repair() { return wait(qcow2::repair(io, loop.get_executor(), "image")); }

    std::uint64_t size() { return io.content("image").size(); }
    std::vector<std::byte> bytes() { return io.content("image").bytes(); }
    void set(const std::string& name, std::span<const std::byte> bytes) {
        io.set_content(name, io::sparse_bytes(bytes));
    }
    std::uint64_t files_size() {
        std::uint64_t all = 0;
        for (const auto& [name, content] : io.snapshot()) { all += content.size(); }
        return all;
    }
};

result<void> read(stage::image_type& disk, std::uint64_t at, std::span<std::byte> to) {
    auto r = disk.read({at}, to);
    return async::sync_wait(r);
}
/// Reads the whole disk; only its beginning and its end if it claims to be large.
result<void> read_all(stage::image_type& disk) {
    std::vector<std::byte> buffer(65'536);
    const auto all = std::span(buffer);
    const std::uint64_t most = std::min<std::uint64_t>(disk.size(), 8 << 20);
    for (std::uint64_t at = 0; at < most; at += buffer.size()) {
        const auto n = std::min<std::uint64_t>(buffer.size(), most - at);
        const result<void> done = read(disk, at, all.first(static_cast<std::size_t>(n)));
        if (!done) { return done; }
    }
    const auto end = std::min<std::uint64_t>(buffer.size(), disk.size());
    return read(disk, disk.size() - end, all.first(static_cast<std::size_t>(end)));
}
result<void> write_sector(stage::image_type& disk, std::uint64_t at) {
    const std::vector<std::byte> sector(512, std::byte{0xab});
    auto r = disk.write({at}, sector);
    return async::sync_wait(r);
}

class case_of {
  public:
    explicit case_of(const variant& v) : v_(v), image_(v.made_of) {
        files beside;
        v.damage(image_, beside);
        on_.set("image", image_.bytes);
        for (const auto& [name, bytes] : beside) { on_.set(name, bytes); }
        made_ = on_.io.snapshot();
        read_limit_ = 4 * on_.files_size() + (1 << 20);
        how_ = {.references = v.policy, .bitmaps = qcow2::bitmaps::invalidate,
                .without_snapshots = v.without_snapshots, .inflate = &qcow2::zlib_inflate};
    }

    void run() {
        step("reading", [this] { reads(); });
        step("reading without snapshots", [this] { reads_without_snapshots(); });
        step("checking", [this] { checks(); });
        step("opening", [this] { opens_and_closes(); });
        step("reading as a writer", [this] { reads_as_writer(); });
        step("writing", [this] { writes(); });
        step("leaving while it writes", [this] { leaves_while_it_writes(); });
        step("repairing", [this] { repairs(); });
    }

    static inline std::chrono::steady_clock::duration slowest{};
    static inline std::string slowest_name;
    static inline std::size_t heap = 0;
    static inline std::string heap_name;

  private:
    /// Runs one step on the original files, within memory and work that the files' size bounds.
    template <class F>
    void step(const char* name, F what) {
        SCOPED_TRACE(std::string(v_.name) + ", " + name);
        on_.io.restore(made_);
        on_.io.reset_counters();
        const auto begin = std::chrono::steady_clock::now();
        const peak_in_scope memory;
        what();
        const std::string where = std::to_string(v_.row) + ' ' + v_.name + ", " + name;
        EXPECT_LT(memory.bytes(), most_heap);
        if (memory.bytes() > heap) {
            heap = memory.bytes();
            heap_name = where;
        }
        const auto took = std::chrono::steady_clock::now() - begin;
        if (took > slowest) {
            slowest = took;
            slowest_name = where;
        }
        EXPECT_LE(on_.io.counters().bytes(io::opcode::read), read_limit_);
        EXPECT_LE(on_.io.counters().requests(io::opcode::read), 64 + read_limit_ / 512);
    }
    void expect_untouched() {
        EXPECT_EQ(on_.io.counters().requests(io::opcode::write), 0U);
        EXPECT_TRUE(is_as_made()) << "it was written to";
    }

    /// Compares piece by piece, so that only the library's memory is measured.
    bool is_as_made() {
        if (on_.size() != image_.bytes.size()) { return false; }
        std::byte now[4096];
        for (std::size_t at = 0; at < image_.bytes.size(); at += sizeof now) {
            const std::size_t n = std::min(sizeof now, image_.bytes.size() - at);
            on_.io.content("image").read(at, now, n);
            if (!std::equal(now, now + n, image_.bytes.data() + at)) { return false; }
        }
        return true;
    }

    void reads() {
        auto disk = on_.open(how_);
        EXPECT_TRUE(is(disk, v_.expected.reading)) << text(disk);
        if (disk) {
            const result<void> r = read_all(*disk);
            EXPECT_TRUE(is(r, v_.expected.read)) << text(r);
            const result<void> refused = write_sector(*disk, 0);
            EXPECT_TRUE(is(refused, errc::read_only)) << text(refused);
            EXPECT_TRUE(on_.wait(disk->close()));
        }
        expect_untouched();
    }

    /// An open without snapshots refuses no more than one with them.
    void reads_without_snapshots() {
        qcow2::open_options how = how_;
        how.without_snapshots = true;
        auto disk = on_.open(how);
        EXPECT_TRUE(disk || v_.expected.reading) << text(disk);
        if (disk) {
            const result<void> r = read_all(*disk);
            EXPECT_TRUE(is(r, v_.expected.read)) << text(r);
            EXPECT_TRUE(on_.wait(disk->close()));
        }
        expect_untouched();
    }

    void checks() {
        const auto found = on_.check();
        if (const auto* why = std::get_if<errc>(&v_.expected.check)) {
            EXPECT_TRUE(is(found, *why)) << text(found);
        } else if (!found) {
            ADD_FAILURE() << text(found);
        } else {
            const verdict is_now = found->corruptions != 0    ? verdict::corrupt
                                   : found->check_errors != 0 ? verdict::unread
                                   : found->leaks != 0        ? verdict::leaks
                                                              : verdict::clean;
            EXPECT_EQ(static_cast<int>(is_now),
                      static_cast<int>(std::get<verdict>(v_.expected.check)))
                << first_of(*found);
        }
        expect_untouched();
    }

    /// Without a write the file grows at most to the end of its last cluster, and only autoclear
    /// bits change in the header.
    void opens_and_closes() {
        qcow2::open_options how = how_;
        how.write = true;
        auto disk = on_.open(how);
        EXPECT_TRUE(is(disk, v_.expected.writing)) << text(disk);
        if (!disk) { return expect_untouched(); }
        EXPECT_TRUE(on_.wait(disk->close()));
        EXPECT_LE(on_.size(), align_up(image_.bytes.size(), image_.cluster()));
        std::vector<std::byte> now = on_.bytes();
        now.resize(image_.bytes.size());
        if (image_.header().version == 3) {
            std::copy_n(image_.bytes.begin() + 88, 8, now.begin() + 88);
        }
        EXPECT_TRUE(now == image_.bytes);
    }

    /// A malformed entry closes the image for writing, also if a read meets it.
    void reads_as_writer() {
        qcow2::open_options how = how_;
        how.write = true;
        auto disk = on_.open(how);
        if (!disk) { return; }
        const result<void> r = read_all(*disk);
        EXPECT_TRUE(is(r, v_.expected.read)) << text(r);
        const bool entry = v_.expected.read && *v_.expected.read != errc::compressed_data;
        const std::uint64_t sound = crafted_image::data_too * image_.cluster();
        const result<void> after = write_sector(*disk, sound);
        EXPECT_TRUE(is(after, entry ? refusal(errc::read_only) : refusal())) << text(after);
        EXPECT_TRUE(on_.wait(disk->close()));
    }

    void writes() {
        qcow2::open_options how = how_;
        how.write = true;
        std::optional<error> told;
        how.on_damage = [&told](error why) { told = why; };
        auto disk = on_.open(how);
        if (!disk) { return; }
        result<void> r = write_sector(*disk, v_.at);
        EXPECT_TRUE(is(r, v_.expected.write)) << text(r);
        r = write_sector(*disk, crafted_image::hole * image_.cluster());
        EXPECT_TRUE(is(r, v_.expected.next)) << text(r);
        auto flush = disk->flush();
        EXPECT_TRUE(async::sync_wait(flush));
        EXPECT_TRUE(on_.wait(disk->close()));
        const bool v3 = image_.header().version == 3;
        const auto header = static_cast<std::ptrdiff_t>(
            std::min<std::uint64_t>(image_.cluster(), image_.bytes.size()));
        std::vector<std::byte> now(static_cast<std::size_t>(header));
        on_.io.content("image").read(0, now.data(), now.size());
        EXPECT_EQ(told.has_value(), v_.expected.marked);
        EXPECT_EQ(v3 && (std::to_integer<int>(now[79]) & 2) != 0, v3 && v_.expected.marked);
        // In the header only what a writer has to change differs.
        std::copy_n(image_.bytes.begin() + 48, 12, now.begin() + 48); // refcount table
        if (v3) {
            std::copy_n(image_.bytes.begin() + 72, 8, now.begin() + 72); // corrupt bit
            std::copy_n(image_.bytes.begin() + 88, 8, now.begin() + 88); // autoclear bits
        }
        EXPECT_TRUE(std::equal(now.begin(), now.end(), image_.bytes.begin()));
        if (std::holds_alternative<verdict>(v_.expected.check) &&
            std::get<verdict>(v_.expected.check) == verdict::clean && !v_.expected.marked) {
            const auto found = on_.check();
            ASSERT_TRUE(found) << text(found);
            // Bitmaps without their autoclear bit leak.
            const bool no_harm = found->corruptions == 0 && found->check_errors == 0;
            EXPECT_TRUE(no_harm && found->leaks <= 3) << first_of(*found);
        }
    }

    /// Image, loop and backend are destroyed with requests in flight, perhaps while the image is
    /// marked as corrupt: each request completes.
    void leaves_while_it_writes() {
        struct asked {
            std::optional<stage::image_type::request> request;
            std::vector<std::byte> buffer = std::vector<std::byte>(1024, std::byte{0xab});
            bool ended = false;
        };
        qcow2::open_options how = how_;
        how.write = true;
        how.grow_ahead = 1 << 20;
        for (unsigned steps = 0; steps < 5; ++steps) {
            std::vector<asked> all(4);
            stage on({.deferred = true});
            on.io.restore(made_);
            auto disk = on.open(how);
            if (!disk) { return; }
            const std::uint64_t hole = crafted_image::hole * image_.cluster();
            const std::uint64_t places[] = {v_.at, hole, v_.at, hole + 700};
            for (std::size_t i = 0; i < all.size(); ++i) {
                asked& a = all[i];
                const auto verb = i == 2 ? device::verb::read : device::verb::write;
                a.request.emplace(disk->engine(), verb, guest_offset{places[i]},
                                  std::span(a.buffer));
                const auto on_end = [](void* self, result<void>) noexcept {
                    static_cast<asked*>(self)->ended = true;
                };
                a.request->start(on_end, &a);
            }
            for (unsigned i = 0; i < steps; ++i) { on.io.wait(); }
            {
                const auto leaves = std::move(*disk);
            }
            on.leave();
            for (const asked& a : all) { EXPECT_TRUE(a.ended) << steps; }
        }
    }

    void repairs() {
        const auto done = on_.repair();
        if (const auto* why = std::get_if<errc>(&v_.expected.repair)) {
            EXPECT_TRUE(is(done, *why)) << text(done);
            return expect_untouched();
        }
        ASSERT_TRUE(done) << text(done);
        const auto expected = std::get<repaired>(v_.expected.repair);
        EXPECT_EQ(static_cast<int>(done->outcome), static_cast<int>(expected))
            << first_of(done->found);
        if (expected == repaired::refused) { return expect_untouched(); }
        const auto found = on_.check();
        ASSERT_TRUE(found) << text(found);
        EXPECT_TRUE(found->is_clean()) << first_of(*found);
    }

    static std::string first_of(const qcow2::check_report& found) {
        return found.findings.empty() ? "nothing found" : found.findings.front().text;
    }

    const variant& v_;
    crafted_image image_;
    stage on_;
    io::memory::disk made_;
    std::uint64_t read_limit_ = 0;
    qcow2::open_options how_;
};

class rows : public ::testing::TestWithParam<unsigned> {
  protected:
    static void TearDownTestSuite() {
        using ms = std::chrono::duration<double, std::milli>;
        std::cout << "slowest: row " << case_of::slowest_name << ", "
                  << ms(case_of::slowest).count() << " ms; most memory: row "
                  << case_of::heap_name << ", " << case_of::heap / 1024 << " KiB\n";
    }
};

TEST_P(rows, have_the_outcome_stated) {
    unsigned variants_of_it = 0;
    for (const variant& v : variants()) {
        if (v.row != GetParam()) { continue; }
        ++variants_of_it;
        case_of(v).run();
    }
    EXPECT_NE(variants_of_it, 0U);
}
INSTANTIATE_TEST_SUITE_P(hostile, rows, ::testing::Range(1U, row_count + 1),
                         [](const auto& row) {
                             return "row_" + std::to_string(row.param) + '_' +
                                    row_names[row.param];
                         });

// Limits that a program may lower, one by one: just enough opens, one less is refused before memory
// is taken for it.

struct lowered {
    const char* name;
    void (*lower)(qcow2::layout::limits& most, const crafted_image& i, unsigned by);
    errc why;
    bool checks = false; ///< the check reports something nevertheless
    bool of_writers = false; ///< only writers need what is limited
    friend void PrintTo(const lowered& l, std::ostream* to) { *to << l.name; }
};

constexpr lowered each_limit[] = {
    {"cluster_bits",
     [](auto& most, const auto& i, unsigned by) { most.cluster_bits = i.how().cluster_bits - by; },
     errc::cluster_bits},
    {"l1_bytes", [](auto& most, const auto&, unsigned by) { most.l1_bytes = 2 * 8 - by; },
     errc::l1_too_large},
    {"refcount_table_bytes",
     [](auto& most, const auto& i, unsigned by) { most.refcount_table_bytes = i.cluster() - by; },
     errc::refcount_table_too_large},
    {"snapshots", [](auto& most, const auto&, unsigned by) { most.snapshots = 1 - by; },
     errc::snapshot_table_too_large},
    {"snapshot_table_bytes",
     [](auto& most, const auto&, unsigned by) { most.snapshot_table_bytes = 71 - by; },
     errc::snapshot_table_too_large, true},
    {"snapshot_extra_bytes",
     [](auto& most, const auto&, unsigned by) { most.snapshot_extra_bytes = 24 - by; },
     errc::snapshot_malformed, true},
    {"snapshot_l1_bytes",
     [](auto& most, const auto&, unsigned by) { most.snapshot_l1_bytes = 2 * 8 - by; },
     errc::snapshot_l1_too_large, false, true},
    {"bitmaps", [](auto& most, const auto&, unsigned by) { most.bitmaps = 1 - by; },
     errc::extension_malformed},
    {"bitmap_directory_bytes",
     [](auto& most, const auto&, unsigned by) { most.bitmap_directory_bytes = 32 - by; },
     errc::extension_malformed},
};

class limits : public ::testing::TestWithParam<lowered> {};

TEST_P(limits, are_held) {
    const crafted_image image;
    stage on;
    for (const unsigned by : {0U, 1U}) {
        SCOPED_TRACE(by);
        on.set("image", image.bytes);
        const refusal why = by != 0 ? refusal(GetParam().why) : refusal();
        qcow2::layout::limits most;
        GetParam().lower(most, image, by);
        const auto found = on.wait(
            qcow2::check(on.io, on.loop.get_executor(), "image", {.limits = most}));
        const bool writers = GetParam().of_writers;
        EXPECT_TRUE(is(found, GetParam().checks || writers ? refusal() : why)) << text(found);
        if (found) { EXPECT_EQ(found->check_errors, writers ? 0 : by); }
        EXPECT_TRUE(is(on.open({.limits = most}), writers ? refusal() : why));
        EXPECT_TRUE(is(on.open({.write = true, .bitmaps = qcow2::bitmaps::invalidate,
                                .limits = most}),
                       why));
    }
}
INSTANTIATE_TEST_SUITE_P(hostile, limits, ::testing::ValuesIn(each_limit),
                         [](const auto& of) { return std::string(of.param.name); });

/// The work of a check is bounded by the bytes that it would read.
TEST(limits_of_a_check, bound_what_it_reads) {
    const crafted_image image;
    stage on;
    on.set("image", image.bytes);
    const auto check = [&](std::uint64_t most) {
        on.io.reset_counters();
        return on.wait(qcow2::check(on.io, on.loop.get_executor(), "image", {.max_read = most}));
    };
    ASSERT_TRUE(check(~std::uint64_t{0}));
    // Refcount table and block, three L2 tables, two L1 tables of two entries, a snapshot's entry,
    // bitmap directory and table.
    const std::uint64_t all = 5 * image.cluster() + 2 * 16 + 72 + 32 + 8;
    EXPECT_TRUE(check(all));
    EXPECT_TRUE(is(check(all - 1), errc::too_much_to_check));
    for (std::uint64_t most = 0; most < all; most += 500) {
        EXPECT_TRUE(is(check(most), errc::too_much_to_check)) << most;
        // And the header's cluster, twice at most.
        EXPECT_LE(on.io.counters().bytes(io::opcode::read), most + 2 * image.cluster()) << most;
    }
}

std::uint64_t times_asked;
std::uint64_t time_is_over; ///< after so many readings of the clock
std::chrono::steady_clock::time_point clock_that_is_asked() {
    return std::chrono::steady_clock::time_point(std::chrono::hours(
        ++times_asked >= time_is_over ? 2 : 1));
}

/// The time of a check is bounded, and that of a repair until it writes: whenever the time is over,
/// nothing has changed.
TEST(limits_of_a_check, bound_how_long_it_takes) {
    crafted_image image;
    stage on;
    qcow2::check_options how{.max_time = std::chrono::hours(1), .clock = &clock_that_is_asked};
    // Once at the beginning. Before each of: refcount table and blocks, the L1 table, the
    // snapshot's L1 table, the L2 tables, the bitmap directory and the bitmap's table. Before the
    // refcount blocks and the L2 tables are read, 64 at a time. And the snapshot table.
    constexpr std::uint64_t all = 1 + 6 + 2 + 1;
    const auto ends = [&](const auto& r, std::uint64_t when) {
        EXPECT_TRUE(is(r, time_is_over <= when ? refusal(errc::out_of_time) : refusal()))
            << time_is_over << ": " << text(r);
        EXPECT_LE(times_asked, time_is_over) << "it has gone on";
    };
    for (time_is_over = 2; time_is_over <= all + 3; ++time_is_over) {
        times_asked = 0;
        on.set("image", image.bytes);
        ends(on.wait(qcow2::check(on.io, on.loop.get_executor(), "image", how)), all);
    }
    // A wrong flag: the L2 tables are read once more before anything is written.
    image.set(image.entry(guest::data), image.get(image.entry(guest::data)) ^ guest::copied);
    for (time_is_over = 2; time_is_over <= all + 3; ++time_is_over) {
        times_asked = 0;
        on.set("image", image.bytes);
        ends(on.wait(qcow2::repair(on.io, on.loop.get_executor(), "image", {.check = how})),
             all + 1);
        EXPECT_EQ(on.bytes() == image.bytes, time_is_over <= all + 1);
    }
    // With the real clock: no time at all.
    const auto real = on.wait(qcow2::check(on.io, on.loop.get_executor(), "image",
                                           {.max_time = std::chrono::nanoseconds(0)}));
    EXPECT_TRUE(is(real, errc::out_of_time));
}

/// A snapshot's L1 table beyond the limits is not read, and no leak is reported.
TEST(limits_of_a_check, hold_for_snapshots) {
    crafted_image image;
    image.set<std::uint32_t>(image.snapshots + 8, 3);
    stage on;
    on.set("image", image.bytes);
    const auto found = on.wait(
        qcow2::check(on.io, on.loop.get_executor(), "image", {.limits = {.l1_bytes = 16}}));
    ASSERT_TRUE(found) << text(found);
    EXPECT_EQ(found->check_errors, 1U);
    EXPECT_EQ(found->corruptions, 0U);
    EXPECT_EQ(found->leaks, 0U);
}

// The README's tables: each row has a case here, each case a row there, and each cell says what
// happens.

/// The error code that the README names.
errc code_of(const std::string& name) {
    static const std::map<std::string, errc> codes = {
        {"format_missing", errc::format_missing},
        {"reference_refused", errc::reference_refused},
        {"backing_format_unknown", errc::backing_format_unknown},
        {"protocol_not_supported", errc::protocol_not_supported},
        {"compression_type", errc::compression_type},
        {"dirty_image", errc::dirty_image},
        {"corrupt_image", errc::corrupt_image},
        {"size_unaligned", errc::size_unaligned},
        {"tables_overlap", errc::tables_overlap},
        {"refcount_too_low", errc::refcount_too_low},
        {"bitmaps_present", errc::bitmaps_present},
        {"extended_l2", errc::extended_l2},
        {"external_data_file", errc::external_data_file},
        {"encrypted", errc::encrypted},
        {"unknown_features", errc::unknown_features},
        {"cluster_bits", errc::cluster_bits},
        {"l1_too_large", errc::l1_too_large},
        {"refcount_table_too_large", errc::refcount_table_too_large},
        {"snapshot_table_too_large", errc::snapshot_table_too_large},
        {"snapshot_malformed", errc::snapshot_malformed},
        {"snapshot_l1_too_large", errc::snapshot_l1_too_large},
        {"snapshots_left_out", errc::snapshots_left_out},
        {"extension_malformed", errc::extension_malformed}};
    const auto found = codes.find(name);
    EXPECT_NE(found, codes.end()) << name;
    return found != codes.end() ? found->second : errc::injected;
}

/// The cells of the table under a heading of the README, row by row.
std::vector<std::vector<std::string>> readme_table(const std::string& first_heading) {
    const auto readme =
        std::filesystem::path(__FILE__).parent_path().parent_path().parent_path() / "README.md";
    std::ifstream from(readme);
    EXPECT_TRUE(from) << readme;
    std::vector<std::vector<std::string>> rows_of_it;
    bool inside = false;
    for (std::string line; std::getline(from, line);) {
        if (line.starts_with("| " + first_heading + " |")) {
            inside = true;
            std::getline(from, line); // | --- |
        } else if (inside && line.starts_with("| ")) {
            auto& cells = rows_of_it.emplace_back();
            for (std::size_t at = 2, end; (end = line.find(" |", at)) != line.npos; at = end + 3) {
                cells.push_back(line.substr(at, end - at));
            }
        } else if (inside) {
            break;
        }
    }
    return rows_of_it;
}

const variant& row_of(unsigned number, const std::string& name) {
    const auto found = std::ranges::find_if(variants(), [&](const variant& v) {
        return v.row == number && v.name == name;
    });
    EXPECT_NE(found, variants().end()) << number << ' ' << name;
    return *found;
}

variant sound(const craft& how, std::uint64_t at = 0) {
    return {0, "sound", [](crafted_image&, files& f) { f["b"] = detail::filled(4096); }, {}, how,
            at, how.backing_file.empty() ? qcow2::references::refuse : qcow2::references::follow};
}

std::map<std::string, std::vector<variant>> cases_of_the_readme() {
    std::map<std::string, std::vector<variant>> all;
    const craft over_raw{.backing_file = "b", .backing_format = "raw"};
    all["version 2, version 3"] = {sound({.version = 2}), sound({.version = 3})};
    auto& sizes = all["clusters of 512 bytes to 2 MiB"];
    for (std::uint32_t bits = 9; bits <= 21; bits += 3) { sizes.push_back(sound({3, bits})); }
    auto& widths = all["refcounts of 1, 2, 4, 8, 16, 32, 64 bits"];
    for (std::uint32_t order = 0; order <= 6; ++order) {
        widths.push_back(sound({.refcount_order = order}));
    }
    auto& backed = all["backing files, qcow2 and raw, where the open policy follows them"];
    backed = {sound(over_raw), sound({.backing_file = "c", .backing_format = "qcow2"})};
    backed[1].damage = [](crafted_image&, files& f) { f["c"] = crafted_image().bytes; };
    all["… whose format neither image nor caller names"] = {row_of(27, "nowhere")};
    all["… of another format (vmdk, luks, …)"] = {row_of(27, "unknown")};
    all["… named by a protocol (`nbd:`, `json:`, …) other than `file:`"] = {
        row_of(24, "other_protocol")};
    all["… by default (`references::refuse`)"] = {row_of(25, "refused")};
    all["zero clusters, preallocated clusters"] = {sound({}, guest::zero * 4096),
                                                   sound({}, guest::zero_kept * 4096)};
    all["compressed clusters, deflate"] = {sound({}, guest::packed * 4096)};
    all["compressed clusters, zstd"] = {row_of(13, "zstd")};
    all["internal snapshots"] = {sound({}, guest::shared * 4096)};
    all["… whose table is damaged"] = {row_of(38, "extra_data_of_1025_bytes"),
                                       row_of(38, "name_past_the_end")};
    all["… without looking at it (`without_snapshots`)"] = {
        row_of(38, "without_extra_data_of_1025_bytes"), row_of(38, "without_a_sound_one")};
    auto& lazy = all["lazy refcounts"];
    lazy = {sound({})};
    lazy[0].damage = [](crafted_image& i, files&) {
        i.change_header([](auto& h) { h.compatible_features = 1; });
    };
    all["marked dirty"] = {row_of(9, "set")};
    all["marked corrupt"] = {row_of(8, "set")};
    all["virtual size that is no multiple of 512"] = {row_of(17, "one_byte_less")};
    all["tables that overlap"] = {row_of(22, "refcount_table_and_bitmaps"), row_of(50, "shared"),
                                  row_of(41, "is_the_l1_table")};
    all["bitmaps"] = {sound({})};
    all["… given up (`bitmaps::invalidate`)"] = {sound({})};
    auto& uncounted = all["data behind all others with refcount 0"];
    uncounted = {sound({})};
    uncounted[0].damage = [](crafted_image& i, files&) {
        const std::uint64_t at = i.take(1);
        i.set_refcount(at / i.cluster(), 0);
        i.set(i.entry(guest::hole), at | guest::copied);
    };
    all["unknown header fields, extensions, compatible features"] = {
        row_of(6, "kept"), row_of(37, "kept"), row_of(11, "bit_40"),
        row_of(59, "all_that_is_unknown")};
    all["unknown autoclear features"] = {row_of(10, "bits_9_and_63")};
    all["extended L2 entries"] = {row_of(46, "refused")};
    all["external data file"] = {row_of(28, "refused"), row_of(29, "with_the_bit")};
    all["encryption (AES, LUKS)"] = {row_of(14, "aes"), row_of(14, "luks")};
    all["unknown incompatible features"] = {row_of(7, "bit_40")};
    return all;
}

TEST(readme, says_what_is_supported) {
    auto cases = cases_of_the_readme();
    const auto refused_by = [](const std::string& cell) -> refusal {
        const std::string refused = "refused: `";
        if (!cell.starts_with(refused)) { return {}; }
        return code_of(cell.substr(refused.size(), cell.size() - refused.size() - 1));
    };
    for (const std::vector<std::string>& row : readme_table("in the image")) {
        ASSERT_EQ(row.size(), 3U);
        SCOPED_TRACE(row[0]);
        const auto made = cases.extract(row[0]);
        EXPECT_FALSE(made.empty()) << "the README claims it, and nothing here holds it";
        if (made.empty()) { continue; }
        const refusal reading = refused_by(row[1]);
        const refusal writing = row[2] == "refused" ? reading : refused_by(row[2]);
        for (const variant& v : made.mapped()) {
            SCOPED_TRACE(v.name);
            crafted_image image(v.made_of);
            files beside;
            v.damage(image, beside);
            stage on;
            on.set("image", image.bytes);
            for (const auto& [name, bytes] : beside) { on.set(name, bytes); }
            const auto bitmaps = row[0] == "bitmaps" ? qcow2::bitmaps::refuse
                                                     : qcow2::bitmaps::invalidate;
            qcow2::open_options how{.references = v.policy,
                                    .bitmaps = bitmaps,
                                    .without_snapshots = v.without_snapshots,
                                    .inflate = &qcow2::zlib_inflate};
            auto disk = on.open(how);
            EXPECT_TRUE(is(disk, reading)) << text(disk);
            if (disk) { EXPECT_TRUE(on.wait(disk->close())); }
            how.write = true;
            disk = on.open(how);
            EXPECT_TRUE(is(disk, writing)) << text(disk);
            if (!disk) { continue; }
            EXPECT_TRUE(read_all(*disk));
            EXPECT_TRUE(write_sector(*disk, v.at));
            EXPECT_TRUE(on.wait(disk->close()));
            EXPECT_EQ(on.check()->corruptions, 0U);
        }
    }
    for (const auto& [row, made] : cases) {
        ADD_FAILURE() << "not in the README: " << row;
    }
}

TEST(readme, says_what_the_limits_are) {
    std::map<std::string, errc> held;
    for (const lowered& l : each_limit) { held.emplace("`" + std::string(l.name) + "`", l.why); }
    for (const std::vector<std::string>& row : readme_table("limit")) {
        ASSERT_EQ(row.size(), 3U);
        SCOPED_TRACE(row[0]);
        ASSERT_EQ(held.count(row[0]), 1U);
        EXPECT_TRUE(error(held[row[0]]) == code_of(row[2].substr(1, row[2].size() - 2)));
        held.erase(row[0]);
    }
    EXPECT_TRUE(held.empty()) << "not in the README: " << held.begin()->first;
}

// What the rows about operations require beside their outcome above.

class operations : public ::testing::Test {
  protected:
    stage::image_type open(stage& on, qcow2::open_options how = {.write = true}) {
        how.bitmaps = qcow2::bitmaps::invalidate;
        auto opened = on.open(how);
        EXPECT_TRUE(opened) << text(opened);
        return *std::move(opened);
    }
    void close(stage& on, stage::image_type& disk) { EXPECT_TRUE(on.wait(disk.close())); }

    crafted_image image;
    std::vector<std::byte> sector = std::vector<std::byte>(512, std::byte{0xab});
};

TEST_F(operations, row_56_request_out_of_range) {
    stage on;
    image.change_header([](auto& h) { h.autoclear_features = 0; });
    on.set("image", image.bytes);
    auto disk = open(on);
    // Never accessed: no machine has that much memory.
    const std::span<std::byte> huge(sector.data(), std::size_t{1} << 40);
    const std::uint64_t end = disk.size();
    for (const std::uint64_t at : {end - 511, end, end + 1, std::uint64_t{1} << 63,
                                   ~std::uint64_t{0} - 511, ~std::uint64_t{0}}) {
        EXPECT_TRUE(is(read(disk, at, sector), errc::out_of_range)) << at;
        EXPECT_TRUE(is(write_sector(disk, at), errc::out_of_range)) << at;
        EXPECT_TRUE(is(read(disk, at, huge), errc::out_of_range)) << at;
    }
    EXPECT_TRUE(is(read(disk, 0, huge), errc::out_of_range));
    EXPECT_TRUE(read(disk, end, {}));
    close(on, disk);
    EXPECT_TRUE(on.bytes() == image.bytes);
}

TEST_F(operations, row_58_ends_within_a_cluster) {
    stage on;
    const std::uint64_t last = image.header().tables().l1_reach();
    image.set(qcow2::layout::field::size, last + 512);
    on.set("image", image.bytes);
    auto disk = open(on);
    EXPECT_TRUE(is(read(disk, last + 1, sector), errc::out_of_range));
    EXPECT_TRUE(is(write_sector(disk, last + 512), errc::out_of_range));
    EXPECT_TRUE(write_sector(disk, last));
    close(on, disk);
    const std::uint64_t host = image.get(image.l2_too) & ~crafted_image::copied;
    const std::vector<std::byte> now = on.bytes();
    EXPECT_EQ(now[host], std::byte{0xab});
    EXPECT_EQ(now[host + 512], image.bytes[host + 512]) << "beyond the disk's end";
}

TEST_F(operations, row_60_another_writer_is_kept_out) {
    stage on;
    on.set("image", image.bytes);
    auto disk = open(on);
    EXPECT_TRUE(is(on.open({.write = true}), errc::held_for_writing));
    EXPECT_TRUE(is(on.open({}), errc::held_for_writing));
    EXPECT_TRUE(is(on.check(), errc::held_for_writing));
    EXPECT_TRUE(is(on.repair(), errc::held_for_writing));
    close(on, disk);
}

/// The backends read zeroes past a file's end. So does a reader of a file that shrinks (the
/// contract's line *past_end*), instead of returning the old content of a buffer.
TEST_F(operations, row_60_the_file_shrinks) {
    stage on;
    on.set("image", image.bytes);
    auto disk = open(on, {});
    EXPECT_TRUE(read(disk, 0, sector));
    EXPECT_NE(sector[0], std::byte{0});
    on.io.content("image").truncate(image.first_data);
    EXPECT_TRUE(read(disk, 0, sector));
    EXPECT_EQ(sector, std::vector<std::byte>(512));
    close(on, disk);
}

/// Formats are never probed: a raw disk stays raw, whatever its guest writes to the first sector.
TEST_F(operations, row_61_raw_with_magic) {
    stage on;
    on.set("image", std::vector<std::byte>(image.bytes.size()));
    for (int time = 0; time < 2; ++time) {
        auto opened = on.wait(raw::open(on.io, on.loop.get_executor(), "image", {.write = true}));
        ASSERT_TRUE(opened) << text(opened);
        EXPECT_EQ(opened->size(), image.bytes.size());
        auto write = opened->write({0}, image.bytes);
        EXPECT_TRUE(async::sync_wait(write));
        EXPECT_TRUE(on.wait(opened->close()));
    }
    EXPECT_TRUE(on.bytes() == image.bytes);
}

TEST_F(operations, row_62_unaligned_direct_io) {
    stage on({.limits = {4096, 4096}});
    image.bytes.resize(image.bytes.size() - 1000);
    on.set("image", image.bytes);
    auto disk = open(on, {.write = true, .direct = true, .inflate = &qcow2::zlib_inflate});
    std::vector<std::byte> buffer(5003);
    for (std::uint64_t at = 1; at < 10 * image.cluster(); at += 4999) {
        EXPECT_TRUE(read(disk, at, std::span(buffer).subspan(3))) << at;
        auto write = disk.write({at}, std::span<const std::byte>(buffer).subspan(3));
        EXPECT_TRUE(async::sync_wait(write)) << at;
    }
    EXPECT_TRUE(read_all(disk));
    close(on, disk);
}

} // namespace
} // namespace gaur::test::hostile
