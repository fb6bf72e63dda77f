// SPDX-License-Identifier: BSL-1.0
// What the tracker costs with many allocations in flight: the ordered index against the list walk
// of the 2009 patch. The names are explained in gaur/benchmark/index.hpp.
#include <gaur/benchmark/index.hpp>

namespace {

const bool registered =
    gaur::benchmark::compare_indexes<gaur::track::ordered_index, gaur::track::list_index>();

} // namespace
