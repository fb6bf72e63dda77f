// SPDX-License-Identifier: BSL-1.0
#if __has_include(<gaur/gaur.hpp>)
#include <gaur/gaur.hpp>
#endif

#include <gaur/base/error.hpp>

#include <system_error>

int main() {
    const std::error_code code = gaur::error(gaur::errc::not_qcow2);
    return code.message().empty() ? 1 : 0;
}
