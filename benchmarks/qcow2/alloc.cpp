// SPDX-License-Identifier: BSL-1.0
// What it costs to choose host clusters, and how good the choice is. The names are explained in
// gaur/benchmark/placement.hpp.
#include <gaur/benchmark/placement.hpp>
#include <gaur/qcow2/alloc/best_fit.hpp>
#include <gaur/qcow2/alloc/first_fit.hpp>
#include <gaur/qcow2/alloc/stream_windows.hpp>

namespace {

using namespace gaur::qcow2::alloc;

const bool registered =
    gaur::benchmark::compare_placements<first_fit, best_fit, stream_windows<first_fit>,
                                        stream_windows<best_fit>>();

} // namespace
