// SPDX-License-Identifier: BSL-1.0
// Damaged images: our check reports the same figures as `qemu-img check`.
#include "support/damaged.hpp"
#include "support/interop.hpp"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace gaur::test {
namespace {

class checked : public ::testing::Test {
  protected:
    using change = std::function<void(damaged&)>;

    /// Applies `damage` to a copy of an image of each kind, and compares the verdicts.
    static void compare(const char* name, const change& damage, bool is_harm = true) {
        SCOPED_TRACE(name);
        for (const char* options :
             {"cluster_size=64k", "cluster_size=4k,refcount_bits=32",
              "cluster_size=64k,compat=0.10", "cluster_size=4k,refcount_bits=64"}) {
            SCOPED_TRACE(options);
            static std::map<std::string, std::vector<std::byte>> made;
            const scratch_folder folder;
            const std::string image = folder.file("image.qcow2");
            std::vector<std::byte>& original = made[options];
            if (original.empty()) {
                make_many_kinds(image, options);
                original = read_file(image);
            }
            write_file(image, original);
            damaged d(image);
            damage(d);
            write_file(image, d.bytes);
            const qemu_verdict v = qemu_check(image);
            const auto io = *io::sync::backend::make();
            driver<io::sync::backend> disks(*io);
            auto report = disks.check(image);
            ASSERT_TRUE(report) << report.error().message();
            EXPECT_EQ(report->is_clean(), !is_harm);
            // QEMU refuses an image with a broken bitmap.
            if (v.said.find("Could not open") != std::string::npos) { continue; }
            // Faults that only gaur looks for.
            report->corruptions -= static_cast<std::uint64_t>(
                std::ranges::count_if(report->findings, [](const qcow2::check_finding& f) {
                    return f.text.find("clusters overlap") != std::string::npos;
                }));
            expect_same_verdict(*report, v);
        }
    }
    void SetUp() override { GAUR_NEEDS_QEMU_IMG(); }
};

TEST_F(checked, sound) {
    compare(
        "sound", [](damaged&) {}, false);
    compare(
        "marked dirty or corrupt",
        [](damaged& d) {
            if (d.head.version == 3) { d.flip(qcow2::layout::field::incompatible_features, 3); }
        },
        false);
    compare(
        "zero flag everywhere",
        [](damaged& d) {
            // Version 2 has no such flag: there gaur finds it, and QEMU does not.
            if (d.head.version == 3) { d.flip(d.find_l2(is_own_data), 1); }
        },
        false);
}

TEST_F(checked, refcounts) {
    compare("leaks", [](damaged& d) {
        const std::uint64_t end = d.bytes.size() / d.cluster();
        d.set_refcount(end - 1, 3);
        d.set_refcount(end - 2, 7);
    });
    compare("leak behind the end", [](damaged& d) {
        const std::uint64_t end = d.bytes.size() / d.cluster();
        d.bytes.resize((end + 3) * d.cluster());
        d.set_refcount(end + 1, 1);
        d.set_refcount(end + 2, 1);
    });
    compare("refcounts too low", [](damaged& d) {
        d.set_refcount(0, 0);
        d.set_refcount(d.l1() / d.cluster(), 0);
        const std::uint64_t data = damaged::offset(d.get(d.find_l2(is_own_data)));
        d.set_refcount(data / d.cluster(), 0);
    });
    compare("refcount of a refcount block",
            [](damaged& d) { d.set_refcount(d.get(d.refcount_table()) / d.cluster(), 2); });
}

TEST_F(checked, flags) {
    compare("no copied flag", [](damaged& d) {
        d.flip(d.l1(), std::uint64_t{1} << 63);
        d.flip(d.find_l2(is_own_data), std::uint64_t{1} << 63);
    });
    compare("copied flag on shared and compressed clusters", [](damaged& d) {
        d.flip(d.find_l2([](std::uint64_t e) { return is_data(e) && e >> 63 == 0; }),
               std::uint64_t{1} << 63);
        d.flip(d.find_l2(is_compressed), std::uint64_t{1} << 63);
    });
    compare("reserved bits", [](damaged& d) {
        d.flip(d.l1(), 4);
        d.flip(d.find_l2(is_own_data), std::uint64_t{1} << 60);
        d.flip(d.find_l2([](std::uint64_t e) { return e == 0; }), 2);
    });
    compare("reserved bits of the refcount table",
            [](damaged& d) { d.flip(d.refcount_table(), 1); });
}

TEST_F(checked, places) {
    compare("unaligned data cluster", [](damaged& d) { d.flip(d.find_l2(is_own_data), 512); });
    compare("unaligned zero cluster", [](damaged& d) {
        d.flip(d.find_l2(is_own_data), d.head.version == 3 ? 512 | 1 : 512);
    });
    compare("unaligned l2 table", [](damaged& d) { d.flip(d.l1(), 1024); });
    compare("unaligned refcount block", [](damaged& d) { d.flip(d.refcount_table(), 512); });
    compare("no refcount block", [](damaged& d) { d.set(d.refcount_table(), 0); });
    compare("refcount block outside",
            [](damaged& d) { d.set(d.refcount_table() + 8, std::uint64_t{1} << 40); });
    compare("two entries for one refcount block",
            [](damaged& d) { d.set(d.refcount_table() + 16, d.get(d.refcount_table())); });
    compare("entries past the end", [](damaged& d) {
        const std::uint64_t end = align_up(d.bytes.size(), d.cluster());
        const std::uint64_t copied = std::uint64_t{1} << 63;
        d.set(d.find_l2(is_own_data), end | copied); // one cluster too far
        d.set(d.find_l2(is_compressed), (end + 4 * d.cluster()) | copied);
        d.set(d.find_l2(is_own_data) + 8, (std::uint64_t{1} << 45) | copied);
    });
    compare("compressed cluster past the end",
            [](damaged& d) { d.flip(d.find_l2(is_compressed), std::uint64_t{1} << 36); });
    compare("l2 table past the end", [](damaged& d) { d.set(d.l1(), std::uint64_t{1} << 40); });
}

TEST_F(checked, shared) {
    compare("two entries for one cluster", [](damaged& d) {
        const std::uint64_t at = d.find_l2(is_own_data);
        d.set(at + 8, d.get(at));
        d.set(at + 16, damaged::offset(d.get(at)));
    });
    compare("two entries for one l2 table", [](damaged& d) {
        if (d.head.l1_size > 1) {
            d.set(d.l1() + 8, d.get(d.l1()));
        } else {
            d.flip(d.l1(), std::uint64_t{1} << 63);
        }
    });
    compare("an l1 entry that is a flag only", [](damaged& d) {
        // It makes the header an L2 table, which is full of zero flags. In version 2 gaur reports
        // those.
        if (d.head.version == 3) {
            d.set(d.l1(), std::uint64_t{1} << 63);
        } else {
            d.flip(d.l1(), std::uint64_t{1} << 63);
        }
    });
    compare("data over metadata", [](damaged& d) {
        d.set(d.find_l2(is_own_data), d.refcount_table() | std::uint64_t{1} << 63);
        d.set(d.find_l2(is_own_data) + 8, d.l1());
    });
}

TEST_F(checked, truncated_files) {
    for (const std::uint64_t clusters : {1U, 2U, 5U, 9U}) {
        SCOPED_TRACE(clusters);
        compare("truncated file", [=](damaged& d) {
            d.bytes.resize(d.bytes.size() - clusters * d.cluster() - d.cluster() / 2 - 512);
        });
    }
}

TEST_F(checked, snapshots) {
    compare("snapshot l1 unaligned", [](damaged& d) { d.flip(d.head.snapshots_offset, 512); });
    compare("snapshot l1 too large",
            [](damaged& d) { d.flip(d.head.snapshots_offset + 8, std::uint64_t{0x7f} << 56); });
    compare("snapshot l1 past the end",
            [](damaged& d) { d.flip(d.head.snapshots_offset, std::uint64_t{1} << 40); });
    // The first entry without the extra data that version 3 requires, then none behind it.
    compare("snapshot entry incomplete", [](damaged& d) {
        d.set(d.head.snapshots_offset + 32, d.head.version == 3 ? 8 : 24);
        store_be<std::uint32_t>(&d.bytes[qcow2::layout::field::nb_snapshots], 1);
    });
}

TEST_F(checked, bitmaps) {
    const auto damage = [](std::uint64_t entry) {
        return [=](damaged& d) {
            const auto data = d.head.extension_data(qcow2::layout::extension_magic::bitmaps);
            if (data.empty()) {
                d.flip(d.find_l2(is_own_data), 512); // version 2 has none: other damage
                return;
            }
            const std::uint64_t directory = load_be<std::uint64_t>(data.data() + 16);
            d.set(d.get(directory), entry);
        };
    };
    compare("bitmap table entries", damage(2));
    compare("bitmap table entries", damage((std::uint64_t{1} << 40) | 1));
    compare("bitmap table entries", damage(0x10200));
    compare("bitmap table entries", damage(0x30000)); // a cluster in use
}

TEST_F(checked, anything) {
    for (std::uint64_t seed = 1; seed <= 12; ++seed) {
        SCOPED_TRACE(seed);
        io::seeded random(seed);
        compare("everything at random", [&](damaged& d) {
            for (int i = 0; i < 4; ++i) {
                // In L2 entries and refcounts, so that nothing prevents the image from opening.
                const std::uint64_t bits = d.head.version == 3 ? 0xfe01 : 0xfe00;
                d.set(d.l2(random.below(90)), random.next() & (0xc000'0000'00ff'0000 | bits));
                d.set_refcount(random.below(d.bytes.size() / d.cluster()), random.below(3));
            }
        });
    }
}

} // namespace
} // namespace gaur::test
