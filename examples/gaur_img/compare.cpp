// SPDX-License-Identifier: BSL-1.0
#include "commands.hpp"
#include "comparison.hpp"
#include "failure.hpp"
#include "host.hpp"

#include <algorithm>
#include <cstdio>

namespace gaur_img {

namespace {

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
    how.cache = parse_cache_mode(asked.cache, "source cache option", cannot_open);
    set_references(how, asked);
    how.force_share = asked.force_share;
    return how;
}

} // namespace

int compare(const compare_command& asked) {
    const auto on = make_host(asked.backend);
    const auto a = open_disk(*on, options(asked, asked.first, asked.first_format), cannot_open);
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
    // Printed only if the rest of the longer disk had to be compared.
    const std::uint64_t common = std::min(a->size(), b->size());
    if (other_size && comparing.differs_at().value_or(common) >= common) {
        say("Warning: Image size mismatch!");
    }
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

} // namespace gaur_img
