// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <new>

namespace gaur {

/// Gives the container room for `count` elements. False, and nothing changed, if there is no
/// memory: for what grows with an input, in functions that must not throw and in coroutines.
template <class Container>
[[nodiscard]] bool try_reserve(Container& container, std::size_t count) noexcept {
#ifdef __cpp_exceptions
    try {
        container.reserve(count);
    } catch (const std::bad_alloc&) { return false; }
#else
    container.reserve(count);
#endif
    return true;
}

/// The same for `resize`: new elements are zeroes, or as their type makes them.
template <class Container>
[[nodiscard]] bool try_resize(Container& container, std::size_t count) noexcept {
    if (!try_reserve(container, count)) { return false; }
    container.resize(count);
    return true;
}

} // namespace gaur
