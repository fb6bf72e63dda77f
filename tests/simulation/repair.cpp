// SPDX-License-Identifier: BSL-1.0
// The power is cut at any request of a repair. What is left has no more corruptions than before,
// keeps the guest's bytes, including those in snapshots, and can be repaired. And an image with
// arbitrary content in its tables is repaired or left unchanged.
#include "support/reference_image.hpp"
#include "support/simulated_disk.hpp"

#include <gaur/io/fault.hpp>
#include <gaur/qcow2/repair.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

namespace gaur::test {
namespace {

using faulty = io::fault::backend<io::memory::backend>;
using outcome = qcow2::repair_outcome;
using scope = qcow2::repair_scope;

std::uint64_t states_seen = 0;
std::uint64_t images_mended = 0;

template <class Backend>
result<qcow2::repair_report> repair(Backend& io, scope what) {
    exec::inline_loop loop;
    const auto executor = loop.get_executor();
    return sync_wait(io, executor, qcow2::repair(io, executor, "i", {.scope = what}));
}

/// All content that guests can read: the disk, and each snapshot's.
std::vector<std::vector<std::byte>> contents(const reference_image& image) {
    std::vector<std::vector<std::byte>> all(1 + image.snapshot_count());
    for (std::size_t i = 0; i < all.size(); ++i) {
        all[i].resize(image.virtual_size());
        if (i == 0) {
            image.read_over(all[i]);
        } else {
            image.read_snapshot_over(i - 1, all[i]);
        }
    }
    return all;
}

/// An image that one seed has made and damaged.
class damaged_image {
  public:
    explicit damaged_image(std::uint64_t seed) : random_(seed) {
        make();
        const bool leaks_only = random_.below(4) == 0;
        for (std::uint64_t n = 1 + random_.below(6); n > 0; --n) {
            if (leaks_only || random_.below(8) == 0) {
                share_with_nobody();
            } else {
                damage();
            }
        }
        if (random_.below(3) == 0) { resize(bytes_.size() + cluster() * random_.below(9)); }
    }

    const std::vector<std::byte>& bytes() const noexcept { return bytes_; }
    io::memory::options device() const noexcept { return device_; }
    scope what() const noexcept { return what_; }

  private:
    void make() {
        qcow2::create_options how;
        how.cluster_bits = one_of(random_, {9U, 9U, 12U});
        how.version = random_.below(4) == 0 ? 2 : 3;
        how.refcount_bits = how.version == 2 ? 16 : 1U << random_.below(7);
        how.size = (std::uint64_t{1} << how.cluster_bits) * (20 + random_.below(200));
        const std::uint32_t alignment = one_of<std::uint32_t>(random_, {1, 1, 512, 4096});
        device_.limits.offset_alignment = alignment;
        device_.limits.memory_alignment = alignment;
        what_ = random_.below(4) == 0 ? scope::leaks : scope::all;
        io::memory::backend io;
        exec::inline_loop loop;
        const auto executor = loop.get_executor();
        simulation::must(sync_wait(io, executor, qcow2::create(io, executor, "i", how)));
        for (std::uint64_t rounds = 1 + random_.below(3); rounds > 0; --rounds) {
            {
                auto disk = simulation::must(
                    sync_wait(io, executor,
                              qcow2::open(io, executor, "i",
                                          {.write = true,
                                           .inflate = &reference_image::inflate_stored})));
                for (std::uint64_t n = random_.below(12); n > 0; --n) { write(disk); }
                simulation::must(sync_wait(io, executor, disk.close()));
            }
            reference_image image(io.content("i").bytes());
            if (random_.coin()) { image.compress([&] { return random_.below(4) == 0; }); }
            if (random_.coin()) { image.add_snapshot(); }
            io.set_content("i", io::sparse_bytes(image.bytes()));
        }
        bytes_ = io.content("i").bytes();
        head_ = *qcow2::layout::parse(bytes_, bytes_.size());
    }
    template <class Image>
    void write(Image& disk) {
        const std::uint64_t at = random_.below(disk.size());
        std::vector<std::byte> data(1 + random_.below(disk.size() - at));
        data.resize(std::min<std::size_t>(data.size(), 30'000));
        fill_tagged(data, at, static_cast<std::uint32_t>(random_.next()));
        auto writing = disk.write({at}, data);
        simulation::must(sync_wait(writing));
    }

    std::uint64_t cluster() const { return head_.tables().cluster_size(); }
    std::uint64_t get(std::uint64_t at) const { return load_be<std::uint64_t>(&bytes_[at]); }
    void set(std::uint64_t at, std::uint64_t value) { store_be<std::uint64_t>(&bytes_[at], value); }
    void resize(std::uint64_t size) { bytes_.resize(static_cast<std::size_t>(size)); }

    /// Damage that a repair removes and that leaves the guest's bytes unchanged.
    void damage() {
        const auto width = head_.refcounts();
        const std::uint64_t table = head_.refcount_table_offset;
        const std::uint64_t per_block = width.entries_per_block(cluster());
        const std::uint64_t c = random_.below(bytes_.size() / cluster());
        const std::uint64_t entry = table + c / per_block * 8;
        const std::uint64_t block = get(entry);
        switch (random_.below(9)) {
        case 0: // a block is lost, or elsewhere
            if (what_ == scope::all) {
                set(entry, one_of<std::uint64_t>(random_, {0, 1, std::uint64_t{1} << 50}));
            }
            break;
        case 1: // a flag of an L1 entry
            flip_copied(head_.l1_table_offset + random_.below(head_.l1_size) * 8);
            break;
        case 2:
        case 3: { // flags of L2 entries
            const std::uint64_t l2 =
                get(head_.l1_table_offset + random_.below(head_.l1_size) * 8) & offset_bits;
            if (l2 != 0) { flip_copied(l2 + random_.below(cluster() / 8) * 8); }
            break;
        }
        default: // a refcount
            if (block == 0 || block % cluster() != 0 || block >= bytes_.size()) { break; }
            width.set(&bytes_[block], c % per_block,
                      random_.below(std::min<std::uint64_t>(width.max(), 3) + 1));
        }
    }
    /// The state after a partial deletion of a snapshot: one reference, counted twice.
    void share_with_nobody() {
        const auto width = head_.refcounts();
        const std::uint64_t l2 =
            get(head_.l1_table_offset + random_.below(head_.l1_size) * 8) & offset_bits;
        for (std::uint64_t at = l2; l2 != 0 && at < l2 + cluster(); at += 8) {
            const std::uint64_t entry = get(at);
            const std::uint64_t c = (entry & offset_bits) / cluster();
            const std::uint64_t per_block = width.entries_per_block(cluster());
            const std::uint64_t block = get(head_.refcount_table_offset + c / per_block * 8);
            const bool block_is_there = block != 0 && block % cluster() == 0 &&
                                        block < bytes_.size();
            if (entry >> 63 == 0 || c == 0 || !block_is_there || width.max() < 2) { continue; }
            width.set(&bytes_[block], c % per_block, 2);
            return set(at, entry & ~(std::uint64_t{1} << 63));
        }
    }
    void flip_copied(std::uint64_t at) {
        const std::uint64_t entry = get(at);
        if ((entry & offset_bits) != 0 && (entry >> 62 & 1) == 0) {
            set(at, entry ^ std::uint64_t{1} << 63);
        }
    }

    static constexpr std::uint64_t offset_bits = 0x00ff'ffff'ffff'fe00;
    io::seeded random_;
    io::memory::options device_;
    scope what_ = scope::all;
    std::vector<std::byte> bytes_;
    qcow2::layout::header head_;
};

/// A repair of one image, cut at every request.
class cut_repair {
  public:
    explicit cut_repair(std::uint64_t seed)
        : seed_(seed), image_(seed), before_(image_.bytes()), read_before_(contents(before_)),
          corruptions_(before_.check().corruptions) {}

    /// What is wrong; empty if nothing is.
    std::string run() {
        for (std::uint64_t n = 1; wrong_.empty(); ++n) {
            if (!cut_at(n)) { break; }
        }
        return wrong_;
    }

  private:
    /// False if the repair ended before that request.
    bool cut_at(std::uint64_t n) {
        auto inner = io::memory::backend::make(image_.device(), disk_of(image_.bytes()));
        faulty io(*std::move(inner), {.seed = seed_, .record = true});
        io.cut_after(n);
        const auto r = repair(io, image_.what());
        if (!io.is_cut()) {
            if (!r) {
                note("repair: " + r.error().message());
            } else {
                ended(io.inner().content("i").bytes(), *r);
            }
            return false;
        }
        for (std::uint64_t i = 0; i < 6 && wrong_.empty(); ++i) {
            survived(io.survivors(seed_ * 1000 + n * 10 + i));
        }
        return true;
    }

    static memory_disk disk_of(const std::vector<std::byte>& bytes) {
        memory_disk files;
        files.emplace("i", io::sparse_bytes(bytes));
        return files;
    }

    void ended(const std::vector<std::byte>& bytes, const qcow2::repair_report& r) {
        if (r.outcome == outcome::refused) {
            if (bytes != image_.bytes()) { note("refused, but touched"); }
            // A refcount of one bit cannot count the snapshot's reference that a flag implies.
            if (image_.what() == scope::all) { note("refused: " + r.obstacle()->text); }
            return;
        }
        images_mended += r.outcome == outcome::mended ? 1 : 0;
        expect_sound(bytes, r.outcome != outcome::corrupt_still);
    }

    void survived(const memory_disk& files) {
        ++states_seen;
        const std::vector<std::byte> bytes = files.at("i").bytes();
        reference_image image(bytes);
        const auto v = image.check();
        if (v.corruptions > corruptions_) {
            return note(std::to_string(v.corruptions) + " corruptions instead of " +
                        std::to_string(corruptions_) + ": " + v.first);
        }
        if (contents(image) != read_before_) { return note("the guest's bytes are others"); }
        auto made = io::memory::backend::make({}, files);
        const auto again = repair(**made, scope::all);
        if (!again) { return note("the second repair: " + again.error().message()); }
        if (again->outcome == outcome::refused) { return note("the second repair is refused"); }
        expect_sound((*made)->content("i").bytes(), true);
    }

    void expect_sound(const std::vector<std::byte>& bytes, bool whole) {
        reference_image image(bytes);
        const auto v = image.check();
        if (whole && v.corruptions + v.leaks != 0) {
            note("repaired, with " + std::to_string(v.corruptions) + " corruptions and " +
                 std::to_string(v.leaks) + " leaks: " + v.first);
        }
        if (v.corruptions > corruptions_) { note("more corruptions than before: " + v.first); }
        if (contents(image) != read_before_) { note("repaired, but the guest's bytes are others"); }
    }
    void note(const std::string& what) {
        if (wrong_.empty()) { wrong_ = "seed " + std::to_string(seed_) + ": " + what; }
    }

    std::uint64_t seed_;
    damaged_image image_;
    reference_image before_;
    std::vector<std::vector<std::byte>> read_before_;
    std::uint64_t corruptions_;
    std::string wrong_;
};

/// An image with arbitrary content in its tables: repaired, or refused and left unchanged, in
/// bounded work.
std::string repair_anything(std::uint64_t seed) {
    std::vector<std::byte> bytes = damaged_image(seed).bytes();
    io::seeded random(seed * 3 + 1);
    const auto head = *qcow2::layout::parse(bytes, bytes.size());
    const std::uint64_t places[] = {0, head.l1_table_offset, head.refcount_table_offset,
                                    head.snapshots_offset};
    for (std::uint64_t n = 1 + random.below(5); n > 0; --n) {
        // Mostly at important fields; offsets are mostly those of a structure.
        std::uint64_t at = one_of(random, places) + random.below(80);
        if (random.coin()) { at = random.below(bytes.size()); }
        if (at + 8 > bytes.size()) { continue; }
        const std::uint64_t copy = random.below(bytes.size() / 8) * 8;
        std::uint64_t value = load_be<std::uint64_t>(&bytes[copy]);
        if (random.coin()) { value = random.next() >> random.below(64); }
        store_be<std::uint64_t>(&bytes[align_down(at, 8)], value);
    }
    memory_disk files;
    files.emplace("i", io::sparse_bytes(bytes));
    auto io = io::memory::backend::make({}, files);
    const std::string wrong = "seed " + std::to_string(seed) + ": ";
    const auto r = repair(**io, random.coin() ? scope::all : scope::leaks);
    const std::uint64_t moved =
        (*io)->counters().bytes(io::opcode::read) + (*io)->counters().bytes(io::opcode::write);
    if (moved > 8 * bytes.size() + (std::uint64_t{80} << 20)) {
        return wrong + std::to_string(moved) + " bytes read and written";
    }
    const std::vector<std::byte> after = (*io)->content("i").bytes();
    if (!r || r->outcome == outcome::refused) {
        return after == bytes ? "" : wrong + "refused, but touched";
    }
    images_mended += r->outcome == outcome::mended ? 1 : 0;
    exec::inline_loop loop;
    const auto executor = loop.get_executor();
    const auto now = sync_wait(**io, executor, qcow2::check(**io, executor, "i"));
    if (!now) { return wrong + now.error().message(); }
    if (r->outcome == outcome::corrupt_still) {
        return now->corruptions <= r->found.corruptions ? "" : wrong + "worse than before";
    }
    if (!now->is_clean()) { return wrong + "not mended: " + now->findings[0].text; }
    const auto v = reference_image(after).check();
    return v.corruptions + v.leaks == 0 ? "" : wrong + "not mended: " + v.first;
}

TEST(repair, takes_anything) {
    images_mended = 0;
    std::uint64_t seeds = 0;
    for_each_seed(500, [&](std::uint64_t seed) {
        ++seeds;
        return repair_anything(seed);
    });
    EXPECT_GE(images_mended, seeds / 5) << "too many images are sound, or beyond repair";
}

TEST(repair, survives_a_cut_at_every_request) {
    images_mended = 0;
    std::uint64_t seeds = 0;
    for_each_seed(60, [&](std::uint64_t seed) {
        ++seeds;
        return cut_repair(seed).run();
    });
    std::printf("%llu disks after a cut, %llu images mended\n",
                static_cast<unsigned long long>(states_seen),
                static_cast<unsigned long long>(images_mended));
    EXPECT_GE(images_mended, seeds / 4) << "too many images are sound, or beyond repair";
}

} // namespace
} // namespace gaur::test
