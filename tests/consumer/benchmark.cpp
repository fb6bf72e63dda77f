// SPDX-License-Identifier: BSL-1.0
// A user's placement, measured next to gaur's with the workloads of gaur::benchmark.
#include "last_fit.hpp"

#include <gaur/benchmark/placement.hpp>
#include <gaur/qcow2/alloc/first_fit.hpp>

int main(int argc, char** argv) {
    gaur::benchmark::compare_placements<last_fit, gaur::qcow2::alloc::first_fit>();
    benchmark::Initialize(&argc, argv);
    return benchmark::RunSpecifiedBenchmarks() == 0 ? 1 : 0;
}
