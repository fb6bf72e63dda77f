// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "report.hpp"
#include "site.hpp"

namespace gaur::bench {

/// Measures the works whose speed is compared on the disk, and what is counted during them. Prints
/// the current work to standard error.
void measure_works(site& at, report& to);

} // namespace gaur::bench
