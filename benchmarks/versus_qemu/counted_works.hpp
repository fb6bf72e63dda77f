// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "report.hpp"
#include "site.hpp"

namespace gaur::bench {

/// Measures what is counted, and times on simulated devices.
void measure_figures(site& at, report& to);

} // namespace gaur::bench
