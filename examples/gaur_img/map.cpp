// SPDX-License-Identifier: BSL-1.0
#include "commands.hpp"
#include "failure.hpp"
#include "host.hpp"
#include "map_entry.hpp"
#include "printable.hpp"
#include "size.hpp"

#include <algorithm>
#include <array>
#include <cinttypes>
#include <cstdio>

namespace gaur_img {

namespace {

const char* word(bool value) { return value ? "true" : "false"; }

void print_json(const map_entry& e, bool is_first) {
    std::printf("%s{ \"start\": %" PRIu64 ", \"length\": %" PRIu64 ", \"depth\": %zu, "
                "\"present\": %s, \"zero\": %s, \"data\": %s",
                is_first ? "[" : ",\n", e.start, e.size, e.depth, word(e.present), word(e.zero),
                word(e.data));
    if (e.offset) { std::printf(", \"offset\": %" PRIu64, *e.offset); }
    std::printf("}");
}

void print_human(const disk& image, const map_entry& e) {
    if (!e.data) { return; }
    if (!e.offset) { throw failure("File contains external, encrypted or compressed clusters."); }
    if (e.zero) { return; }
    std::printf("%#-16" PRIx64 "%#-16" PRIx64 "%#-16" PRIx64 "%s\n", e.start, e.size, *e.offset,
                printable(image.path(e.depth)).c_str());
}

} // namespace

int map(const map_command& asked) {
    const auto on = make_host(asked.backend);
    image_options how;
    how.path = asked.path;
    how.format = asked.format;
    set_references(how, asked);
    how.force_share = asked.force_share;
    const auto image = open_disk(*on, how);
    const std::uint64_t start = expect_size(asked.start, "start offset");
    const std::uint64_t from = std::min(start, image->size());
    std::uint64_t length = image->size() - from;
    if (asked.length) {
        length = std::min(length, expect_size(*asked.length, "max length"));
    }
    const bool json = asked.output == "json";
    if (!json) { std::printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File"); }
    // A disk may have any number of entries: each is printed when it is found.
    map_walk walk(*image, from, length);
    std::array<map_entry, 256> entries;
    bool is_first = true;
    for (;;) {
        std::size_t count = 0;
        expect(on->wait(walk.next(entries, count)), "Failed to read image metadata");
        if (count == 0 && is_first) { entries[count++].start = start; } // empty range: size 0
        if (count == 0) { break; }
        for (const map_entry& e : std::span(entries).first(count)) {
            if (json) {
                print_json(e, is_first);
            } else {
                print_human(*image, e);
            }
            is_first = false;
        }
        if (length == 0) { break; }
    }
    if (json) { std::printf("]\n"); }
    return 0;
}

} // namespace gaur_img
