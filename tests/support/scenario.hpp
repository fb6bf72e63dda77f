// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "support/model_disk.hpp"
#include "support/watchdog.hpp"

#include <gaur/async/sync_wait.hpp>
#include <gaur/exec/inline.hpp>
#include <gaur/io/fault.hpp>
#include <gaur/io/memory.hpp>
#include <gaur/io/seeded.hpp>
#include <gaur/qcow2/create.hpp>
#include <gaur/qcow2/image.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace gaur::test {

/// The single device type of all simulations: each further type is another engine to compile. It
/// ends the process if the run hangs.
class simulated_device : public io::fault::backend<io::memory::backend> {
    using base = io::fault::backend<io::memory::backend>;

  public:
    using base::base;

    io::submit_status submit(file& on, operation& op, const io::request& what) noexcept {
        dog_.step();
        return base::submit(on, op, what);
    }
    unsigned poll() noexcept {
        dog_.step();
        return base::poll();
    }
    /// Must not be called with nothing in flight: nothing would end the wait.
    unsigned wait() noexcept {
        dog_.step();
        if (in_flight() == 0) { dog_.hangs("nothing is in flight that could end"); }
        return base::wait();
    }

    watchdog& dog() noexcept { return dog_; }

  private:
    watchdog dog_;
};
using memory_disk = io::memory::disk;

/// One of the values, drawn uniformly from the list: repeat a value to weight it.
template <class T, std::size_t N>
T one_of(io::seeded& random, const T (&values)[N]) {
    return values[random.below(N)];
}

inline std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
    const char* text = std::getenv(name);
    return text != nullptr ? std::strtoull(text, nullptr, 0) : otherwise;
}

/// The reduced part of a run that is repeated: see shrink.hpp.
struct part_of_run {
    std::vector<unsigned> steps; ///< of the guests, by number, in order
    std::uint64_t mishap_at = 1000; ///< time of cuts and faults, per mille of the seed's
    bool tell = false;           ///< print each step as it begins, on standard error

    bool has(unsigned number) const {
        return std::binary_search(steps.begin(), steps.end(), number);
    }
};

/// What one seed decides about an image and its load.
struct scenario {
    std::uint64_t seed = 0;
    const part_of_run* part = nullptr; ///< null: the whole run
    qcow2::create_options top;
    std::vector<std::uint64_t> lower_sizes; ///< backing files, the nearest first
    std::vector<bool> lower_is_raw;
    std::size_t cache_bytes = 0;
    std::uint64_t grow_ahead = 0;
    std::uint64_t count_ahead = 0;
    std::uint64_t request_bytes = 0;
    io::memory::options device;
    unsigned depth = 1;
    unsigned operations = 0;
    unsigned sessions = 1;
    unsigned snapshots = 0;      ///< between sessions
    unsigned compressed = 0;     ///< of 4 clusters, between sessions
    bool overlaps = false;       ///< writes in flight may overlap each other
    bool stream = false;         ///< most requests are small and begin where the previous one ended
    std::uint64_t hot_bytes = 0; ///< most requests go here
    std::uint64_t border = 0;    ///< half of the requests go to multiples of it; 0: none
    std::uint64_t most_bytes = 0; ///< of one request
    unsigned flush_weight = 0;

    /// The request at which a mishap comes that the seed has at the n-th request.
    std::uint64_t early(std::uint64_t n) const noexcept {
        return part == nullptr ? n : std::max<std::uint64_t>(1, n * part->mishap_at / 1000);
    }

    std::string describe() const {
        std::string text = "seed " + std::to_string(seed) + ": v" + std::to_string(top.version) +
                           ", cluster bits " + std::to_string(top.cluster_bits) +
                           ", refcount bits " + std::to_string(top.refcount_bits) + ", size " +
                           std::to_string(top.size) + (top.lazy_refcounts ? ", lazy" : "");
        for (std::size_t i = 0; i < lower_sizes.size(); ++i) {
            text += lower_is_raw[i] ? ", over raw " : ", over qcow2 ";
            text += std::to_string(lower_sizes[i]);
        }
        text += ", cache " + std::to_string(cache_bytes) + ", ahead " +
                std::to_string(grow_ahead) + ", count ahead " + std::to_string(count_ahead) +
                ", requests' bytes " + std::to_string(request_bytes) + ", depth " +
                std::to_string(depth) +
                ", alignment " + std::to_string(device.limits.offset_alignment) + ", device " +
                (device.seed != 0 ? "seeded" : device.deferred ? "deferred" : "at once") +
                ", sessions " + std::to_string(sessions) + ", snapshots " +
                std::to_string(snapshots) + ", compressed " + std::to_string(compressed) +
                (overlaps ? ", overlaps" : "") + (stream ? ", stream" : "");
        return text;
    }
};

/// Decides the scenario of a seed. `cluster_bits` 0: any, mostly small ones.
inline scenario decide(std::uint64_t seed, unsigned cluster_bits) {
    io::seeded random(seed);
    scenario s;
    s.seed = seed;
    s.top.cluster_bits = cluster_bits;
    s.top.version = random.below(4) == 0 ? 2 : 3;
    s.top.refcount_bits = s.top.version == 2 ? 16 : 1U << random.below(7);
    s.top.lazy_refcounts = s.top.version == 3 && random.below(5) < 2;
    const std::uint64_t cluster = std::uint64_t{1} << cluster_bits;
    // Clusters for a few tables, and a last cluster that is only partly inside the disk.
    s.top.size = 512 * (1 + random.below(cluster / 512 * (cluster_bits < 12 ? 400 : 24)));
    s.hot_bytes = cluster * (1 + random.below(one_of<std::uint64_t>(random, {2, 10, 40})));
    s.hot_bytes = std::min(s.top.size, s.hot_bytes);
    const auto most = one_of<std::uint64_t>(random, {1, 2, 6, 6, 40}); // half clusters
    s.most_bytes = std::min<std::uint64_t>(s.top.size, cluster / 2 * most);
    s.most_bytes = std::min<std::uint64_t>(s.most_bytes, std::max<std::uint64_t>(cluster, 1 << 17));
    if (cluster_bits < 12 && s.top.refcount_bits >= 32 && random.below(8) == 0) {
        s.top.size = 1 << 21 | 512 * random.below(2048); // the refcount table has to grow
        s.most_bytes = 1 << 15;
    }
    for (std::uint64_t depth = one_of<std::uint64_t>(random, {0, 0, 1, 1, 2}); depth > 0; --depth) {
        s.lower_sizes.push_back(512 * (1 + random.below(s.top.size / 512 * 3 / 2 + 1)));
        s.lower_is_raw.push_back(random.coin());
        if (s.lower_is_raw.back()) {
            s.lower_sizes.back() -= random.below(512); // a raw file may end anywhere
            break;
        }
    }
    if (!s.lower_sizes.empty()) {
        s.top.backing_file = "lower0";
        s.top.backing_format = s.lower_is_raw[0] ? "raw" : "qcow2";
    }
    s.cache_bytes = one_of<std::size_t>(random, {0, 6 * 512, 1 << 15, 1 << 20});
    s.grow_ahead = one_of<std::uint64_t>(random, {0, 0, 4096, 8 * cluster});
    s.count_ahead = one_of<std::uint64_t>(random, {0, cluster, 5 * cluster, 1 << 22});
    const std::uint32_t alignment = one_of<std::uint32_t>(random, {1, 1, 1, 512, 4096});
    s.device.limits.offset_alignment = alignment;
    s.device.limits.memory_alignment = alignment;
    s.device.deferred = random.below(4) != 0;
    s.device.seed = s.device.deferred && random.below(4) != 0 ? seed | 1 : 0;
    s.device.depth = one_of(random, {0U, 0U, 1U, 4U});
    s.depth = one_of(random, {1U, 2U, 8U, 32U, 64U});
    s.sessions = one_of(random, {1U, 2U, 3U});
    s.operations = 200 / s.sessions;
    s.snapshots = random.coin() ? s.sessions - 1 : 0;
    s.compressed = one_of(random, {0U, 1U, 3U});
    s.overlaps = random.below(3) == 0;
    s.stream = random.below(4) == 0;
    s.flush_weight = one_of(random, {0U, 2U, 10U, 30U});
    if (cluster_bits < 12 && random.below(12) == 0) { // many tables, few of them in memory
        s.top.size = 1 << 19 | 512 * random.below(512);
        s.hot_bytes = s.top.size;
        s.most_bytes = 1 << 10;
        s.cache_bytes = 0;
        s.depth = one_of(random, {1U, 2U, 2U, 8U});
        s.flush_weight = 20;
    }
    if (cluster_bits == 13) { // 2,000 clusters: an L2 table has two slices, a slice 8 sectors
        s.top.size = 2000 * cluster - 512 * random.below(16);
        s.hot_bytes = s.top.size;
        s.border = 512 / 8 * cluster;
        s.most_bytes = 10 * cluster;
    }
    // One request at work, a few, all.
    s.request_bytes = one_of<std::uint64_t>(random, {0, 1 << 19, 1 << 30, 1 << 30});
    return s;
}

/// The files before the first session, and what the guest sees in them.
struct prepared_disk {
    memory_disk files;
    std::vector<std::byte> content;
};

namespace simulation {

template <class T>
T must(result<T> r) {
    if (!r) {
        std::fprintf(stderr, "preparing failed: %s\n", r.error().message().c_str());
        std::abort();
    }
    return *std::move(r);
}
inline void must(result<void> r) {
    if (!r) {
        std::fprintf(stderr, "preparing failed: %s\n", r.error().message().c_str());
        std::abort();
    }
}

} // namespace simulation

/// Makes the image of a scenario and its backing files, sound.
inline prepared_disk prepare(const scenario& s) {
    io::seeded random(s.seed ^ 0x1234);
    simulated_device io(std::make_unique<io::memory::backend>());
    exec::inline_loop loop;
    const auto executor = loop.get_executor();
    prepared_disk made;
    for (std::size_t i = s.lower_sizes.size(); i-- > 0;) {
        const std::string name = "lower" + std::to_string(i);
        const std::uint64_t size = s.lower_sizes[i];
        const std::uint32_t owner = 0xb000'0000U + static_cast<std::uint32_t>(i);
        if (s.lower_is_raw[i]) {
            made.content.resize(size);
            fill_tagged(made.content, 0, owner);
            io.inner().set_content(name, io::sparse_bytes(made.content));
            continue;
        }
        qcow2::create_options how;
        how.size = size;
        how.cluster_bits = one_of(random, {9U, 9U, 12U, 16U});
        if (i + 1 < s.lower_sizes.size()) {
            how.backing_file = "lower" + std::to_string(i + 1);
            how.backing_format = s.lower_is_raw[i + 1] ? "raw" : "qcow2";
        }
        simulation::must(sync_wait(io, executor, qcow2::create(io, executor, name, how)));
        auto disk = simulation::must(sync_wait(
            io, executor,
            qcow2::open(io, executor, name,
                        {.write = true,
                         .references = qcow2::references::follow,
                         .grow_ahead = 0})));
        made.content.resize(size);
        for (int pieces = 0; pieces < 6; ++pieces) {
            const std::uint64_t at = random.below(size);
            const std::uint64_t n = 1 + random.below(std::min(size - at, size / 6 + 1));
            const std::span<std::byte> part = std::span(made.content).subspan(at, n);
            fill_tagged(part, at, owner);
            auto writing = disk.write({at}, part);
            simulation::must(sync_wait(writing));
        }
        simulation::must(sync_wait(io, executor, disk.close()));
    }
    made.content.resize(s.top.size);
    simulation::must(sync_wait(io, executor, qcow2::create(io, executor, "top", s.top)));
    made.files = io.inner().snapshot();
    return made;
}

} // namespace gaur::test
