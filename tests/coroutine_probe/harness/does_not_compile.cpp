// SPDX-License-Identifier: BSL-1.0
// A form that no compiler accepts: the probe must detect it.
#include "../probe.hpp"

task<int> probe() { co_return nothing_of_that_name; }
