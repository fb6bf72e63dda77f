// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/units.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

namespace gaur::benchmark {

/// The writes and discards of a guest over years of use, generated from a seed. Each pass frees
/// extents of 1 to 256 clusters until half of the disk is mapped, then writes until four fifths are
/// mapped. Half of the write streams are files of 1 to 256 clusters, each written in order in
/// requests of 1, 4 or 16 clusters. The others are single clusters at random offsets. Four streams
/// are active at a time; each request comes from one of them at random. The load does not depend on
/// the placement: all placements serve the same requests.
class aged_load {
  public:
    /// Adjacent guest clusters: to be freed, or to be written if none of them is mapped.
    struct step {
        guest_range range;
        bool frees = false;
    };

    /// `clusters`: size of the virtual disk.
    aged_load(cluster_count clusters, std::uint64_t seed)
        : random_(seed), mapped_(clusters.value) {}

    /// The steps of the next pass.
    std::vector<step> pass() {
        std::vector<step> steps;
        const std::uint64_t size = mapped_.size();
        while (count_ > size / 2) {
            const std::uint64_t at = below(size);
            map(at, std::min(size, at + extent()), false, steps);
        }
        while (count_ < size / 5 * 4) {
            writer& w = writers_[below(writers_.size())];
            if (w.at == w.end) { w = new_writer(); }
            const std::uint64_t to = std::min(w.end, w.at + w.request);
            map(w.at, to, true, steps);
            w.at = to;
        }
        return steps;
    }

    std::uint64_t clusters() const noexcept { return mapped_.size(); }

  private:
    struct writer {
        std::uint64_t at = 0;
        std::uint64_t end = 0;
        std::uint64_t request = 1;
    };

    std::uint64_t below(std::uint64_t n) { return random_() % n; }
    /// From 1 to 256, log-uniform: small sizes are as frequent as large ones.
    std::uint64_t extent() {
        const std::uint64_t size = std::uint64_t{1} << below(9);
        return size - below((size + 1) / 2);
    }
    writer new_writer() {
        const std::uint64_t at = below(mapped_.size());
        if (below(2) == 0) { return {at, at + 1, 1}; }
        constexpr std::array<std::uint64_t, 3> requests{1, 4, 16};
        const std::uint64_t end = std::min<std::uint64_t>(mapped_.size(), at + extent());
        return {at, end, requests[below(requests.size())]};
    }

    /// Adds a step for each run of `[from, to)` whose state is not `mapped`, and changes it.
    void map(std::uint64_t from, std::uint64_t to, bool mapped, std::vector<step>& steps) {
        while (from < to) {
            if (mapped_[from] == mapped) {
                ++from;
                continue;
            }
            std::uint64_t end = from;
            for (; end < to && mapped_[end] != mapped; ++end) { mapped_[end] = mapped; }
            steps.push_back({{{from}, {end - from}}, !mapped});
            count_ = mapped ? count_ + (end - from) : count_ - (end - from);
            from = end;
        }
    }

    std::mt19937_64 random_;
    std::vector<bool> mapped_;
    std::uint64_t count_ = 0;
    std::array<writer, 4> writers_{};
};

/// The mapping of the virtual disk: the host cluster of each guest cluster.
template <class Space>
class aged_disk {
  public:
    aged_disk(Space& space, std::uint64_t clusters) : space_(space), hosts_(clusters, none) {}

    /// Runs one step. False if the space was full.
    bool run(const aged_load::step& s) {
        for (guest_cluster at = s.range.first; at < s.range.end();) {
            if (s.frees) {
                space_.free({std::exchange(hosts_[at.value], none)});
                at = at + cluster_count{1};
                continue;
            }
            const host_range got = space_.take(s.range.end() - at, at);
            if (got.empty()) { return false; }
            for (std::uint64_t i = 0; i < got.count.value; ++i) {
                hosts_[at.value + i] = got.first.value + i;
            }
            at = at + got.count;
        }
        return true;
    }

    std::uint64_t mapped() const {
        return hosts_.size() - static_cast<std::uint64_t>(std::ranges::count(hosts_, none));
    }
    /// Number of runs that are contiguous both in the guest and in the host file.
    std::uint64_t fragments() const {
        std::uint64_t n = 0;
        std::uint64_t before = none;
        for (const std::uint64_t host : hosts_) {
            n += host != none && (before == none || host != before + 1) ? 1U : 0U;
            before = host;
        }
        return n;
    }

  private:
    static constexpr std::uint64_t none = ~std::uint64_t{0};
    Space& space_;
    std::vector<std::uint64_t> hosts_;
};

} // namespace gaur::benchmark
