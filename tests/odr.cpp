// SPDX-License-Identifier: BSL-1.0
// A second translation unit for every test program. A header's definition without `inline` is then
// defined twice, and the link fails.
#include <gaur/gaur.hpp>

static_assert(GAUR_VERSION == gaur::version.major * 10000 + gaur::version.minor * 100 +
                                  gaur::version.patch);
