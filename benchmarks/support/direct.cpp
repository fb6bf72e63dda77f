// SPDX-License-Identifier: BSL-1.0
#include "host.hpp"

#include <gaur/io/host_file.hpp>

#include <cerrno>

namespace gaur::bench {

bool takes_direct(const std::string& new_file) {
    const auto opened = io::host_file::open(new_file, {true, true, false, true});
    if (!opened && opened.error() != error::from_errno(EINVAL)) {
        expect(result<void>(opened.error()), new_file);
    }
    return opened.has_value();
}

} // namespace gaur::bench
