// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "bench_on.hpp"
#include "disk.hpp"
#include "hole_map.hpp"

#include <gaur/device/format.hpp>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace gaur_img {

/// A file of an image's chain.
struct chain_file {
    std::string path;
    std::optional<hole_map> holes; ///< of a raw file
};

/// A gaur image behind the interface of the commands.
template <class Image>
class disk_on final : public disk {
  public:
    disk_on(Image image, std::vector<chain_file> files, bool writes_through)
        : image_(std::move(image)), files_(std::move(files)), writes_through_(writes_through),
          cluster_size_(image_.engine().top().cluster_size()) {}

    std::uint64_t size() const noexcept override { return image_.size(); }
    std::uint64_t cluster_size() const noexcept override { return cluster_size_; }
    bool has_backing_file() const noexcept override { return files_.size() > 1; }
    const std::string& path(unsigned depth) const noexcept override { return files_[depth].path; }

    std::vector<gaur::io::file_identity> files() override {
        auto& layers = image_.engine().layers();
        std::vector<gaur::io::file_identity> all{layers.top().file().identity()};
        for (unsigned i = 0; i + 1 < layers.depth(); ++i) {
            all.push_back(layers.lower(i).file().identity());
        }
        return all;
    }

    gaur::async::task<block> block_at(std::uint64_t at, std::uint64_t n) override {
        auto& layers = image_.engine().layers();
        for (;;) {
            const look found = look_at(at, std::min(n, size() - at));
            if (!found.where.status) { co_return found.where.status.error(); }
            if (!found.where.first) { co_return describe(found, at); }
            gaur::async::task<void> resolving;
            if (found.depth == 0) {
                resolving = layers.top().resolve(found.where.first);
            } else {
                resolving = layers.lower(found.depth - 1).resolve(found.where.first);
            }
            gaur::result<void> r = co_await resolving;
            if (!r) { co_return r.error(); }
        }
    }
    gaur::async::task<void> read(std::uint64_t at, std::span<std::byte> to) override {
        auto request = image_.read({at}, to);
        gaur::result<void> r = co_await request;
        co_return r;
    }
    gaur::async::task<void> write(std::uint64_t at, std::span<const std::byte> from) override {
        auto request = image_.write({at}, from);
        gaur::result<void> r = co_await request;
        if (!r || !writes_through_) { co_return r; }
        auto flushing = image_.flush();
        r = co_await flushing;
        co_return r;
    }
    gaur::async::task<void> close() override { return image_.close(); }
    gaur::result<bench_figures> bench(const bench_options& how) override {
        return bench_on(image_, how, writes_through_);
    }

  private:
    struct look {
        gaur::device::located where;
        unsigned depth;
    };

    /// As the engine's own lookup, but says where it ended when no layer has anything.
    look look_at(std::uint64_t at, std::uint64_t n) noexcept {
        auto& layers = image_.engine().layers();
        look found{layers.top().locate({at}, n), 0};
        while (found.where.status && !found.where.first &&
               found.where.what.kind == gaur::device::mapping::unallocated &&
               found.depth + 1 < layers.depth()) {
            auto& below = layers.lower(found.depth);
            if (at >= below.size()) { break; }
            n = std::min(found.where.what.size, below.size() - at);
            found = {below.locate({at}, n), found.depth + 1};
        }
        return found;
    }

    block describe(const look& found, std::uint64_t at) const noexcept {
        using gaur::device::mapping;
        const gaur::device::extent& e = found.where.what;
        block b;
        b.size = e.size;
        b.depth = found.depth;
        b.present = e.kind != mapping::unallocated;
        b.data = e.kind == mapping::data || e.kind == mapping::compressed;
        if (e.has_host) { b.offset = e.host.value; }
        if (const auto& holes = files_[found.depth].holes; holes) {
            const hole_map::run run = holes->at(at, e.size);
            b.size = run.size;
            b.data = !run.hole;
        }
        b.zero = !b.data;
        return b;
    }

    Image image_;
    std::vector<chain_file> files_;
    bool writes_through_;
    std::uint64_t cluster_size_;
};

} // namespace gaur_img
