// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "support/spent.hpp"
#include "support/trace.hpp"

#include <string>
#include <vector>

namespace gaur::bench {

/// Replays the steps through one qemu-io, which reads its commands from a pipe: aio_write and
/// aio_read, then aio_flush and flush at each flush. The number of requests in flight has no bound.
/// The seconds include its start and its end. Throws if it fails or complains.
spent run_qemu_io(const std::string& path, const std::string& format, const std::string& aio,
                  bool direct, const std::vector<trace::line>& steps);

} // namespace gaur::bench
