// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdio>
#include <cstdlib>

namespace gaur {

/// Ends the program if gaur itself is wrong: to continue would put the user's disk at risk. Never
/// called for bad input or for an error of the host. Always on: a branch that is never taken costs
/// next to nothing.
[[noreturn]] inline void contract_broken(const char* what, const char* file, int line) noexcept {
    std::fprintf(stderr, "gaur: broken contract: %s (%s:%d)\n", what, file, line);
    std::abort();
}

} // namespace gaur

/// The only macro of the library. A program may define its own before it includes gaur.
#ifndef GAUR_ASSERT
#define GAUR_ASSERT(condition)                                                                     \
    (static_cast<bool>(condition) ? static_cast<void>(0)                                           \
                                  : ::gaur::contract_broken(#condition, __FILE__, __LINE__))
#endif
