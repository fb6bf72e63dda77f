// SPDX-License-Identifier: BSL-1.0
// Damaged images, repaired: clean for `qemu-img check`, with the guest's bytes unchanged, if
// `qemu-img check -r` repairs the same damage; otherwise not changed.
#include "support/damaged.hpp"
#include "support/interop.hpp"

#include <gaur/qcow2/repair.hpp>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace gaur::test {
namespace {

using outcome = qcow2::repair_outcome;
using scope = qcow2::repair_scope;

constexpr std::uint64_t copied = std::uint64_t{1} << 63;

/// What the guest reads of an image, and of its snapshots.
std::vector<std::vector<std::byte>> contents(const std::string& image) {
    const scratch_folder folder;
    std::vector<std::vector<std::byte>> all;
    for (const std::string what : {"", "-l snapshot.name=one", "-l snapshot.name=two"}) {
        expect_runs("qemu-img convert -U -f qcow2 -O raw " + what + ' ' + image + ' ' +
                    folder.file("raw"));
        all.push_back(read_file(folder.file("raw")));
    }
    return all;
}

struct expected {
    scope what = scope::all;
    qcow2::repair_outcome outcome = outcome::mended;
    bool qemu_mends = true;
    bool same_figures = true; ///< of the repairs
    /// If two active entries name one cluster and one of them has been written, the other lacks its
    /// COPIED flag: with QEMU too.
    bool then_write = true;
};

class repaired : public ::testing::Test {
  protected:
    void SetUp() override { GAUR_NEEDS_QEMU_IMG(); }

    using change = std::function<void(damaged&)>;
    static void compare(const char* name, const change& damage, const expected& e = {}) {
        SCOPED_TRACE(name);
        for (const char* options :
             {"cluster_size=64k,compat=0.10", "cluster_size=16k,refcount_bits=8",
              "cluster_size=4k,refcount_bits=64"}) {
            SCOPED_TRACE(options);
            static std::map<std::string, std::vector<std::byte>> made;
            const scratch_folder folder;
            const std::string ours = folder.file("ours.qcow2");
            std::vector<std::byte>& original = made[options];
            if (original.empty()) {
                // `qemu-img check -r` of 7.2 loses all snapshots of an image that has bitmaps.
                make_many_kinds(ours, options, false);
                original = read_file(ours);
            }
            write_file(ours, original);
            damaged d(ours);
            damage(d);
            compare_repairs(d.bytes, folder, e);
        }
    }

    static void compare_repairs(const std::vector<std::byte>& bytes, const scratch_folder& folder,
                                const expected& e) {
        const std::string ours = folder.file("ours.qcow2");
        const std::string theirs = folder.file("theirs.qcow2");
        write_file(ours, bytes);
        write_file(theirs, bytes);
        const auto io = *io::sync::backend::make();
        driver<io::sync::backend> disks(*io);
        const auto r = disks.wait(
            qcow2::repair(*io, disks.get_executor(), ours, {.scope = e.what}));
        ASSERT_TRUE(r) << r.error().message();
        EXPECT_EQ(r->outcome, e.outcome) << (r->obstacle() ? r->obstacle()->text : "");
        const qemu_verdict qemu =
            qemu_check(theirs, e.what == scope::all ? "-r all" : "-r leaks");
        EXPECT_EQ(qemu.exit_code == 0, e.qemu_mends) << qemu.said;
        const qemu_verdict after = qemu_check(ours);
        if (r->outcome == outcome::mended || r->outcome == outcome::sound) {
            EXPECT_EQ(after.exit_code, 0) << after.said;
            const auto again = disks.check(ours);
            ASSERT_TRUE(again);
            expect_same_verdict(*again, after);
            // Raw copies of a damaged image need not be readable, but an image that QEMU repaired
            // is.
            if (e.qemu_mends) { EXPECT_TRUE(contents(ours) == contents(theirs)); }
            if (e.qemu_mends && e.same_figures) {
                EXPECT_EQ(r->leaks_fixed, qemu.leaks_fixed) << qemu.said;
                EXPECT_EQ(r->corruptions_fixed, qemu.corruptions_fixed) << qemu.said;
            }
            if (!e.then_write) { return; }
            // Both programs can write to the image.
            expect_runs("qemu-io -f qcow2 -c 'write -P 9 1M 1M' " + ours);
            EXPECT_EQ(qemu_check(ours).exit_code, 0);
            ASSERT_TRUE(disks.write(ours, load::random(3, 5 << 20, 40, 100'000), 8));
            EXPECT_EQ(qemu_check(ours).exit_code, 0);
        } else if (r->outcome == outcome::refused) {
            EXPECT_TRUE(read_file(ours) == bytes) << "it was touched";
        }
    }
};

TEST_F(repaired, sound) {
    compare("marked dirty or corrupt",
            [](damaged& d) {
                if (d.head.version == 3) { d.flip(qcow2::layout::field::incompatible_features, 3); }
            },
            {.outcome = outcome::sound});
}

void make_leaks(damaged& d) {
    const std::uint64_t end = align_up(d.bytes.size(), d.cluster()) / d.cluster();
    d.bytes.resize((end + 3) * d.cluster());
    d.set_refcount(end + 1, 1);
    d.set_refcount(end + 2, 7);
    // Refcounts of shared data, and of data that is not shared.
    d.set_refcount(damaged::offset(d.get(d.find_l2(is_own_data))) / d.cluster(), 2);
    d.set_refcount(damaged::offset(d.get(d.find_l2([](std::uint64_t e) {
                       return is_data(e) && e >> 63 == 0;
                   }))) / d.cluster(), 9);
}

TEST_F(repaired, leaks) {
    compare("leaks", make_leaks, {.what = scope::leaks});
    compare("leaks, repairing all", make_leaks);
}

TEST_F(repaired, leaks_that_flags_follow) {
    const auto unflagged = [](damaged& d) {
        const std::uint64_t entry = d.find_l2(is_own_data);
        d.set_refcount(damaged::offset(d.get(entry)) / d.cluster(), 2);
        d.flip(entry, copied);
    };
    compare("unflagged", unflagged, {.what = scope::leaks, .same_figures = false});
    compare("unflagged, repairing all", unflagged);
}

TEST_F(repaired, refcounts_too_low) {
    const auto lower = [](damaged& d) {
        d.set_refcount(damaged::offset(d.get(d.find_l2([](std::uint64_t e) {
                           return is_data(e) && e >> 63 == 0;
                       }))) / d.cluster(), 1);
    };
    compare("1 instead of more", lower);
    compare("0", [](damaged& d) {
        d.set_refcount(0, 0);
        d.set_refcount(d.l1() / d.cluster(), 0);
        d.set_refcount(damaged::offset(d.get(d.find_l2(is_own_data))) / d.cluster(), 0);
    });
    compare("beside leaks", [=](damaged& d) {
        make_leaks(d);
        d.set_refcount(d.head.snapshots_offset / d.cluster(), 0);
    });
}

TEST_F(repaired, leaks_beside_corruptions) {
    compare("leaks beside corruptions",
            [](damaged& d) {
                make_leaks(d);
                d.set_refcount(d.head.snapshots_offset / d.cluster(), 0);
            },
            {.what = scope::leaks, .outcome = outcome::corrupt_still, .qemu_mends = false});
}

TEST_F(repaired, flags) {
    const auto flip = [](damaged& d) {
        d.flip(d.l1(), copied);
        d.flip(d.find_l2(is_own_data), copied);
        d.flip(d.find_l2([](std::uint64_t e) { return is_data(e) && e >> 63 == 0; }), copied);
    };
    compare("flags", flip);
    compare("flags, repairing leaks", flip, {.what = scope::leaks});
}

TEST_F(repaired, refcount_structures) {
    compare("refcount of a refcount block", [](damaged& d) {
        d.set_refcount(d.get(d.refcount_table()) / d.cluster(), 2);
    });
    // Here QEMU marks the image as corrupt during the repair, and then refuses to write to it.
    compare("unaligned refcount block",
            [](damaged& d) { d.flip(d.refcount_table(), 512); },
            {.qemu_mends = false});
    compare("no refcount block", [](damaged& d) { d.set(d.refcount_table(), 0); },
            {.same_figures = false});
    compare("refcount block outside",
            [](damaged& d) { d.set(d.refcount_table() + 8, std::uint64_t{1} << 40); },
            {.same_figures = false});
    compare("reserved bits of the refcount table",
            [](damaged& d) { d.flip(d.refcount_table(), 1); }, {.qemu_mends = false});
    compare("garbage in a refcount block", [](damaged& d) {
        const std::uint64_t block = d.get(d.refcount_table());
        for (std::uint64_t i = 0; i < d.cluster(); i += 8) {
            d.set(block + i, i * 0x9e37'79b9'7f4a'7c15);
        }
    }, {.same_figures = false});
}

TEST_F(repaired, shared) {
    compare("two entries for one cluster", [](damaged& d) {
        const std::uint64_t at = d.find_l2(is_own_data);
        d.set(at + 8, d.get(at));
    }, {.then_write = false});
    compare("data over metadata", [](damaged& d) {
        d.set(d.find_l2(is_own_data), d.l1() | copied);
    }, {.same_figures = false});
}

TEST_F(repaired, beyond_repair) {
    const expected refused{.outcome = outcome::refused, .qemu_mends = false};
    compare("unaligned data cluster", [](damaged& d) {
        d.flip(d.find_l2(is_own_data), 512);
    }, refused);
    compare("unaligned l2 table",
            [](damaged& d) { d.flip(d.l1(), 1024); }, refused);
    compare("reserved bits",
            [](damaged& d) { d.flip(d.find_l2(is_own_data), std::uint64_t{1} << 60); }, refused);
    compare("data past the end", [](damaged& d) {
        d.set(d.find_l2(is_own_data), (std::uint64_t{1} << 45) | copied);
    }, refused);
    compare("l2 table past the end",
            [](damaged& d) { d.set(d.l1(), std::uint64_t{1} << 40); }, refused);
    compare("truncated file", [](damaged& d) {
        d.bytes.resize(d.bytes.size() - 3 * d.cluster() - 512);
    }, refused);
}

/// With bitmaps QEMU's repair is no oracle: it loses the snapshots.
TEST_F(repaired, bitmaps_stay) {
    const scratch_folder folder;
    const std::string image = folder.file("image.qcow2");
    make_many_kinds(image, "cluster_size=4k");
    expect_runs("qemu-img bitmap --add -g 4k " + image + " second");
    const auto before = contents(image);
    damaged d(image);
    make_leaks(d);
    d.set_refcount(d.l1() / d.cluster(), 0);
    d.set(d.refcount_table() + 8, 0);
    const auto named = d.head.extension_data(qcow2::layout::extension_magic::bitmaps);
    d.set_refcount(load_be<std::uint64_t>(named.data() + 16) / d.cluster(), 0);
    write_file(image, d.bytes);
    EXPECT_NE(qemu_check(image).exit_code, 0);
    const auto io = *io::sync::backend::make();
    driver<io::sync::backend> disks(*io);
    const auto r = disks.wait(qcow2::repair(*io, disks.get_executor(), image));
    ASSERT_TRUE(r) << r.error().message();
    EXPECT_EQ(r->outcome, outcome::mended);
    EXPECT_EQ(qemu_check(image).exit_code, 0);
    EXPECT_TRUE(contents(image) == before);
    std::string said;
    EXPECT_EQ(run("qemu-img info " + image, &said), 0);
    EXPECT_NE(said.find("name: b"), std::string::npos) << said;
    EXPECT_NE(said.find("name: second"), std::string::npos) << said;
}

TEST_F(repaired, anything) {
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
        SCOPED_TRACE(seed);
        io::seeded random(seed);
        compare("refcounts and flags at random", [&](damaged& d) {
            for (int i = 0; i < 6; ++i) {
                const std::uint64_t at = d.l2(random.below(d.cluster() / 8));
                if (is_data(d.get(at))) { d.flip(at, copied); }
                d.set_refcount(random.below(std::min(d.bytes.size() / d.cluster(),
                                                     d.head.refcounts().entries_per_block(
                                                         d.cluster()))),
                               random.below(3));
            }
        }, {.same_figures = false});
    }
}

} // namespace
} // namespace gaur::test
