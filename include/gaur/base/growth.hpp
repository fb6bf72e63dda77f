// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <new>

namespace gaur {

/// Reserves room for `count` elements. Returns false and changes nothing if the allocation fails.
/// For containers whose size depends on an input, in functions that must not throw and in
/// coroutines.
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

/// The same for `resize`. New elements are value-initialized.
template <class Container>
[[nodiscard]] bool try_resize(Container& container, std::size_t count) noexcept {
    if (!try_reserve(container, count)) { return false; }
    container.resize(count);
    return true;
}

} // namespace gaur
