// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/device/format.hpp>
#include <gaur/qcow2/format.hpp>
#include <gaur/raw/format.hpp>

#include <memory>
#include <span>
#include <utility>
#include <variant>

namespace gaur::qcow2 {

/// A backing file, qcow2 or raw: a model of device::ReadableFormat.
template <class Shard>
class any_layer {
  public:
    explicit any_layer(std::unique_ptr<format<Shard>> f) noexcept : format_(std::move(f)) {}
    explicit any_layer(std::unique_ptr<raw::format<Shard>> f) noexcept : format_(std::move(f)) {}

    std::uint64_t size() const noexcept {
        return visit([](const auto& f) { return f.size(); });
    }
    std::uint64_t cluster_size() const noexcept {
        return visit([](const auto& f) { return f.cluster_size(); });
    }
    typename Shard::file& file() noexcept {
        return visit([](auto& f) -> typename Shard::file& { return f.file(); });
    }
    device::located locate(guest_offset at, std::uint64_t n) noexcept {
        return visit([=](auto& f) { return f.locate(at, n); });
    }
    async::task<void> resolve(const device::missing& w) {
        return visit([&w](auto& f) { return f.resolve(w); });
    }
    async::task<void> inflate(const device::extent& e, std::span<std::byte> cluster) {
        return visit([&](auto& f) { return f.inflate(e, cluster); });
    }

    /// The qcow2 format of this layer; null if the layer is a raw file. Owned by the layer.
    format<Shard>* as_qcow2() noexcept {
        auto* f = std::get_if<0>(&format_);
        return f != nullptr ? f->get() : nullptr;
    }

  private:
    template <class F>
    decltype(auto) visit(F use) noexcept {
        return std::get_if<0>(&format_) != nullptr ? use(**std::get_if<0>(&format_))
                                                   : use(**std::get_if<1>(&format_));
    }
    template <class F>
    decltype(auto) visit(F use) const noexcept {
        return std::get_if<0>(&format_) != nullptr
                   ? use(std::as_const(**std::get_if<0>(&format_)))
                   : use(std::as_const(**std::get_if<1>(&format_)));
    }

    std::variant<std::unique_ptr<format<Shard>>, std::unique_ptr<raw::format<Shard>>> format_;
};

} // namespace gaur::qcow2
