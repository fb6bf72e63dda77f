// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdio>
#include <cstdlib>

namespace gaur {

/// Ends the program when gaur itself is wrong (never for bad input, never for a host's error):
/// going on would put a user's disk at risk. Always on; a branch that is never taken costs next to
/// nothing.
[[noreturn]] inline void contract_broken(const char* what, const char* file, int line) noexcept {
    std::fprintf(stderr, "gaur: broken contract: %s (%s:%d)\n", what, file, line);
    std::abort();
}

} // namespace gaur

/// The library's one macro. A program may define its own before including gaur.
#ifndef GAUR_ASSERT
#define GAUR_ASSERT(condition)                                                                     \
    (static_cast<bool>(condition) ? static_cast<void>(0)                                           \
                                  : ::gaur::contract_broken(#condition, __FILE__, __LINE__))
#endif
