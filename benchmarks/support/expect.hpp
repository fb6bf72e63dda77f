// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/error.hpp>

#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

namespace gaur::bench {

/// Returns the value, or throws an exception that says what failed and why.
template <class T>
T expect(result<T> outcome, const std::string& what) {
    if (!outcome) { throw std::runtime_error(what + ": " + outcome.error().message()); }
    if constexpr (!std::is_void_v<T>) { return *std::move(outcome); }
}

} // namespace gaur::bench
