// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/shard.hpp>
#include <gaur/cache/resident_table.hpp>
#include <gaur/exec/inline.hpp>
#include <gaur/io/memory.hpp>
#include <gaur/qcow2/alloc/memory_refcounts.hpp>
#include <gaur/qcow2/alloc/placement.hpp>
#include <gaur/qcow2/alloc/stream_ends.hpp>
#include <gaur/qcow2/layout/new_image.hpp>
#include <gaur/qcow2/image_tables.hpp>
#include <gaur/qcow2/refcounts.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace gaur::benchmark {

/// Host clusters from a placement alone, over refcounts in plain memory: measures the cost of the
/// policy, without that of an image.
template <qcow2::alloc::Placement P>
class chosen_space {
  public:
    static constexpr std::string_view name = "choose";

    /// At least `clusters` can be taken. `ahead`: number of clusters whose refcounts may be raised
    /// in advance.
    chosen_space(cluster_count clusters, cluster_count ahead) : counts_(clusters, ahead) {}

    /// From 1 to `count` adjacent host clusters, for the guest clusters from `at` on. Empty if the
    /// space is full.
    host_range take(cluster_count count, guest_cluster at) noexcept {
        const qcow2::alloc::request what{count, count, at, ends_.find(at)};
        const qcow2::alloc::answer found = placement_.take(counts_, what);
        const auto* g = std::get_if<qcow2::alloc::grant>(&found);
        if (g == nullptr) { return {}; }
        ends_.note(at, at + g->count, g->first + g->count);
        return {g->first, g->count};
    }
    void free(host_cluster c) noexcept {
        counts_.free(c);
        placement_.freed(c);
    }
    std::uint64_t host_clusters() const noexcept { return counts_.used_end().value; }

  private:
    qcow2::alloc::memory_refcounts counts_;
    qcow2::alloc::stream_ends ends_;
    P placement_;
};

/// Host clusters as a write allocates them: qcow2::refcounts::take over cached refcount slices,
/// including new refcount blocks and the metadata map. Clusters are 64 KiB. One more cluster is
/// taken as an L2 table for each 8192 clusters, as in an image. Does no I/O: all slices stay in
/// memory.
template <qcow2::alloc::Placement P>
class allocated_space {
  public:
    static constexpr std::string_view name = "allocate";

    allocated_space(cluster_count, cluster_count ahead)
        : shard_(io_, loop_.get_executor()), head_(made()),
          tables_(shard_, io_, opened(), head_.head, head_.file_size(), cache_bytes),
          counts_(tables_, refcount_table(), ahead) {
        require(tables_.metadata_places.add(host_range{{0}, head_.clusters}));
    }

    host_range take(cluster_count count, guest_cluster at) noexcept {
        if (taken_ >= clusters_of_l2_) { add_table(); }
        const device::grant g = asked(count, at);
        taken_ += g.count.value;
        return {g.first, g.count};
    }
    void free(host_cluster c) noexcept {
        while (const device::missing w = counts_.lower(c)) { load(w); }
        --taken_;
    }
    std::uint64_t host_clusters() const noexcept {
        return tables_.tables.clusters.cluster_of(tables_.used_end).value;
    }

  private:
    using backend = io::memory::backend;
    using shard_type = async::shard<backend, exec::inline_loop::executor>;
    static constexpr std::size_t cache_bytes = std::size_t{64} << 20;

    static void require(bool well) {
        if (!well) { throw std::runtime_error("gaur::benchmark: no image to take clusters from"); }
    }
    static qcow2::layout::new_image made() {
        result<qcow2::layout::new_image> planned =
            qcow2::layout::plan({.size = std::uint64_t{1} << 40});
        require(planned.has_value());
        return *std::move(planned);
    }
    backend::file opened() {
        result<backend::file> file = io_.open("image", {.write = true, .create = true});
        require(file.has_value());
        io::sparse_bytes content;
        for (const qcow2::layout::piece& p : head_.tables) {
            content.write(p.at.value, p.bytes.data(), p.bytes.size());
        }
        io_.set_content("image", std::move(content));
        return *std::move(file);
    }
    cache::resident_table refcount_table() const {
        for (const qcow2::layout::piece& p : head_.tables) {
            if (p.at.value == head_.head.refcount_table_offset) {
                std::vector<std::byte> bytes = p.bytes;
                bytes.resize(std::size_t{head_.head.refcount_table_clusters} << 16);
                return {p.at, std::move(bytes)};
            }
        }
        require(false);
        return {};
    }

    device::grant asked(cluster_count count, std::optional<guest_cluster> at) noexcept {
        device::grant g = counts_.take(count, at);
        while (g.missing) {
            load(g.missing);
            g = counts_.take(count, at);
        }
        return g;
    }
    void load(const device::missing& w) noexcept {
        tables_.slices.prefetch(w.host, cache::slice_kind::refcount); // ends at once: memory
    }
    void add_table() noexcept {
        const device::grant g = asked({1}, {});
        if (g.count.value == 1) { static_cast<void>(tables_.metadata_places.add(g.first)); }
        clusters_of_l2_ += 8192;
    }

    backend io_;
    exec::inline_loop loop_;
    shard_type shard_;
    qcow2::layout::new_image head_;
    qcow2::image_tables<shard_type> tables_;
    qcow2::refcounts<shard_type, P> counts_;
    std::uint64_t taken_ = 0;
    std::uint64_t clusters_of_l2_ = 0;
};

} // namespace gaur::benchmark
