// SPDX-License-Identifier: BSL-1.0
#include "cache_mode.hpp"

#include "failure.hpp"

namespace gaur_img {

cache_mode parse_cache_mode(const std::string& name, const std::string& what, int exit_code) {
    if (name == "none" || name == "off") { return {true, false, true}; }
    if (name == "directsync") { return {true, true, true}; }
    if (name == "writeback") { return {false, false, true}; }
    if (name == "writethrough") { return {false, true, true}; }
    if (name == "unsafe") { return {false, false, false}; }
    throw failure("Invalid " + what + ": " + name +
                      " (it is none, directsync, writeback, writethrough or unsafe)",
                  exit_code);
}

} // namespace gaur_img
