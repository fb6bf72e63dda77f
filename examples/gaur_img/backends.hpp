// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "host.hpp"

#include <memory>

namespace gaur_img {

// One a backend, each in the file of its name. `depth`: operations at the host at once, where the
// backend takes that as an option.
gaur::result<std::unique_ptr<host>> make_uring(unsigned depth);
gaur::result<std::unique_ptr<host>> make_posix_aio(unsigned depth);
gaur::result<std::unique_ptr<host>> make_sync(unsigned depth);
gaur::result<std::unique_ptr<host>> make_threads(unsigned depth);

} // namespace gaur_img
