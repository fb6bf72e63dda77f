// SPDX-License-Identifier: BSL-1.0
#include "block_list.hpp"
#include "command.hpp"
#include "failure.hpp"
#include "size.hpp"

#include <algorithm>
#include <cinttypes>
#include <cstdio>

namespace gaur_img {

namespace {

struct map_command {
    common_options common;
    std::string path;
    std::string format;
    std::string output = "human";
    std::string start = "0";
    std::string length;

    void add_to(CLI::App& command) {
        command.add_option("-f", format, "format of the image; looked at if not given");
        command.add_option("--output", output, "human (default) or json")
            ->check(CLI::IsMember({"human", "json"}));
        command.add_option("-s,--start-offset", start, "where to begin");
        command.add_option("-l,--max-length", length, "how many bytes; to the end if not given");
        command.add_option("filename", path)->required();
    }
};

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
    std::printf("%s]\n", blocks.empty() ? "[" : "");
}

void print_human(const disk& image, const std::vector<placed_block>& blocks) {
    std::printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
    for (const placed_block& b : blocks) {
        if (!b.data) { continue; }
        if (!b.offset) {
            throw failure("File contains external, encrypted or compressed clusters.");
        }
        std::printf("%#-16" PRIx64 "%#-16" PRIx64 "%#-16" PRIx64 "%s\n", b.start, b.size,
                    *b.offset, image.path(b.depth).c_str());
    }
}

int map(const map_command& asked) {
    const auto on = make_host(asked.common.backend);
    image_options how;
    how.path = asked.path;
    how.format = asked.format;
    how.references = !asked.common.no_references;
    const auto image = open_disk(*on, how);
    const std::uint64_t from = std::min(expect_size(asked.start, "start offset"), image->size());
    std::uint64_t length = image->size() - from;
    if (!asked.length.empty()) {
        length = std::min(length, expect_size(asked.length, "max length"));
    }
    const auto blocks = expect(list_blocks(*on, *image, from, from + length),
                               "Failed to read image metadata");
    if (asked.output == "json") {
        print_json(blocks);
    } else {
        print_human(*image, blocks);
    }
    return 0;
}

} // namespace

void add_map(CLI::App& program, int& exit_code) {
    add_command(program, exit_code, "map", "Tells where an image's bytes are stored", &map);
}

} // namespace gaur_img
