// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "host.hpp"

#include <memory>

namespace gaur_img {

// One for each backend, in the file of its name. `depth`: operations at the host at once, if the
// backend has such an option.
gaur::result<std::unique_ptr<host>> make_uring(unsigned depth);
gaur::result<std::unique_ptr<host>> make_posix_aio(unsigned depth);
gaur::result<std::unique_ptr<host>> make_sync(unsigned depth);
gaur::result<std::unique_ptr<host>> make_threads(unsigned depth);

} // namespace gaur_img
