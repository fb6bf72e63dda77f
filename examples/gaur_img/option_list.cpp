// SPDX-License-Identifier: BSL-1.0
#include "option_list.hpp"

#include "failure.hpp"
#include "size.hpp"

#include <algorithm>
#include <string_view>

namespace gaur_img {

namespace {

/// Removes a value from the front of `rest`, up to a comma that is not doubled.
std::string take_value(std::string_view& rest) {
    std::string value;
    while (!rest.empty()) {
        if (rest.front() == ',') {
            if (!rest.starts_with(",,")) { break; }
            rest.remove_prefix(1);
        }
        value += rest.front();
        rest.remove_prefix(1);
    }
    return value;
}

/// Throws failure if the list or an item of it is empty, or an item begins with a comma.
void check_list(const std::string& list) {
    std::string_view rest = list;
    bool sound = !list.empty();
    while (sound && !rest.empty()) {
        const std::string item = take_value(rest);
        sound = !item.empty() && item.front() != ',';
        if (sound && !rest.empty()) {
            rest.remove_prefix(1);
            sound = !rest.empty(); // an item must follow the comma
        }
    }
    if (!sound) {
        throw failure("Invalid option list: " + list +
                      " (an item is empty; write name=value,name=value)");
    }
}

/// An item without a value is a switch: `name` is on, `noname` is off.
named_option as_switch(std::string_view name) {
    if (name.starts_with("no")) { return {std::string(name.substr(2)), "off"}; }
    return {std::string(name), "on"};
}

} // namespace

std::vector<named_option> parse_option_lists(const std::vector<std::string>& lists) {
    std::vector<named_option> options;
    for (const std::string& list : lists) {
        check_list(list);
        std::string_view rest = list;
        while (!rest.empty()) {
            const std::size_t end = std::min(rest.find_first_of("=,"), rest.size());
            std::string name(rest.substr(0, end));
            rest.remove_prefix(end);
            if (rest.starts_with('=')) {
                rest.remove_prefix(1);
                std::string value = take_value(rest);
                options.push_back({std::move(name), std::move(value)});
            } else {
                options.push_back(as_switch(name));
            }
            if (!rest.empty()) { rest.remove_prefix(1); }
        }
    }
    return options;
}

bool asks_for_help(const std::vector<std::string>& lists) {
    bool asked = false;
    for (const std::string& list : lists) {
        check_list(list);
        for (std::string_view rest = list; !rest.empty();) {
            const std::string item = take_value(rest);
            asked = asked || item == "help" || item == "?";
            if (!rest.empty()) { rest.remove_prefix(1); }
        }
    }
    return asked;
}

bool switch_value(const std::string& path, const named_option& option) {
    const std::string& v = option.value;
    if (v == "on" || v == "yes" || v == "true" || v == "y") { return true; }
    if (v == "off" || v == "no" || v == "false" || v == "n") { return false; }
    throw failure(path + ": Parameter '" + option.name + "' expects 'on' or 'off'");
}

std::uint64_t size_value(const std::string& path, const named_option& option,
                         std::uint64_t most) {
    const parsed_size size = read_size(option.value, most);
    if (size.kind == parsed_size::outcome::too_large) {
        throw failure(path + ": Value '" + option.value + "' is out of range for parameter '" +
                      option.name + "'");
    }
    if (size.kind == parsed_size::outcome::malformed) {
        throw failure(path + ": Parameter '" + option.name +
                      "' expects a non-negative number below 2^64\nOptional suffix k, M, G, T, P "
                      "or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively.");
    }
    return size.bytes;
}

std::uint64_t number_value(const std::string& path, const named_option& option) {
    const auto number = parse_number(option.value);
    if (!number) {
        throw failure(path + ": Parameter '" + option.name + "' expects a number");
    }
    return *number;
}

} // namespace gaur_img
