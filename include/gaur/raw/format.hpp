// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/shard.hpp>
#include <gaur/base/units.hpp>
#include <gaur/cache/group_commit.hpp>
#include <gaur/device/format.hpp>

#include <cstdint>
#include <optional>
#include <span>
#include <utility>

namespace gaur::raw {

/// The size, in bytes, of the disk that a file of `file_size` bytes holds: whole sectors of 512
/// bytes. If the last sector is not whole in the file, the rest of it reads as zeroes. The file is
/// extended only when that part is written.
constexpr std::uint64_t disk_size(std::uint64_t file_size) noexcept {
    return align_up(file_size, 512);
}

/// The trivial format: the file is the disk. The smallest model of device::TopFormat.
template <class Shard>
class format {
  public:
    /// The disk is the first `size` bytes of the file. Bytes past the end of the file read as
    /// zeroes.
    format(Shard& shard, typename Shard::backend_type& io, typename Shard::backend_type::file file,
           std::uint64_t size, bool writable)
        : shard_(shard), file_(io, std::move(file), shard.buffers()), size_(size),
          writable_(writable), commit_(*this) {}
    format(const format&) = delete;
    format& operator=(const format&) = delete;

    std::uint64_t size() const noexcept { return size_; }
    std::uint64_t cluster_size() const noexcept { return 512; }
    typename Shard::file& file() noexcept { return file_; }

    device::located locate(guest_offset at, std::uint64_t n) noexcept {
        device::located l;
        l.what.kind = device::mapping::data;
        l.what.in_place = writable_;
        l.what.has_host = true;
        l.what.host = {at.value};
        l.what.size = n;
        return l;
    }
    // `locate` never answers `missing` or a compressed extent.
    async::task<void> resolve(const device::missing&) { return refuse(shard_); }
    async::task<void> inflate(const device::extent&, std::span<std::byte>) {
        return refuse(shard_);
    }

    bool is_writable() const noexcept { return writable_; }
    track::quarantine::generation enter() noexcept { return 0; }
    void leave(track::quarantine::generation) noexcept {}
    void note_write() noexcept { data_written_ = flushes_; }
    /// From now on a flush does not flush the host's cache.
    void leave_flushes_out() noexcept { flushes_ = false; }
    std::optional<host_offset> find_mapped(guest_offset at, std::uint64_t, bool) noexcept {
        return host_offset{at.value};
    }
    auto commit() noexcept {
        return typename cache::group_commit<format>::durable(commit_);
    }
    async::task<void> close() { return flush(shard_, *this); }
    bool is_busy() const noexcept { return commit_.is_running(); }
    void forget_callbacks() noexcept {} // there are none
    void on_idle(void (*call)(void*) noexcept, void* context) noexcept {
        on_idle_ = call;
        on_idle_context_ = context;
    }

    // For group_commit.
    const typename Shard::executor_type& executor() const noexcept { return shard_.executor(); }
    async::frame_pool& frames() noexcept { return shard_.frames(); }
    async::task<void> write_epoch() { return barrier(shard_, *this); }
    void epochs_idle() noexcept {
        if (on_idle_ != nullptr) { on_idle_(on_idle_context_); }
    }

  private:
    static async::task<void> refuse(Shard&) { co_return errc::not_supported; }

    static async::task<void> barrier(Shard& shard, format& self) {
        if (!std::exchange(self.data_written_, false)) { co_return {}; }
        async::hook_point here(shard.hooks(), async::point::flush_to_disk, 0);
        result<void> r = co_await here;
        if (!r) {
            self.data_written_ = true;
            co_return r;
        }
        const io::request what = io::request::flush();
        async::await_io flushing(shard, self.file_, what);
        r = co_await flushing;
        // The host may have dropped the data that it could not write.
        if (!r) { self.commit_.fail(r.error()); }
        co_return r;
    }
    static async::task<void> flush(Shard&, format& self) {
        auto durable = self.commit();
        result<void> r = co_await durable;
        co_return r;
    }

    Shard& shard_;
    typename Shard::file file_;
    std::uint64_t size_;
    bool writable_;
    bool flushes_ = true;
    bool data_written_ = false;
    void (*on_idle_)(void*) noexcept = nullptr;
    void* on_idle_context_ = nullptr;
    cache::group_commit<format> commit_;
};

} // namespace gaur::raw
