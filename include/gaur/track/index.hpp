// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/units.hpp>
#include <gaur/track/allocation.hpp>

#include <boost/intrusive/list.hpp>
#include <boost/intrusive/set.hpp>

#include <concepts>
#include <iterator>
#include <string_view>

namespace gaur::track {

/// Allocations in the order of admission. An index may iterate over them.
template <class Node>
using admission_list = boost::intrusive::list<
    Node,
    boost::intrusive::base_hook<
        boost::intrusive::list_base_hook<boost::intrusive::tag<by_admission>>>,
    boost::intrusive::constant_time_size<false>>;

/// How the tracker finds a conflict: `Index<Node>` over nodes derived from track::allocation.
///
///   lowest    lowest_overlap gives the overlapping allocation whose first cluster is the lowest,
///             null if there is none
///   disjoint  no two allocations in it overlap; it may rely on that
///   name      for reports
///   intrusive it owns no memory: a node brings the hook `by_place` of a boost::intrusive::set
template <template <class> class Index>
concept AllocationIndex =
    std::default_initializable<Index<allocation>> &&
    requires(Index<allocation>& index, allocation& node, admission_list<allocation>& admitted,
             guest_range range) {
        { Index<allocation>::name } -> std::convertible_to<std::string_view>;
        { index.insert(node) } noexcept;
        { index.erase(node) } noexcept;
        { index.lowest_overlap(admitted, range) } noexcept -> std::same_as<allocation*>;
    };

/// Compile-time errors that name the part of AllocationIndex that a template lacks.
template <template <class> class Index>
consteval bool check_index() {
    static_assert(std::default_initializable<Index<allocation>>,
                  "an index needs a default constructor");
    static_assert(
        requires { { Index<allocation>::name } -> std::convertible_to<std::string_view>; },
        "an index needs `static constexpr std::string_view name`");
    static_assert(
        requires(Index<allocation>& index, allocation& node) {
            { index.insert(node) } noexcept;
            { index.erase(node) } noexcept;
        },
        "an index needs `void insert(Node&) noexcept` and `void erase(Node&) noexcept`");
    static_assert(
        requires(Index<allocation>& index, admission_list<allocation>& admitted,
                 guest_range range) {
            { index.lowest_overlap(admitted, range) } noexcept -> std::same_as<allocation*>;
        },
        "an index needs `Node* lowest_overlap(admission_list<Node>&, guest_range) noexcept`");
    return AllocationIndex<Index>;
}

/// No index, as in the 2009 patch: a conflict is found by walking the list, O(n).
template <class Node>
class list_index {
  public:
    static constexpr std::string_view name = "list_index";
    void insert(Node&) noexcept {}
    void erase(Node&) noexcept {}
    Node* lowest_overlap(admission_list<Node>& admitted, guest_range range) const noexcept {
        Node* lowest = nullptr;
        for (Node& a : admitted) {
            if (a.guest().overlaps(range) &&
                (lowest == nullptr || a.guest().first < lowest->guest().first)) {
                lowest = &a;
            }
        }
        return lowest;
    }
};
static_assert(check_index<list_index>());

/// Allocations in the order of their first clusters. They never overlap each other. So the lowest
/// overlap can only be the last allocation that begins at or before the first cluster of the range,
/// or the one after it: O(log n).
template <class Node>
class ordered_index {
  public:
    static constexpr std::string_view name = "ordered_index";
    void insert(Node& a) noexcept { set_.insert(a); }
    void erase(Node& a) noexcept { set_.erase(set_.iterator_to(a)); }
    Node* lowest_overlap(admission_list<Node>&, guest_range range) noexcept {
        auto at = set_.upper_bound(range.first, first_less{});
        if (at != set_.begin()) {
            if (auto before = std::prev(at); before->guest().overlaps(range)) { return &*before; }
        }
        return at != set_.end() && at->guest().overlaps(range) ? &*at : nullptr;
    }

  private:
    struct first_less {
        bool operator()(const Node& a, const Node& b) const noexcept {
            return a.guest().first < b.guest().first;
        }
        bool operator()(guest_cluster a, const Node& b) const noexcept {
            return a < b.guest().first;
        }
        bool operator()(const Node& a, guest_cluster b) const noexcept {
            return a.guest().first < b;
        }
    };
    boost::intrusive::set<
        Node,
        boost::intrusive::base_hook<
            boost::intrusive::set_base_hook<boost::intrusive::tag<by_place>>>,
        boost::intrusive::compare<first_less>, boost::intrusive::constant_time_size<false>>
        set_;
};
static_assert(check_index<ordered_index>());

} // namespace gaur::track
