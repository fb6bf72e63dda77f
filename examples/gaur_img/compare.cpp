// SPDX-License-Identifier: BSL-1.0
#include "command.hpp"
#include "comparison.hpp"
#include "failure.hpp"

#include <cstdio>

namespace gaur_img {

namespace {

struct compare_command {
    common_options common;
    std::string format;
    std::string second_format;
    std::string cache = "writeback";
    bool strict = false;
    bool shows_progress = false;
    bool quiet = false;
    std::string first;
    std::string second;

    void add_to(CLI::App& command) {
        command.add_option("-f", format, "format of the first image; looked at if not given");
        command.add_option("-F", second_format, "format of the second one");
        command.add_option("-T", cache, "cache mode: none or writeback (default)");
        command.add_flag("-s", strict, "sizes, and what is stored how, have to be the same as well");
        command.add_flag("-p", shows_progress, "show how far it is");
        command.add_flag("-q", quiet, "print nothing: the exit code says it");
        command.add_option("first", first)->required();
        command.add_option("second", second)->required();
    }
};

// qemu-img's exit codes.
constexpr int same = 0;
constexpr int differ = 1;
constexpr int cannot_open = 2;
constexpr int cannot_look = 3;
constexpr int cannot_read = 4;

image_options options(const compare_command& asked, const std::string& path,
                      const std::string& format) {
    image_options how;
    how.path = path;
    how.format = format;
    how.direct = is_direct(asked.cache, "source cache option");
    how.references = !asked.common.no_references;
    return how;
}

int compare(const compare_command& asked) {
    const auto on = make_host(asked.common.backend);
    const auto a = open_disk(*on, options(asked, asked.first, asked.format), cannot_open);
    const auto b = open_disk(*on, options(asked, asked.second, asked.second_format), cannot_open);
    const auto say = [&](const std::string& text) {
        if (!asked.quiet) { std::printf("%s\n", text.c_str()); }
    };
    const bool other_size = a->size() != b->size();
    if (other_size && asked.strict) {
        say("Strict mode: Image size mismatch!");
        return differ;
    }
    progress shown(asked.shows_progress && !asked.quiet);
    comparison comparing(*a, *b, asked.strict, shown);
    const gaur::result<void> status = on->wait(comparing.run());
    shown.end();
    if (!status) {
        const bool reading = comparing.failed().starts_with("Error while reading offset");
        throw failure(comparing.failed() + ": " + status.error().message(),
                      reading ? cannot_read : cannot_look);
    }
    if (other_size) { say("Warning: Image size mismatch!"); }
    if (comparing.differs_at()) {
        say("Content mismatch at offset " + std::to_string(*comparing.differs_at()) + "!");
        return differ;
    }
    if (comparing.stored_otherwise_at()) {
        say("Strict mode: Offset " + std::to_string(*comparing.stored_otherwise_at()) +
            " block status mismatch!");
        return differ;
    }
    say("Images are identical.");
    return same;
}

} // namespace

void add_compare(CLI::App& program, int& exit_code) {
    add_command(program, exit_code, "compare", "Tells whether two disks hold the same", &compare);
}

} // namespace gaur_img
