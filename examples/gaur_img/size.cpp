// SPDX-License-Identifier: BSL-1.0
#include "size.hpp"

#include "failure.hpp"

#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <string_view>

namespace gaur_img {

std::optional<std::uint64_t> parse_size(const std::string& text) {
    const char* const end = text.data() + text.size();
    std::uint64_t whole = 0;
    auto [at, status] = std::from_chars(text.data(), end, whole);
    if (status != std::errc()) { return {}; }
    double fraction = 0;
    if (at != end && *at == '.') {
        const auto parsed = std::from_chars(at, end, fraction, std::chars_format::fixed);
        if (parsed.ec != std::errc()) { return {}; }
        at = parsed.ptr;
    }
    unsigned bits = 0;
    if (at != end) {
        constexpr std::string_view suffixes = "bkmgtpe";
        const auto place =
            suffixes.find(static_cast<char>(std::tolower(static_cast<unsigned char>(*at))));
        if (place == std::string_view::npos || at + 1 != end) { return {}; }
        bits = static_cast<unsigned>(place) * 10;
    }
    // Sizes of files are signed; a fraction of bytes is no size.
    if (whole > (std::uint64_t{INT64_MAX} >> bits) || (fraction != 0 && bits == 0)) { return {}; }
    const double part = std::ldexp(fraction, static_cast<int>(bits));
    return (whole << bits) + static_cast<std::uint64_t>(part);
}

std::uint64_t expect_size(const std::string& text, const std::string& what) {
    const auto size = parse_size(text);
    if (!size) {
        throw failure("Invalid " + what + " specified. You may use k, M, G, T, P or E suffixes "
                      "for kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.");
    }
    return *size;
}

std::string readable_size(std::uint64_t bytes) {
    constexpr std::array suffixes{"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"};
    // The next unit from 1000 on, so that three digits are enough.
    int exponent = 0;
    std::frexp(static_cast<double>(bytes) / (1000.0 / 1024.0), &exponent);
    const int unit = exponent > 0 ? (exponent - 1) / 10 : 0;
    char text[32];
    const double in_units = std::ldexp(static_cast<double>(bytes), -10 * unit);
    std::snprintf(text, sizeof text, "%0.3g %sB", in_units,
                  suffixes[static_cast<std::size_t>(unit)]);
    return text;
}

} // namespace gaur_img
