// SPDX-License-Identifier: BSL-1.0
// expect: an ordering needs `static track::action decide(const track::conflict<allocation>&)
#include <gaur/track/ordering.hpp>

struct never_decides {
    static constexpr std::string_view name = "never";
    using allocation = gaur::track::allocation;
};
static_assert(gaur::track::check_ordering<never_decides>());
