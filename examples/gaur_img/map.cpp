// SPDX-License-Identifier: BSL-1.0
#include "block_list.hpp"
#include "commands.hpp"
#include "failure.hpp"
#include "host.hpp"
#include "printable.hpp"
#include "size.hpp"

#include <algorithm>
#include <cinttypes>
#include <cstdio>

namespace gaur_img {

namespace {

const char* word(bool value) { return value ? "true" : "false"; }

void print_json(const std::vector<placed_block>& blocks) {
    const char* before = "[";
    for (const placed_block& b : blocks) {
        std::printf("%s{ \"start\": %" PRIu64 ", \"length\": %" PRIu64 ", \"depth\": %u, "
                    "\"present\": %s, \"zero\": %s, \"data\": %s",
                    before, b.start, b.size, b.depth, word(b.present), word(b.zero), word(b.data));
        if (b.offset) { std::printf(", \"offset\": %" PRIu64, *b.offset); }
        std::printf("}");
        before = ",\n";
    }
    std::printf("]\n");
}

void print_human(const disk& image, const std::vector<placed_block>& blocks) {
    std::printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
    for (const placed_block& b : blocks) {
        if (!b.data) { continue; }
        if (!b.offset) {
            throw failure("File contains external, encrypted or compressed clusters.");
        }
        std::printf("%#-16" PRIx64 "%#-16" PRIx64 "%#-16" PRIx64 "%s\n", b.start, b.size,
                    *b.offset, printable(image.path(b.depth)).c_str());
    }
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
    const std::uint64_t from = std::min(expect_size(asked.start, "start offset"), image->size());
    std::uint64_t length = image->size() - from;
    if (asked.length) {
        length = std::min(length, expect_size(*asked.length, "max length"));
    }
    auto blocks = expect(list_blocks(*on, *image, from, from + length),
                               "Failed to read image metadata");
    if (blocks.empty()) { blocks.emplace_back(); } // an empty disk has one empty block
    if (asked.output == "json") {
        print_json(blocks);
    } else {
        print_human(*image, blocks);
    }
    return 0;
}

} // namespace gaur_img
