// SPDX-License-Identifier: BSL-1.0
// A user's placement, tested with the suite of gaur::conformance.
#include "last_fit.hpp"

#include <gaur/conformance/placement.hpp>

namespace gaur::conformance {
INSTANTIATE_TYPED_TEST_SUITE_P(consumer, placement_conformance, last_fit);
}

int main(int argc, char** argv) {
    ::testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}
