// SPDX-License-Identifier: BSL-1.0
// expect: an index needs `void insert(Node&) noexcept` and `void erase(Node&) noexcept`
#include <gaur/track/index.hpp>

template <class Node>
struct grows_only {
    static constexpr std::string_view name = "grows_only";
    void insert(Node&) noexcept {}
    Node* lowest_overlap(gaur::track::admission_list<Node>&, gaur::guest_range) noexcept {
        return nullptr;
    }
};
static_assert(gaur::track::check_index<grows_only>());
