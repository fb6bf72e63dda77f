// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/shard.hpp>
#include <gaur/device/format.hpp>

#include <algorithm>
#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace gaur::device {

/// The layers of an image: the top layer, which may be written, and the backing files below it,
/// which are only read. A read asks the layers from the top down. It does one I/O for each extent
/// of data that it finds.
template <class Shard, ReadableFormat Top, ReadableFormat Lower>
class chain {
  public:
    chain(Shard& shard, std::unique_ptr<Top> top, std::vector<std::unique_ptr<Lower>> lower)
        : shard_(shard), top_(std::move(top)), lower_(std::move(lower)) {}

    Top& top() noexcept { return *top_; }
    std::size_t depth() const noexcept { return 1 + lower_.size(); }
    Lower& lower(std::size_t i) noexcept { return *lower_[i]; }
    std::uint64_t largest_cluster() const noexcept {
        std::uint64_t largest = top_->cluster_size();
        for (const auto& below : lower_) { largest = std::max(largest, below->cluster_size()); }
        return largest;
    }

    /// The source of the bytes at `at`: the layer and its extent, or what a layer must resolve
    /// first.
    struct found {
        located where;       // kind: data, compressed or zero; never unallocated
        std::size_t layer = 0; // 0: the top
    };

    found find(guest_offset at, std::uint64_t n) noexcept { return find_from(0, at, n); }

    /// The same without the top layer: the content of a cluster that is unallocated in the top
    /// layer.
    found find_below(guest_offset at, std::uint64_t n) noexcept { return find_from(1, at, n); }

    async::task<void> resolve(const found& f) {
        return f.layer == 0 ? top_->resolve(f.where.missing)
                            : lower_[f.layer - 1]->resolve(f.where.missing);
    }

    /// Fills `to` with the content of the virtual disk at `at`. All extents of data are read in
    /// parallel. Does not ask the tracker, so the engine also uses it for its own reads. Errors:
    /// the host's, those of a damaged table, ENOMEM.
    async::task<void> read(guest_offset at, std::span<std::byte> to) {
        return read_from(*this, at, to);
    }

    async::frame_pool& frames() noexcept { return shard_.frames(); }

    /// Precondition: no I/O is in flight, and none begins afterwards.
    void close_files() noexcept {
        top_->file().close();
        for (auto& below : lower_) { below->file().close(); }
    }

  private:
    /// Bound of the operations in flight for one request; enough to saturate a device.
    static constexpr unsigned most_reads = 256;

    found find_from(std::size_t layer, guest_offset at, std::uint64_t n) noexcept {
        if (layer == 0) {
            located l = top_->locate(at, n);
            if (!l.status || l.missing || l.what.kind != mapping::unallocated) { return {l, 0}; }
            n = l.what.size;
            layer = 1;
        }
        for (; layer <= lower_.size(); ++layer) {
            Lower& below = *lower_[layer - 1];
            // A backing file may be shorter than the layer above it: past its end are zeroes.
            if (at.value >= below.size()) { break; }
            located l = below.locate(at, std::min(n, below.size() - at.value));
            if (!l.status || l.missing || l.what.kind != mapping::unallocated) {
                return {l, layer};
            }
            n = l.what.size;
        }
        located zeroes;
        zeroes.what.kind = mapping::zero;
        zeroes.what.size = n;
        return {zeroes, layer};
    }

    static async::task<void> read_from(chain& self, guest_offset at, std::span<std::byte> to) {
        async::io_group<Shard> reads(self.shard_);
        result<void> status;
        for (std::size_t done = 0; status && done < to.size();) {
            const found f = self.find(at + done, to.size() - done);
            if (!f.where.status) {
                status = f.where.status;
                break;
            }
            if (f.where.missing) {
                async::task<void> resolving = self.resolve(f);
                status = co_await resolving;
                continue;
            }
            if (reads.running() >= most_reads) {
                status = co_await reads;
                continue;
            }
            const extent& e = f.where.what;
            const std::span<std::byte> part = to.subspan(done, static_cast<std::size_t>(e.size));
            if (e.kind == mapping::zero) {
                std::memset(part.data(), 0, part.size());
            } else if (e.kind == mapping::data) {
                self.add_read(reads, f, part);
            } else {
                async::task<void> inflating = self.read_compressed(f, part);
                status = co_await inflating;
            }
            done += part.size();
        }
        const result<void> ended = co_await reads;
        co_return !status ? status : ended;
    }

    void add_read(async::io_group<Shard>& reads, const found& f, std::span<std::byte> to) {
        const io::request what = io::request::read(f.where.what.host.value, to);
        if (f.layer == 0) {
            reads.add(top_->file(), what);
        } else {
            reads.add(lower_[f.layer - 1]->file(), what);
        }
    }

    async::task<void> read_compressed(const found& f, std::span<std::byte> to) {
        return f.layer == 0 ? inflate_part(shard_, *top_, f.where.what, to)
                            : inflate_part(shard_, *lower_[f.layer - 1], f.where.what, to);
    }

    template <class Layer>
    static async::task<void> inflate_part(Shard& shard, Layer& layer, extent e,
                                          std::span<std::byte> to) {
        const std::size_t size = static_cast<std::size_t>(layer.cluster_size());
        if (e.within == 0 && to.size() == size) {
            async::task<void> whole = layer.inflate(e, to);
            result<void> inflated = co_await whole;
            co_return inflated;
        }
        buffer cluster = shard.buffers().take(size);
        if (!cluster.has_value()) { co_return error::from_errno(ENOMEM); }
        async::task<void> inflating = layer.inflate(e, cluster.bytes());
        result<void> r = co_await inflating;
        if (r) { std::memcpy(to.data(), cluster.data() + e.within, to.size()); }
        co_return r;
    }

    Shard& shard_;
    std::unique_ptr<Top> top_;
    std::vector<std::unique_ptr<Lower>> lower_;
};

} // namespace gaur::device
