// SPDX-License-Identifier: BSL-1.0
// A second translation unit for every test program: what is defined in a header without `inline`
// is then defined twice, and the link fails.
#include <gaur/gaur.hpp>
