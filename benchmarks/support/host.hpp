// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "load.hpp"
#include "spent.hpp"
#include "trace.hpp"

#include <gaur/base/error.hpp>
#include <gaur/qcow2/epoch.hpp>
#include <gaur/track/in_flight.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace gaur::bench {

/// Raw, or qcow2 with that ordering.
enum class kind : std::uint8_t { raw, before_2009, serialize, join };

constexpr std::string_view name_of(kind k) noexcept {
    switch (k) {
    case kind::raw: return "raw";
    case kind::before_2009: return "qcow2, before-2009";
    case kind::serialize: return "qcow2, serialize";
    case kind::join: break;
    }
    return "qcow2, join";
}

struct image {
    std::string path;
    bench::kind kind = kind::join;
    bool direct = true;
    std::uint64_t create = 0;       ///< bytes of the disk to be created; 0: the file exists
    std::string raw_backing = "";   ///< of a new qcow2 image
    std::size_t cache_bytes = std::size_t{32} << 20;
};

/// What a run took, and what the engine counted during it.
struct outcome {
    spent bare;    ///< until the last operation had ended
    spent flushed; ///< and with a flush after it, if anything was written
    std::uint64_t device_writes = 0; ///< as `bare`, if the backend counts: the memory backend
    track::figures tracker;
    qcow2::commit_figures before_flush; ///< of commits, as `bare`
    qcow2::commit_figures commits;      ///< including that flush, without the close
};

struct replay_options {
    unsigned depth = 64;
    bool verify = false; ///< read everything back after a close, and check the image
};

/// Everything a benchmark does with a backend, so that one program can offer all of them.
class host {
  public:
    host() = default;
    host(const host&) = delete;
    host& operator=(const host&) = delete;
    virtual ~host() = default;

    virtual std::string_view name() const noexcept = 0;
    virtual outcome run(const image& on, const pattern& how) = 0;
    virtual outcome replay(const image& on, const std::vector<trace::line>& steps,
                           const replay_options& how) = 0;
    /// The number of runs of the host file in which the allocated data of a qcow2 image lies.
    virtual std::uint64_t count_extents(const image& on) = 0;
};

/// Options of the memory backend.
struct simulated_device {
    std::uint64_t latency_ns = 0;
    std::uint64_t seed = 0; ///< not 0: operations complete out of order
};

// One for each backend. `depth`: operations at the host at once, if the backend has that option.
result<std::unique_ptr<host>> make_uring(unsigned depth);
result<std::unique_ptr<host>> make_posix_aio(unsigned depth);
result<std::unique_ptr<host>> make_sync(unsigned depth);
result<std::unique_ptr<host>> make_threads(unsigned depth);
result<std::unique_ptr<host>> make_memory(const simulated_device& how);

/// Whether the file system supports O_DIRECT. Creates the file.
bool takes_direct(const std::string& new_file);

} // namespace gaur::bench
