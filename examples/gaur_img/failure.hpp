// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/error.hpp>

#include <stdexcept>
#include <string>
#include <utility>

namespace gaur_img {

/// Ends the command. The text is printed to standard error after the program's name. Never thrown
/// in a coroutine: there a result carries the error.
class failure : public std::runtime_error {
  public:
    explicit failure(const std::string& text, int exit_code = 1)
        : std::runtime_error(text), exit_code_(exit_code) {}
    int exit_code() const noexcept { return exit_code_; }

  private:
    int exit_code_;
};

/// Returns the value, or ends the command with "<what failed>: <why>".
template <class T>
T expect(gaur::result<T> outcome, const std::string& what_failed, int exit_code = 1) {
    if (!outcome) { throw failure(what_failed + ": " + outcome.error().message(), exit_code); }
    return std::move(outcome).value();
}

} // namespace gaur_img
