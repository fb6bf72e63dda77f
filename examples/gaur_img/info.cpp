// SPDX-License-Identifier: BSL-1.0
#include "commands.hpp"
#include "failure.hpp"
#include "host.hpp"
#include "image_facts.hpp"
#include "printable.hpp"
#include "size.hpp"

#include <gaur/base/error.hpp>
#include <gaur/qcow2/file_name.hpp>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace gaur_img {

namespace {

namespace layout = gaur::qcow2::layout;
using json = nlohmann::ordered_json;

/// The names of a bitmap's flags.
json flag_names(const layout::bitmap& b) {
    json names = json::array();
    if ((b.flags & layout::bitmap::in_use) != 0) { names.push_back("in-use"); }
    if ((b.flags & layout::bitmap::automatic) != 0) { names.push_back("auto"); }
    return names;
}

json luks_json(const luks_header& l) {
    json j{{"ivgen-alg", l.iv}};
    j["hash-alg"] = l.hash;
    j["cipher-alg"] = l.cipher;
    j["uuid"] = l.uuid;
    if (!l.iv_hash.empty()) { j["ivgen-hash-alg"] = l.iv_hash; }
    j["format"] = "luks";
    j["cipher-mode"] = l.mode;
    for (const luks_header::slot& s : l.slots) {
        json slot{{"active", s.active}};
        if (s.active) { slot["iters"] = s.iterations; }
        slot["key-offset"] = s.key_offset;
        if (s.active) { slot["stripes"] = s.stripes; }
        j["slots"].push_back(slot);
    }
    j["payload-offset"] = l.payload_offset;
    j["master-key-iters"] = l.iterations;
    return j;
}

/// The encryption of an encrypted image.
json encryption_json(const image_facts& f) {
    if (f.luks) { return luks_json(*f.luks); }
    const bool luks = f.header->crypt_method == layout::encryption::luks;
    return {{"format", luks ? "luks" : "aes"}};
}

/// QEMU's `format-specific` of a qcow2 image, in the order in which it is printed.
json specific(const image_facts& f) {
    const layout::header& h = *f.header;
    const bool has_version_3 = h.version >= 3;
    const bool needs_data_file =
        (h.incompatible_features & layout::incompatible::external_data_file) != 0;
    json data{{"compat", has_version_3 ? "1.1" : "0.10"},
              {"compression-type",
               h.compression_type == layout::compression::zlib ? "zlib" : "zstd"}};
    if (has_version_3) { data["lazy-refcounts"] = h.lazy_refcounts(); }
    for (const layout::bitmap& b : f.bitmaps) {
        data["bitmaps"].push_back({{"flags", flag_names(b)},
                                   {"name", b.name},
                                   {"granularity", std::uint64_t{1} << b.granularity_bits}});
    }
    data["refcount-bits"] = 1U << h.refcount_order;
    if (!h.data_file().empty()) { data["data-file"] = h.data_file(); }
    if (needs_data_file) {
        data["data-file-raw"] =
            (h.autoclear_features & layout::autoclear::raw_external_data) != 0;
    }
    if (h.crypt_method != layout::encryption::none) { data["encrypt"] = encryption_json(f); }
    if (has_version_3) {
        data["corrupt"] = h.is_corrupt();
        data["extended-l2"] = h.extended_l2();
    }
    // QEMU prints nothing for such an image: the key is our own.
    for (const std::string& name : layout::unknown_feature_names(h)) {
        data["unknown-incompatible-features"].push_back(name);
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

json to_json(const image_facts& f) {
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

void print_value(const std::string& name, const json& value, unsigned indent);

/// Prints the members of an object or a list, one per line. Their own members are indented further.
void print_members(const json& of, unsigned indent) {
    std::size_t i = 0;
    for (const auto& [key, value] : of.items()) {
        std::string name = of.is_array() ? '[' + std::to_string(i++) + ']' : key;
        std::ranges::replace(name, '-', ' ');
        print_value(name, value, indent);
    }
}

void print_value(const std::string& name, const json& value, unsigned indent) {
    std::printf("%*s%s:", static_cast<int>(indent), "", name.c_str());
    if (value.is_structured()) {
        std::printf("\n");
        print_members(value, indent + 4);
    } else {
        const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
        std::printf(" %s\n", printable(text).c_str());
    }
}

void print_human(const image_facts& f) {
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
    std::printf("Format specific information:\n");
    print_members(specific(f)["data"], 4);
}

/// The facts of the image, and of the files of its chain if the command asks for them.
std::vector<image_facts> look_at_all(host& on, const info_command& asked) {
    image_options how;
    set_references(how, asked);
    std::vector<image_facts> files{look_at(on, asked.path, asked.format, asked.force_share)};
    while (asked.backing_chain && how.references) {
        const auto& h = files.back().header;
        if (!h || h->backing_file.empty()) { break; }
        const std::string path = beside(files.back().path, h->backing_file);
        const std::string what = "Could not open '" + printable(path) + "'";
        if (files.size() >= how.max_depth) {
            throw failure(what + ": " +
                          gaur::error(gaur::errc::too_many_files, how.max_depth).message());
        }
        if (!gaur::qcow2::local_path(h->backing_file)) {
            throw failure(what + ": " +
                          gaur::error(gaur::errc::protocol_not_supported).message());
        }
        std::string format(h->backing_format());
        if (format.empty()) { format = how.backing_format; }
        if (format.empty()) {
            throw failure(what + ": " + gaur::error(gaur::errc::format_missing).message());
        }
        files.push_back(look_at(on, path, format, asked.force_share));
    }
    return files;
}

} // namespace

int info(const info_command& asked) {
    const auto on = make_host(asked.backend);
    const std::vector<image_facts> files = look_at_all(*on, asked);
    if (asked.output == "json") {
        json all;
        for (const image_facts& f : files) { all.push_back(to_json(f)); }
        // File names are bytes; JSON is text.
        std::printf("%s\n", (asked.backing_chain ? all : all[0])
                                .dump(4, ' ', false, json::error_handler_t::replace).c_str());
        return 0;
    }
    for (const image_facts& f : files) {
        if (&f != &files.front()) { std::printf("\n"); }
        print_human(f);
    }
    return 0;
}

} // namespace gaur_img
