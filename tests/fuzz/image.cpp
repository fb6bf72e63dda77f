// SPDX-License-Identifier: BSL-1.0
// Structured fuzzing: an input is a sound image of some kind, changes to its tables, and requests
// that are in flight together. Run it by hand for as long as you like:
//
//     build/asan/tests/fuzz_image -max_total_time=36000 inputs/ tests/fuzz/corpus/image
//
// For every image: no sanitizer reports anything; an open for reading and a check write nothing;
// all I/O is bounded by the files' size and the requests; no allocation is larger than 64 MiB; a
// repair either changes nothing or makes an image that checks clean and in which the guest reads
// what it read before; if nothing was wrong before, nothing is wrong after the requests; and a
// malformed entry does not change, whatever is written around it.
#include "support/crafted_image.hpp"
#include "support/same_bytes.hpp"

#include <gaur/async/sync_wait.hpp>
#include <gaur/exec/inline.hpp>
#include <gaur/io/memory.hpp>
#include <gaur/qcow2/check.hpp>
#include <gaur/qcow2/image.hpp>
#include <gaur/qcow2/repair.hpp>
#include <gaur/qcow2/zlib.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

// Asan quarantines freed memory. The usual 256 MiB hold it longer than any run takes, and cost more
// than the runs.
extern "C" const char* __asan_default_options() {
    return "max_allocation_size_mb=64:quarantine_size_mb=8:malloc_context_size=8";
}

namespace gaur::test {
namespace {

namespace field = qcow2::layout::field;

void demand(bool holds, const char* what, const std::string& more = {}) {
    if (holds) { return; }
    std::fprintf(stderr, "%s %s\n", what, more.c_str());
    std::abort();
}

/// The input's bytes, one after the other, then zeroes.
class choices {
  public:
    explicit choices(std::span<const std::uint8_t> from) : from_(from) {}
    bool has_more() const { return !from_.empty(); }
    std::uint8_t byte() {
        if (from_.empty()) { return 0; }
        const std::uint8_t b = from_.front();
        from_ = from_.subspan(1);
        return b;
    }
    std::uint64_t number(unsigned bytes) {
        std::uint64_t n = 0;
        while (bytes-- > 0) { n = n << 8 | byte(); }
        return n;
    }
    std::uint64_t below(std::uint64_t end) { return end > 256 ? number(4) % end : byte() % end; }

  private:
    std::span<const std::uint8_t> from_;
};

/// The offset of a structure, or a number near a limit.
std::uint64_t telling_number(choices& c, const crafted_image& i) {
    const std::uint64_t places[] = {0,
                                    i.refcount_table,
                                    i.refcount_block,
                                    i.l1,
                                    i.l2,
                                    i.l2_too,
                                    i.first_data,
                                    i.packed_data,
                                    i.snapshots,
                                    i.snapshot_l1,
                                    i.snapshot_l2,
                                    i.bitmap_directory,
                                    i.bitmap_table,
                                    align_up(i.end(), i.cluster()),
                                    align_up(i.end(), i.cluster()) + 4 * i.cluster(),
                                    std::uint64_t{1} << 40,
                                    0x00ff'ffff'ffff'fe00,
                                    ~std::uint64_t{0}};
    const std::uint8_t how = c.byte();
    if (how >= 0xf0) { return c.number(8); }
    if (how >= 0xe0) { return c.number(2); }
    std::uint64_t n = places[how % std::size(places)];
    const std::uint8_t flags = c.byte();
    if ((flags & 1) != 0) { n |= crafted_image::copied; }
    if ((flags & 2) != 0) { n |= crafted_image::compressed; }
    if ((flags & 4) != 0) { n |= 1; }
    if ((flags & 8) != 0) { n += 512; }
    if ((flags & 16) != 0) { n += i.cluster() * (1 + (flags >> 5)); }
    return n;
}

void change_header(choices& c, crafted_image& i) {
    struct place {
        std::size_t at;
        unsigned bytes;
    };
    static constexpr place places[] = {
        {0, 4},   {4, 4},   {8, 8},   {16, 4},  {20, 4},  {24, 8},  {32, 4},
        {36, 4},  {40, 8},  {48, 8},  {56, 4},  {60, 4},  {64, 8},  {72, 8},
        {80, 8},  {88, 8},  {96, 4},  {100, 4}, {104, 1}, {112, 8}, {120, 8}};
    const place& p = places[c.below(std::size(places))];
    const std::uint64_t value = (c.byte() & 1) != 0 ? c.byte() : telling_number(c, i);
    for (unsigned b = 0; b < p.bytes; ++b) {
        i.set<std::uint8_t>(p.at + b,
                            static_cast<std::uint8_t>(value >> 8 * (p.bytes - 1 - b)));
    }
}

/// A run of entries that one request may replace together, with one among them that it must not
/// replace.
void damage_in_a_run(choices& c, crafted_image& i) {
    const std::uint64_t first = c.below(12);
    const std::uint64_t count = 2 + c.below(5);
    for (std::uint64_t n = first; n < first + count; ++n) {
        const std::uint64_t entry = i.get(i.entry(n));
        if ((entry & crafted_image::compressed) == 0) {
            i.set(i.entry(n), entry & ~crafted_image::copied);
        }
    }
    const std::uint64_t bad = first + c.below(count);
    const std::uint64_t flag = (c.byte() & 1) != 0 ? 512 : 2; // unaligned, or reserved
    const std::uint64_t host = (c.byte() & 1) != 0 ? i.get(i.entry(bad)) : telling_number(c, i);
    i.set(i.entry(bad), host | flag);
}

/// Makes one change to the image's structures.
void damage(choices& c, crafted_image& i) {
    switch (c.below(12)) {
    case 0: change_header(c, i); break;
    case 1: i.set(i.l1 + c.below(i.cluster() / 8) % 4 * 8, telling_number(c, i)); break;
    case 2: i.set(i.l2 + c.below(i.cluster() / 8) * 8, telling_number(c, i)); break;
    case 3: i.set(i.l2_too + c.below(i.cluster() / 8) * 8, telling_number(c, i)); break;
    case 4: i.set(i.refcount_table + c.below(4) * 8, telling_number(c, i)); break;
    case 5: {
        const std::uint64_t cluster = c.below(i.end() / i.cluster() + 2);
        const std::uint64_t per_block =
            i.header().refcounts().entries_per_block(i.cluster());
        const std::uint64_t most = i.header().refcounts().max();
        const std::uint64_t count = (c.byte() & 1) != 0 ? c.byte() : most;
        i.set_refcount(cluster % per_block, count & most);
        break;
    }
    case 6: // snapshot tables, bitmaps, compressed streams
    {
        const std::uint64_t places[] = {i.snapshots,        i.snapshot_l1,  i.snapshot_l2,
                                        i.bitmap_directory, i.bitmap_table, i.packed_data};
        const std::uint64_t at = places[c.below(std::size(places))];
        if (at == 0) { break; }
        const std::uint64_t within = c.below(i.cluster() - 8);
        if ((c.byte() & 1) != 0) {
            i.set(at + align_down(within % 128, 8), telling_number(c, i));
        } else {
            i.set<std::uint8_t>(at + within, c.byte());
        }
        break;
    }
    case 7: i.set<std::uint8_t>(c.below(i.end()), c.byte()); break;
    case 8: {
        static constexpr std::uint32_t magics[] = {0,           0xe279'2aca, 0x6803'f857,
                                                   0x0537'be77, 0x2385'2875, 0x4441'5441,
                                                   0x1234'5678};
        const std::uint32_t magic = magics[c.below(std::size(magics))];
        const std::uint64_t at = 104 + 8 * c.below(i.cluster() / 8 - 16);
        i.set<std::uint32_t>(at, magic);
        i.set<std::uint32_t>(at + 4, static_cast<std::uint32_t>(telling_number(c, i)));
        break;
    }
    case 9:
    case 10: damage_in_a_run(c, i); break;
    default: // the file's length
        i.bytes.resize(std::max<std::size_t>(c.below(i.end() + 4 * i.cluster()), 512));
    }
}

/// A malformed entry of an L2 table, and its place.
struct malformed_entry {
    std::uint64_t l1_index;
    std::uint64_t l2_index;
    std::uint64_t raw;
};

/// The active tables of a file whose header is sound.
class active_tables {
  public:
    explicit active_tables(std::span<const std::byte> bytes) : bytes_(bytes) {}

    std::vector<malformed_entry> malformed() const {
        std::vector<malformed_entry> all;
        for (std::uint64_t i = 0; i < std::min<std::uint64_t>(get<std::uint32_t>(36), 64); ++i) {
            const std::uint64_t table = table_of(i);
            for (std::uint64_t n = 0; table != 0 && n < cluster() / 8; ++n) {
                const qcow2::layout::l2_entry entry{get<std::uint64_t>(table + n * 8)};
                if (entry.raw != 0 && !qcow2::layout::check(entry, get<std::uint32_t>(4),
                                                            get<std::uint32_t>(20), {})) {
                    all.push_back({i, n, entry.raw});
                }
            }
        }
        return all;
    }
    bool has(const malformed_entry& e) const {
        const std::uint64_t table = table_of(e.l1_index);
        return table != 0 && get<std::uint64_t>(table + e.l2_index * 8) == e.raw;
    }

  private:
    template <class T>
    T get(std::uint64_t at) const {
        return at + sizeof(T) <= bytes_.size() && at + sizeof(T) > at ? load_be<T>(&bytes_[at]) : 0;
    }
    std::uint64_t cluster() const { return std::uint64_t{1} << get<std::uint32_t>(20); }
    /// 0: no table that can be followed.
    std::uint64_t table_of(std::uint64_t l1_index) const {
        const qcow2::layout::l1_entry entry{
            get<std::uint64_t>(get<std::uint64_t>(40) + l1_index * 8)};
        const std::uint64_t table = entry.table().value;
        const bool sound = entry.is_allocated() && table < bytes_.size() &&
                           qcow2::layout::check(entry, get<std::uint32_t>(20), {});
        return sound ? table : 0;
    }

    std::span<const std::byte> bytes_;
};

/// Each image is made once.
const crafted_image& sound(const craft& how) {
    static std::map<std::string, crafted_image> all;
    const std::string key = std::to_string(how.version) + ' ' + std::to_string(how.cluster_bits) +
                            ' ' + std::to_string(how.refcount_order) + how.backing_file +
                            how.backing_format;
    return all.try_emplace(key, how).first->second;
}

class run {
    using image = qcow2::image<io::memory::backend, exec::inline_loop::executor>;
    static constexpr std::size_t most_in_flight = 8;

  public:
    run(choices& c, std::uint64_t seed) : c_(c), io_({.seed = seed}) {}

    void all() {
        make_files();
        const bool opens = read_only();
        const bool was_sound = check();
        expect_untouched("checking");
        write(was_sound);
        leave();
        restore();
        repair(opens);
    }

  private:
    template <class T>
    result<T> wait(async::task<T> task) {
        return async::sync_wait(io_, loop_.get_executor(), std::move(task));
    }

    void make_files() {
        craft how;
        const std::uint8_t kind = c_.byte();
        how.version = (kind & 1) != 0 ? 2 : 3;
        how.cluster_bits = 9 + kind / 2 % 4;
        how.refcount_order = c_.byte() % 7;
        const std::uint8_t below = c_.byte() % 4;
        if (below != 0) {
            how.backing_file = below == 3 ? "image" : "base";
            how.backing_format = below == 2 ? "raw" : "qcow2";
        }
        crafted_image base = sound(craft{.cluster_bits = 9});
        crafted_image top = sound(how);
        unsigned changes = c_.byte() % 8;
        if (below == 1 && (c_.byte() & 1) != 0) { damage(c_, base); }
        while (changes-- > 0) { damage(c_, top); }
        // Larger files are left to tests that have the time.
        if (top.bytes.size() > 1 << 20) { top.bytes.resize(1 << 20); }
        io_.set_content("base", io::sparse_bytes(base.bytes));
        io_.set_content("image", io::sparse_bytes(top.bytes));
        made_ = io_.snapshot();
        all_bytes_ = base.bytes.size() + top.bytes.size();
        bytes_ = std::move(top.bytes);
        options_.references = qcow2::references::follow;
        options_.inflate = &qcow2::zlib_inflate;
        options_.cache_bytes = std::size_t{c_.byte()} * 512;
        options_.grow_ahead = (c_.byte() & 1) != 0 ? 1 << 20 : 0;
        options_.count_ahead = (c_.byte() & 1) != 0 ? 1 << 20 : 0;
        operations_ = c_.byte() % 32;
        scope_ = c_.byte();
    }
    void restore() {
        io_.restore(made_);
        io_.reset_counters();
    }
    void expect_untouched(const char* by) {
        demand(io_.counters().requests(io::opcode::write) == 0, "written to by", by);
        demand(same(io_.content("image").bytes(), bytes_), "changed by", by);
    }
    /// Tables are read only a few times, and caches that are too small read for each request what
    /// it needs.
    void expect_bounded(const char* by, std::uint64_t requests) {
        // A preallocated range remains if the image turns out to be damaged.
        const std::uint64_t files = all_bytes_ + io_.content("image").size();
        const std::uint64_t most = 16 * files + (1 << 20) + requests * (256 << 10);
        demand(io_.counters().bytes(io::opcode::read) < most, "too much read by", by);
        demand(io_.counters().bytes(io::opcode::write) < most, "too much written by", by);
    }

    /// What the guest reads in the ranges that the tables map, and which clusters it can read.
    struct view {
        bool opens = false;
        std::vector<std::byte> content;
        std::vector<bool> readable;
    };
    view what_the_guest_reads() {
        constexpr std::uint64_t most = 9;
        view all;
        auto disk = wait(qcow2::open(io_, loop_.get_executor(), "image", options_));
        if (!disk) { return all; }
        all.opens = true;
        const std::uint64_t cluster = disk->engine().top().cluster_size();
        const std::uint64_t reach = disk->engine().top().header().tables().l1_reach();
        const auto read = [&](std::uint64_t at, std::span<std::byte> to) {
            auto r = disk->read({at}, to);
            return async::sync_wait(r).has_value();
        };
        for (const std::uint64_t begin : {std::uint64_t{0}, reach}) {
            const std::uint64_t there = disk->size() - std::min(begin, disk->size());
            const std::uint64_t count = std::min(there / cluster, most);
            const std::size_t had = all.content.size();
            all.content.resize(had + static_cast<std::size_t>(count * cluster));
            const std::span<std::byte> here = std::span(all.content).subspan(had);
            // In most inputs all of them can be read at once.
            const bool whole = count != 0 && read(begin, here);
            for (std::uint64_t i = 0; i < count; ++i) {
                const auto one = here.subspan(static_cast<std::size_t>(i * cluster),
                                              static_cast<std::size_t>(cluster));
                all.readable.push_back(whole || read(begin + i * cluster, one));
            }
        }
        static_cast<void>(wait(disk->close()));
        return all;
    }

    /// Checks that runs follow each other, and that runs of zeroes read as zeroes.
    void look_at_blocks(image& disk, std::uint64_t begin, std::span<const std::byte> content,
                        bool can_be_read) {
        device::block_walk walk(disk, {begin}, content.size());
        for (std::uint64_t at = 0; at < content.size();) {
            const auto found = wait(walk.next());
            if (!found) {
                demand(!can_be_read, "read, but its block status fails");
                return;
            }
            demand(found->at.value == begin + at && found->size != 0 &&
                       found->size <= content.size() - at,
                   "no run of the range");
            if (found->reads_as_zeroes() && can_be_read) {
                const auto part = content.subspan(static_cast<std::size_t>(at),
                                                  static_cast<std::size_t>(found->size));
                demand(std::ranges::all_of(part, [](std::byte b) { return b == std::byte{0}; }),
                       "told to be zero, but read as data");
            }
            at += found->size;
        }
    }

    /// Whether it opens.
    bool read_only() {
        io_.reset_counters();
        qcow2::open_options how = options_;
        how.without_snapshots = (scope_ & 0x80) != 0;
        auto disk = wait(qcow2::open(io_, loop_.get_executor(), "image", how));
        expect_bounded("open", 0);
        if (disk) {
            std::vector<std::byte> buffer(64 << 10);
            for (const std::uint64_t at : {std::uint64_t{0}, disk->size() / 2}) {
                const auto n = std::min<std::uint64_t>(buffer.size(), disk->size() - at);
                const auto part = std::span(buffer).first(static_cast<std::size_t>(n));
                auto r = disk->read({at}, part);
                const bool can_be_read = async::sync_wait(r).has_value();
                look_at_blocks(*disk, at, part, can_be_read);
            }
            // For any size of the disk.
            static_cast<void>(wait(disk->block_status({0}, disk->size())));
            static_cast<void>(wait(disk->close()));
        }
        expect_untouched("reading");
        return disk.has_value();
    }

    /// Whether nothing is wrong at all.
    bool check() {
        io_.reset_counters();
        const auto found =
            wait(qcow2::check(io_, loop_.get_executor(), "image", {.max_findings = 20}));
        expect_bounded("check", 0);
        return found && found->corruptions == 0 && found->check_errors == 0;
    }

    struct flying {
        std::optional<image::request> request;
        std::vector<std::byte> buffer;
        bool ended = true;
    };
    static void on_end(void* self, result<void>) noexcept {
        static_cast<flying*>(self)->ended = true;
    }

    void write(bool was_sound) {
        qcow2::open_options how = options_;
        how.write = true;
        how.bitmaps = qcow2::bitmaps::invalidate;
        io_.reset_counters();
        auto disk = wait(qcow2::open(io_, loop_.get_executor(), "image", how));
        if (!disk) { return expect_untouched("an open that failed"); }
        const std::vector<malformed_entry> malformed = active_tables(bytes_).malformed();
        demand(io_.content("image").size() <= bytes_.size(), "grown by open");
        std::vector<flying> slots(most_in_flight);
        for (unsigned n = 0; n < operations_; ++n) {
            flying& slot = slots[n % most_in_flight];
            drain(slot);
            begin(slot, *disk);
        }
        for (flying& slot : slots) { drain(slot); }
        const result<void> closed = wait(disk->close());
        disk = error(errc::closed);
        expect_bounded("requests", operations_ + 1);
        const bool is_sound = check();
        demand(!was_sound || !closed || is_sound, "made unsound by requests");
        const std::vector<std::byte> now = io_.content("image").bytes();
        for (const malformed_entry& e : malformed) {
            demand(active_tables(now).has(e), "a malformed entry was replaced:",
                   std::to_string(e.l1_index) + ", " + std::to_string(e.l2_index));
        }
    }
    /// Destroys image, loop and backend in this order, with requests and I/O of the image in
    /// flight.
    void leave() {
        qcow2::open_options how = options_;
        how.write = true;
        std::vector<flying> slots(most_in_flight);
        {
            io::memory::backend io(io::memory::options{.deferred = true});
            io.restore(made_);
            exec::inline_loop loop;
            auto disk = async::sync_wait(
                io, loop.get_executor(), qcow2::open(io, loop.get_executor(), "image", how));
            if (!disk) { return; }
            for (unsigned n = 0; n < operations_ % (most_in_flight + 1); ++n) {
                begin(slots[n], *disk);
            }
            for (unsigned steps = c_.byte() % 16; steps != 0; --steps) { io.wait(); }
        }
        for (const flying& slot : slots) { demand(slot.ended, "left without its end"); }
    }
    void drain(flying& slot) {
        // Each request does bounded work, so it takes bounded steps.
        for (unsigned steps = 0; !slot.ended; ++steps) {
            demand(steps < 1'000'000 && io_.in_flight() != 0, "a request does not end");
            io_.wait();
        }
        slot.request.reset();
    }
    void begin(flying& slot, image& disk) {
        const std::uint8_t what = c_.byte();
        const auto verb = what % 8 == 0   ? device::verb::flush
                          : what % 2 == 0 ? device::verb::read
                                          : device::verb::write;
        // Near the beginning, where the tables map something, or anywhere.
        std::uint64_t at = c_.number(2);
        if (what >= 0xc0) { at = disk.size() - std::min(at, disk.size()); }
        if (what >= 0x80 && what < 0xc0) { at += disk.size() / 2; }
        std::size_t size = std::size_t{c_.byte()} * 64;
        if (at < disk.size()) { size = static_cast<std::size_t>(
                                    std::min<std::uint64_t>(size, disk.size() - at)); }
        slot.buffer.assign(verb == device::verb::flush ? 0 : size, static_cast<std::byte>(what));
        slot.request.emplace(disk.engine(), verb, guest_offset{at}, std::span(slot.buffer));
        slot.ended = false;
        slot.request->start(&on_end, &slot);
    }

    void repair(bool opens) {
        view before;
        if (opens) { before = what_the_guest_reads(); }
        io_.reset_counters();
        const auto scope =
            scope_ % 4 == 0 ? qcow2::repair_scope::leaks : qcow2::repair_scope::all;
        const auto done =
            wait(qcow2::repair(io_, loop_.get_executor(), "image", {.scope = scope, .check = {}}));
        expect_bounded("repair", 0);
        if (!done) { return; }
        if (done->outcome == qcow2::repair_outcome::refused) { return expect_untouched("repair"); }
        if (before.opens) { expect_same(before, what_the_guest_reads()); }
        if (done->outcome == qcow2::repair_outcome::corrupt_still) { return; }
        const auto found = wait(qcow2::check(io_, loop_.get_executor(), "image"));
        demand(found.has_value(), "no image after repair");
        demand(found->is_clean(), "not clean after repair:",
               found->findings.empty() ? "" : found->findings.front().text);
    }
    static void expect_same(const view& before, const view& after) {
        demand(after.opens && after.content.size() >= before.content.size(),
               "does not open after repair");
        if (before.readable.empty()) { return; }
        const std::size_t size = before.content.size() / before.readable.size();
        for (std::size_t n = 0; n < before.readable.size(); ++n) {
            demand(!before.readable[n] ||
                       (after.readable[n] && std::memcmp(&before.content[n * size],
                                                         &after.content[n * size], size) == 0),
                   "reads otherwise after repair, piece", std::to_string(n));
        }
    }

    choices& c_;
    io::memory::backend io_;
    exec::inline_loop loop_;
    io::memory::disk made_;
    std::vector<std::byte> bytes_;
    std::uint64_t all_bytes_ = 0;
    qcow2::open_options options_;
    unsigned operations_ = 0;
    std::uint8_t scope_ = 0;
};

} // namespace
} // namespace gaur::test

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    gaur::test::choices c(std::span(data, size));
    const std::uint64_t seed = c.byte();
    gaur::test::run(c, seed).all();
    return 0;
}
