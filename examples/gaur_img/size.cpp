// SPDX-License-Identifier: BSL-1.0
#include "size.hpp"

#include "failure.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <optional>
#include <string_view>

namespace gaur_img {

namespace {

/// The text after white space and a plus.
std::string_view unsigned_part(std::string_view text) {
    while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front())) != 0) {
        text.remove_prefix(1);
    }
    if (text.starts_with('+')) { text.remove_prefix(1); }
    return text;
}

bool is_hexadecimal(std::string_view text) {
    return text.size() > 2 && (text.starts_with("0x") || text.starts_with("0X")) &&
           std::isxdigit(static_cast<unsigned char>(text[2])) != 0;
}

/// The digits at the front of a text. take_digits removes them.
struct digits {
    std::uint64_t value = 0;
    bool any = false;
    bool too_large = false;
};
digits take_digits(std::string_view& text, int base) {
    digits found;
    const auto [end, status] =
        std::from_chars(text.data(), text.data() + text.size(), found.value, base);
    found.any = status != std::errc::invalid_argument;
    found.too_large = status == std::errc::result_out_of_range;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    return found;
}

/// The number of bits by which the suffix shifts; nothing if it is no suffix.
std::optional<unsigned> suffix_bits(std::string_view suffix) {
    if (suffix.empty()) { return 0; }
    const auto lower =
        static_cast<char>(std::tolower(static_cast<unsigned char>(suffix.front())));
    const auto place = std::string_view("bkmgtpe").find(lower);
    if (place == std::string_view::npos || suffix.size() != 1) { return {}; }
    return static_cast<unsigned>(place) * 10;
}

} // namespace

parsed_size read_size(const std::string& text, std::uint64_t most) {
    using outcome = parsed_size::outcome;
    std::string_view rest = unsigned_part(text);
    const bool hexadecimal = is_hexadecimal(rest);
    if (hexadecimal) { rest.remove_prefix(2); }
    const digits whole = take_digits(rest, hexadecimal ? 16 : 10);
    if (!whole.any) { return {outcome::malformed}; }
    double fraction = 0;
    if (!hexadecimal && rest.starts_with('.')) {
        rest.remove_prefix(1);
        const std::size_t end = std::min(rest.find_first_not_of("0123456789"), rest.size());
        const std::string part = "0." + std::string(rest.substr(0, end));
        std::from_chars(part.data(), part.data() + part.size(), fraction,
                        std::chars_format::fixed); // too small for a double: 0
        rest.remove_prefix(end);
    }
    const std::optional<unsigned> bits = suffix_bits(rest);
    if (!bits || (fraction != 0 && *bits == 0)) { return {outcome::malformed}; }
    if (whole.too_large || whole.value > most >> *bits) { return {outcome::too_large}; }
    const std::uint64_t bytes = whole.value << *bits;
    const auto part = static_cast<std::uint64_t>(std::ldexp(fraction, static_cast<int>(*bits)));
    if (part > most - bytes) { return {outcome::too_large}; }
    return {outcome::size, bytes + part};
}

std::optional<std::uint64_t> parse_size(const std::string& text) {
    const parsed_size size = read_size(text);
    if (size.kind != parsed_size::outcome::size) { return {}; }
    return size.bytes;
}

std::uint64_t expect_size(const std::string& text, const std::string& what, std::uint64_t most) {
    const parsed_size size = read_size(text, most);
    if (size.kind == parsed_size::outcome::too_large) {
        throw failure("Invalid " + what + " specified. Must be between 0 and " +
                      std::to_string(most) + ".");
    }
    if (size.kind == parsed_size::outcome::malformed) {
        throw failure("Invalid " + what + " specified. You may use k, M, G, T, P or E suffixes "
                      "for kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.");
    }
    return size.bytes;
}

std::optional<std::uint64_t> parse_number(const std::string& text) {
    std::string_view rest = unsigned_part(text);
    int base = 10;
    if (is_hexadecimal(rest)) {
        base = 16;
        rest.remove_prefix(2);
    } else if (rest.starts_with('0')) {
        base = 8;
    }
    const digits found = take_digits(rest, base);
    if (!found.any || found.too_large || !rest.empty()) { return {}; }
    return found.value;
}

std::uint64_t expect_number(const std::string& text, const std::string& what, std::uint64_t least,
                            std::uint64_t most) {
    const auto number = parse_number(text);
    if (!number || *number < least || *number > most) {
        throw failure("Invalid " + what + " specified: '" + text + "' (it is a whole number from " +
                      std::to_string(least) + " to " + std::to_string(most) + ")");
    }
    return *number;
}

std::string readable_size(std::uint64_t bytes) {
    constexpr std::array suffixes{"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"};
    // The next unit is used from 1000 on, so that three digits are enough.
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
