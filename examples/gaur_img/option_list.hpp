// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace gaur_img {

/// One `name=value` of the list after -o.
struct named_option {
    std::string name;
    std::string value;
};

/// The options of all lists in order, in QEMU's syntax: commas separate them, `,,` inside a value
/// is one comma, `name` alone is `name=on` and `noname` alone is `name=off`. Throws failure if a
/// list is empty or has an empty item.
std::vector<named_option> parse_option_lists(const std::vector<std::string>& lists);

/// Whether an item of a list is `help` or `?`. Throws failure as parse_option_lists does.
bool asks_for_help(const std::vector<std::string>& lists);

// These parse the value of an option. `path` is the image's, for the message. All throw failure.

/// on, yes, true, y; off, no, false, n. In lower case, as in QEMU.
bool switch_value(const std::string& path, const named_option& option);

/// A size (see read_size) of at most `most`.
std::uint64_t size_value(const std::string& path, const named_option& option,
                         std::uint64_t most = UINT64_MAX);

/// A whole number (see parse_number).
std::uint64_t number_value(const std::string& path, const named_option& option);

} // namespace gaur_img
