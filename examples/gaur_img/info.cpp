// SPDX-License-Identifier: BSL-1.0
#include "commands.hpp"
#include "failure.hpp"
#include "host.hpp"
#include "printable.hpp"
#include "size.hpp"

#include <gaur/qcow2/layout/bitmap.hpp>
#include <gaur/qcow2/layout/header.hpp>
#include <gaur/qcow2/layout/parse_header.hpp>
#include <gaur/qcow2/layout/snapshot.hpp>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>
#include <optional>
#include <sys/stat.h>
#include <vector>

namespace gaur_img {

namespace {

namespace layout = gaur::qcow2::layout;
using json = nlohmann::ordered_json;

/// What one file says of itself. An image is told about even where gaur could not open it.
struct facts {
    std::string path;
    std::string format;
    std::uint64_t virtual_size = 0;
    std::uint64_t disk_size = 0; ///< bytes of the host's disk
    std::optional<layout::header> header; ///< of a qcow2 image
    std::vector<layout::snapshot> snapshots;
    std::vector<layout::bitmap> bitmaps;
};

/// What a bitmap's flags are called.
std::vector<std::string> flag_names(const layout::bitmap& b) {
    std::vector<std::string> names;
    if ((b.flags & layout::bitmap::in_use) != 0) { names.push_back("in-use"); }
    if ((b.flags & layout::bitmap::automatic) != 0) { names.push_back("auto"); }
    return names;
}

std::vector<layout::bitmap> read_bitmaps(host& on, const std::string& path, bool force_share,
                                         const layout::header& h, std::uint64_t file_size) {
    const layout::bitmaps_extension named = h.bitmaps();
    if (named.count == 0) { return {}; }
    // What it claims beyond the file's end is no reason to take memory.
    const std::uint64_t at = std::min(named.directory.value, file_size);
    const auto directory =
        expect(on.read_file(path, at, std::min(named.directory_bytes, file_size - at),
                            force_share),
               "Could not open '" + path + "'");
    auto bitmaps =
        layout::parse_bitmaps(directory, named.count).value_or(std::vector<layout::bitmap>());
    std::erase_if(bitmaps, [&](const auto& b) { return !layout::is_sound(b, h.cluster_bits); });
    return bitmaps;
}

facts look_at(host& on, const std::string& path, std::string format, bool force_share) {
    const std::string what = "Could not open '" + path + "'";
    if (format.empty()) { format = format_of(on, path, force_share); }
    facts found{path, format, 0, 0, {}, {}, {}};
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) {
        throw failure(what + ": " + gaur::error::from_errno(errno).message());
    }
    found.disk_size = static_cast<std::uint64_t>(status.st_blocks) * 512;
    if (format == "raw") {
        image_options how;
        how.path = path;
        how.format = format;
        how.force_share = force_share;
        found.virtual_size = gaur::align_up(expect(on.open(how), what)->size(), 512);
        return found;
    }
    if (format != "qcow2") { throw failure(what + ": Unknown driver '" + format + "'"); }

    const auto start = expect(on.read_file(path, 0, 512, force_share), what);
    const std::uint64_t cluster = expect(layout::bytes_needed(start), what);
    const auto bytes = expect(on.read_file(path, 0, cluster, force_share), what);
    const std::uint64_t file_size = gaur_img::file_size(path);
    found.header = expect(layout::parse(bytes, file_size), what);
    const layout::header& h = *found.header;
    found.virtual_size = h.size;
    found.bitmaps = read_bitmaps(on, path, force_share, h, file_size);
    if (h.nb_snapshots != 0) {
        const auto size = std::min(layout::max_table_bytes(h.nb_snapshots),
                                   file_size - h.snapshots_offset); // where `parse` saw it begin
        const auto table = expect(on.read_file(path, h.snapshots_offset, size, force_share), what);
        found.snapshots = expect(
            layout::parse_snapshots(table, h.nb_snapshots, {h.snapshots_offset}), what);
    }
    return found;
}

const char* compression_name(const layout::header& h) {
    return h.compression_type == layout::compression::zlib ? "zlib" : "zstd";
}

json specific(const facts& f) {
    const layout::header& h = *f.header;
    json data{{"compat", h.version == 2 ? "0.10" : "1.1"},
              {"compression-type", compression_name(h)}};
    if (h.version >= 3) { data["lazy-refcounts"] = h.lazy_refcounts(); }
    for (const layout::bitmap& b : f.bitmaps) {
        data["bitmaps"].push_back({{"flags", flag_names(b)},
                                   {"name", b.name},
                                   {"granularity", std::uint64_t{1} << b.granularity_bits}});
    }
    data["refcount-bits"] = 1U << h.refcount_order;
    if (h.version >= 3) {
        data["corrupt"] = h.is_corrupt();
        data["extended-l2"] = h.extended_l2();
    }
    return {{"type", "qcow2"}, {"data", data}};
}

json snapshot_json(const layout::snapshot& s) {
    constexpr std::uint64_t second = 1'000'000'000;
    json j{{"vm-clock-nsec", s.vm_clock_nsec % second},
           {"name", s.name},
           {"date-sec", s.date_sec},
           {"date-nsec", s.date_nsec},
           {"vm-clock-sec", s.vm_clock_nsec / second},
           {"id", s.id},
           {"vm-state-size", s.vm_state_size}};
    if (s.icount != layout::snapshot::no_icount) { j["icount"] = s.icount; }
    return j;
}

json to_json(const facts& f) {
    json j;
    for (const layout::snapshot& s : f.snapshots) { j["snapshots"].push_back(snapshot_json(s)); }
    j["virtual-size"] = f.virtual_size;
    j["filename"] = f.path;
    j["format"] = f.format;
    j["actual-size"] = f.disk_size;
    j["dirty-flag"] = f.header && f.header->is_dirty();
    if (!f.header) { return j; }
    const layout::header& h = *f.header;
    j["cluster-size"] = std::uint64_t{1} << h.cluster_bits;
    if (h.crypt_method != 0) { j["encrypted"] = true; }
    if (!h.backing_file.empty()) {
        j["backing-filename"] = h.backing_file;
        j["full-backing-filename"] = beside(f.path, h.backing_file);
        if (!h.backing_format().empty()) {
            j["backing-filename-format"] = std::string(h.backing_format());
        }
    }
    j["format-specific"] = specific(f);
    return j;
}

void print_snapshot(const layout::snapshot& s) {
    const std::time_t made = s.date_sec;
    std::tm local{};
    char date[32];
    std::strftime(date, sizeof date, "%Y-%m-%d %H:%M:%S", ::localtime_r(&made, &local));
    const std::uint64_t ms = s.vm_clock_nsec / 1'000'000;
    char clock[48];
    std::snprintf(clock, sizeof clock, "%02" PRIu64 ":%02" PRIu64 ":%02" PRIu64 ".%03" PRIu64,
                  ms / 3'600'000, ms / 60'000 % 60, ms / 1000 % 60, ms % 1000);
    const bool counts = s.icount != layout::snapshot::no_icount;
    std::printf("%-9s %-16s %8s%20s%13s%11s\n", printable(s.id).c_str(), printable(s.name).c_str(),
                readable_size(s.vm_state_size).c_str(), date, clock,
                counts ? std::to_string(s.icount).c_str() : "");
}

void print_bitmaps(const std::vector<layout::bitmap>& bitmaps) {
    if (bitmaps.empty()) { return; }
    std::printf("    bitmaps:\n");
    std::size_t i = 0;
    for (const layout::bitmap& b : bitmaps) {
        std::printf("        [%zu]:\n            flags:\n", i++);
        std::size_t flag = 0;
        for (const std::string& name : flag_names(b)) {
            std::printf("                [%zu]: %s\n", flag++, name.c_str());
        }
        std::printf("            name: %s\n            granularity: %" PRIu64 "\n",
                    printable(b.name).c_str(), std::uint64_t{1} << b.granularity_bits);
    }
}

void print_specific(const facts& f) {
    const layout::header& h = *f.header;
    const auto word = [](bool value) { return value ? "true" : "false"; };
    std::printf("Format specific information:\n    compat: %s\n    compression type: %s\n",
                h.version == 2 ? "0.10" : "1.1", compression_name(h));
    if (h.version >= 3) { std::printf("    lazy refcounts: %s\n", word(h.lazy_refcounts())); }
    print_bitmaps(f.bitmaps);
    std::printf("    refcount bits: %u\n", 1U << h.refcount_order);
    if (h.version >= 3) {
        std::printf("    corrupt: %s\n    extended l2: %s\n", word(h.is_corrupt()),
                    word(h.extended_l2()));
    }
}

void print_human(const facts& f) {
    std::printf("image: %s\nfile format: %s\nvirtual size: %s (%" PRIu64 " bytes)\n"
                "disk size: %s\n",
                printable(f.path).c_str(), f.format.c_str(), readable_size(f.virtual_size).c_str(),
                f.virtual_size, readable_size(f.disk_size).c_str());
    if (!f.header) { return; }
    const layout::header& h = *f.header;
    if (h.crypt_method != 0) { std::printf("encrypted: yes\n"); }
    std::printf("cluster_size: %" PRIu64 "\n", std::uint64_t{1} << h.cluster_bits);
    if (h.is_dirty()) { std::printf("cleanly shut down: no\n"); }
    if (!h.backing_file.empty()) {
        const std::string full = beside(f.path, h.backing_file);
        std::printf("backing file: %s", printable(h.backing_file).c_str());
        if (full != h.backing_file) {
            std::printf(" (actual path: %s)", printable(full).c_str());
        }
        std::printf("\n");
        if (!h.backing_format().empty()) {
            std::printf("backing file format: %s\n",
                        printable(std::string(h.backing_format())).c_str());
        }
    }
    if (!f.snapshots.empty()) {
        std::printf("Snapshot list:\n%-9s %-16s %8s%20s%13s%11s\n", "ID", "TAG", "VM SIZE", "DATE",
                    "VM CLOCK", "ICOUNT");
        for (const layout::snapshot& s : f.snapshots) { print_snapshot(s); }
    }
    print_specific(f);
}

/// The image, and the files of its chain where they are asked for.
std::vector<facts> look_at_all(host& on, const info_command& asked) {
    constexpr std::size_t most_files = 64;
    std::vector<facts> files{look_at(on, asked.path, asked.format, asked.force_share)};
    while (asked.backing_chain && !asked.no_references) {
        const auto& h = files.back().header;
        if (!h || h->backing_file.empty()) { break; }
        if (files.size() == most_files) { throw failure("The backing chain has no end"); }
        const std::string path = beside(files.back().path, h->backing_file);
        const std::string format(h->backing_format());
        if (format.empty()) { throw failure("The format of '" + path + "' is not given"); }
        files.push_back(look_at(on, path, format, asked.force_share));
    }
    return files;
}

} // namespace

int info(const info_command& asked) {
    const auto on = make_host(asked.backend);
    const std::vector<facts> files = look_at_all(*on, asked);
    if (asked.output == "json") {
        json all;
        for (const facts& f : files) { all.push_back(to_json(f)); }
        // File names are bytes; JSON is text.
        std::printf("%s\n", (asked.backing_chain ? all : all[0])
                                .dump(4, ' ', false, json::error_handler_t::replace).c_str());
        return 0;
    }
    for (const facts& f : files) {
        if (&f != &files.front()) { std::printf("\n"); }
        print_human(f);
    }
    return 0;
}

} // namespace gaur_img
