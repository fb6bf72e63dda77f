// SPDX-License-Identifier: BSL-1.0
// A complete custom placement: a buddy allocator. It keeps no free list, since the refcounts say
// what is free. To write your own, copy it, run gaur/conformance/placement.hpp on it, as
// tests/examples/custom_placement.cpp does, and time it with gaur/benchmark/placement.hpp.
#include <gaur/qcow2/alloc/best_fit.hpp>
#include <gaur/qcow2/alloc/first_fit.hpp>
#include <gaur/qcow2/alloc/memory_refcounts.hpp>
#include <gaur/qcow2/alloc/placement.hpp>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <random>
#include <string_view>
#include <variant>

/// A request gets an aligned block of 2^n clusters. A block whose buddy is in use is preferred, so
/// that two free buddies stay one larger block.
class buddy {
  public:
    static constexpr std::string_view name = "buddy";

    /// Answers at once: clusters, or the part of the refcounts that must be loaded first, or full.
    template <gaur::qcow2::alloc::RefcountView R>
    gaur::qcow2::alloc::answer take(R& counts,
                                    const gaur::qcow2::alloc::request& what) noexcept {
        for (;;) {
            const auto found = counts.slice_of(cursor_);
            const auto* slice = std::get_if<gaur::qcow2::alloc::refcount_slice>(&found);
            if (slice == nullptr) { return gaur::qcow2::alloc::no_slice(found); }
            // The smallest block that the request fits into; if none is free, the largest free
            // block.
            const auto wanted = std::min<std::uint64_t>(what.count.value, slice->count);
            for (std::size_t size = std::bit_floor(slice->count); size > 0; size /= 2) {
                if (size >= 2 * wanted) { continue; }
                const std::size_t at = free_block(counts.width(), *slice, size);
                if (at == slice->count) { continue; }
                return counts.take_free({slice->first + gaur::cluster_count{at},
                                         {std::min<std::uint64_t>(size, wanted)}});
            }
            cursor_ = slice->first + gaur::cluster_count{slice->count}; // this slice is full
        }
    }

    /// `c` is free again: the search must not begin after it.
    void freed(gaur::host_cluster c) noexcept { cursor_ = std::min(cursor_, c); }

    /// Would give back refcounts that were raised in advance. This placement raises none.
    template <class F>
    void release(F) noexcept {}

  private:
    /// The index of a free block of `size` clusters in the slice; slice.count if there is none.
    static std::size_t free_block(gaur::qcow2::layout::refcount_width width,
                                  const gaur::qcow2::alloc::refcount_slice& slice,
                                  std::size_t size) noexcept {
        const auto is_free = [&](std::size_t at) {
            return at + size <= slice.count &&
                   width.run_of_zeroes(slice.data, at, at + size) == size;
        };
        std::size_t whole = slice.count; // the first free block whose buddy is free as well
        for (std::size_t at = 0; at < slice.count; at += size) {
            at = width.first_zero(slice.data, at, slice.count) / size * size;
            if (!is_free(at)) { continue; }
            if (!is_free(at ^ size)) { return at; }
            if (whole == slice.count) { whole = at; }
        }
        return whole;
    }

    gaur::host_cluster cursor_; // all slices before this one's are full
};

static_assert(gaur::qcow2::alloc::check_placement<buddy>()); // says which piece is missing

/// The average number of clusters in one run of the host file, for a stream of requests of 16
/// clusters each, in a file of which half was freed in pieces.
template <class Placement>
double clusters_a_run() {
    gaur::qcow2::alloc::memory_refcounts file({1 << 15});
    Placement placement;
    std::mt19937_64 random(1);
    file.take_free({{0}, file.clusters()});
    for (std::uint64_t at = 0; at < file.clusters().value; at += 1 + random() % 12) {
        for (std::uint64_t size = random() % 12; size > 0 && at < file.clusters().value; --size) {
            file.free({at++});
        }
    }
    gaur::qcow2::alloc::request next{{16}, {16}, gaur::guest_cluster{0}, {}};
    double clusters = 0;
    double runs = 0;
    while (clusters < 5000) {
        const auto answer = placement.take(file, next);
        const auto* g = std::get_if<gaur::qcow2::alloc::grant>(&answer);
        if (g == nullptr) { return 0; }
        clusters += static_cast<double>(g->count.value);
        runs += next.after == g->first ? 0 : 1;
        next.at = *next.at + g->count;
        next.after = g->first + g->count;
    }
    return clusters / runs;
}

int main() {
    const double ours = clusters_a_run<buddy>();
    const double first = clusters_a_run<gaur::qcow2::alloc::first_fit>();
    const double best = clusters_a_run<gaur::qcow2::alloc::best_fit>();
    std::printf("clusters a run: buddy %.1f, first_fit %.1f, best_fit %.1f\n", ours, first, best);
    return ours > 1 && first > 1 && best >= first ? 0 : 1;
}
