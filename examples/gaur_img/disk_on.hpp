// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "bench_on.hpp"
#include "disk.hpp"
#include "space_rule.hpp"

#include <cerrno>
#include <cstdint>
#include <optional>
#include <string>
#include <sys/stat.h>
#include <utility>
#include <vector>

namespace gaur_img {

/// A file of an image's chain.
struct chain_file {
    std::string path;
    bool is_raw = false;
    std::optional<bool> lacks_space = {}; ///< set once it was asked for
};

/// A gaur image behind the commands' interface.
template <class Image>
class disk_on final : public disk {
  public:
    /// `files`: the chain, from the image down.
    disk_on(Image image, std::vector<chain_file> files, bool writes_through)
        : image_(std::move(image)), files_(std::move(files)), writes_through_(writes_through),
          cluster_size_(image_.engine().top().cluster_size()) {}

    std::uint64_t size() const noexcept override { return image_.size(); }
    std::uint64_t cluster_size() const noexcept override { return cluster_size_; }
    bool has_backing_file() const noexcept override { return files_.size() > 1; }
    const std::string& path(std::size_t layer) const noexcept override {
        return files_[layer].path;
    }
    bool is_raw(std::size_t layer) const noexcept override { return files_[layer].is_raw; }

    std::vector<gaur::io::file_identity> files() override {
        auto& layers = image_.engine().layers();
        std::vector<gaur::io::file_identity> all{layers.top().file().identity()};
        for (unsigned i = 0; i + 1 < layers.depth(); ++i) {
            all.push_back(layers.lower(i).file().identity());
        }
        return all;
    }

    gaur::async::task<bool> lacks_space(std::size_t layer) override {
        return find_out_space(*this, layer);
    }
    gaur::async::task<gaur::device::block_run> block_status(std::uint64_t at,
                                                            std::uint64_t n) override {
        return image_.block_status({at}, n);
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
    static gaur::async::task<bool> find_out_space(disk_on& self, std::size_t layer) {
        chain_file& file = self.files_[layer];
        if (file.is_raw) { co_return false; }
        if (file.lacks_space) { co_return *file.lacks_space; }
        struct stat status {};
        if (::stat(file.path.c_str(), &status) != 0) { co_return gaur::error::from_errno(errno); }
        const std::uint64_t space = static_cast<std::uint64_t>(status.st_blocks) * 512;
        auto& layers = self.image_.engine().layers();
        gaur::async::task<bool> counting;
        if constexpr (requires { layers.top().header(); }) {
            if (layer == 0) {
                counting = has_clusters_without_space(layers.top(), space);
            } else {
                counting =
                    has_clusters_without_space(*layers.lower(layer - 1).as_qcow2(), space);
            }
        }
        const gaur::result<bool> lacks = co_await counting;
        if (!lacks) { co_return lacks.error(); }
        file.lacks_space = *lacks;
        co_return *lacks;
    }

    Image image_;
    std::vector<chain_file> files_;
    bool writes_through_;
    std::uint64_t cluster_size_;
};

} // namespace gaur_img
