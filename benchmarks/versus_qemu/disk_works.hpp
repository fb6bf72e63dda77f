// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "report.hpp"
#include "site.hpp"

namespace gaur::bench {

/// The works whose speed is compared on the disk, and what is counted along with them. Says on
/// standard error what it is at.
void measure_works(site& at, report& to);

} // namespace gaur::bench
