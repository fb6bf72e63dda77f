// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/contract.hpp>
#include <gaur/base/error.hpp>
#include <gaur/io/backend.hpp>
#include <gaur/io/file_lock.hpp>
#include <gaur/io/seeded.hpp>
#include <gaur/io/sparse_bytes.hpp>
#include <gaur/io/system_call.hpp>

#include <boost/intrusive/slist.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// Files in memory, with a virtual clock: for tests, for simulation, and for measuring the cost of
/// the engine itself.
namespace gaur::io::memory {

/// All files of a backend, by name. A value: a copy is a snapshot, and cheap.
using disk = std::map<std::string, sparse_bytes>;

struct options {
    /// What every file requires of reads and writes, in any open mode: alignments of 4096 and 4096
    /// imitate O_DIRECT. A misaligned request ends with EINVAL. `fixed_size` imitates block
    /// devices; `set_content` gives their size and former content.
    io::limits limits{};
    /// Operations end in a later poll() or wait(), never by `done`.
    bool deferred = false;
    /// Virtual nanoseconds that the device takes for a request. Not 0: implies `deferred`.
    std::uint64_t latency = 0;
    /// How many requests the device serves at once; 0: no limit.
    unsigned depth = 0;
    /// Not 0: implies `deferred`, and draws latencies from 1 to 2 * `latency` (1 to 1000 if
    /// `latency` is 0), so that operations overtake each other. A seed determines the order.
    std::uint64_t seed = 0;
    /// Bytes of space, counted in pages of 4 KiB. A request that needs more ends with ENOSPC.
    std::uint64_t capacity = ~std::uint64_t{0};
};

/// Requests to the device. An operation counts when it is submitted.
struct counters {
    std::array<std::uint64_t, 7> by_opcode{};
    std::array<std::uint64_t, 7> bytes_by_opcode{};

    std::uint64_t requests(opcode code) const noexcept {
        return by_opcode[static_cast<std::size_t>(code)];
    }
    std::uint64_t bytes(opcode code) const noexcept {
        return bytes_by_opcode[static_cast<std::size_t>(code)];
    }
};

namespace detail {

struct node {
    sparse_bytes content;
    std::uint64_t inode = 0;
    lock_table locks;
};

} // namespace detail

class operation : public io::operation {
  public:
    using io::operation::operation;

  private:
    friend class backend;
    detail::node* target_ = nullptr;
    std::uint64_t due_ = 0;
};

/// A handle. Handles of one name share its content, and keep it after the name is removed.
class file {
  public:
    io::limits limits() const noexcept { return limits_; }
    result<std::uint64_t> size() const noexcept { return node_->content.size(); }
    file_identity identity() const noexcept { return {0, node_->inode}; }
    /// Pages of 4 KiB that take no space are holes.
    file_run run_at(std::uint64_t offset) const noexcept {
        constexpr std::uint64_t last = std::numeric_limits<std::int64_t>::max();
        const sparse_bytes& content = node_->content;
        const std::uint64_t end = content.run_end(offset);
        return {!content.is_allocated(offset), (end > offset ? end : last) - offset};
    }

  private:
    friend class backend;
    file(std::shared_ptr<detail::node> node, held_lock&& lock, io::limits limits,
         bool writable) noexcept
        : node_(std::move(node)), lock_(std::move(lock)), limits_(limits), writable_(writable) {}

    std::shared_ptr<detail::node> node_;
    held_lock lock_;
    io::limits limits_;
    bool writable_;
};

/// The device. An operation takes effect when it ends, so a read in flight together with a write
/// shows the order in which they ended. The virtual clock advances only in wait(), to the next
/// completion, and by 1 ns in each poll() that finds nothing due.
class backend {
  public:
    static constexpr std::string_view name = "memory";
    using operation = memory::operation;
    using file = memory::file;

    static result<std::unique_ptr<backend>> make(const options& how = {}, const disk& from = {}) {
        auto made = std::make_unique<backend>(how);
        made->restore(from);
        return made;
    }

    explicit backend(const options& how = {})
        : options_(how), random_(how.seed),
          at_once_(!how.deferred && how.latency == 0 && how.seed == 0), servers_(how.depth) {}
    backend(const backend&) = delete;
    backend& operator=(const backend&) = delete;
    ~backend() { drain(*this); }

    result<file> open(const std::string& path, open_mode mode) {
        auto found = files_.find(path);
        if (found == files_.end()) {
            if (!mode.create) { return error::from_errno(ENOENT); }
            found = files_.emplace(path, new_node({})).first;
        }
        const std::shared_ptr<detail::node>& node = found->second;
        auto lock = held_lock::take({node, &node->locks}, mode.lock);
        if (!lock) { return lock.error(); }
        if (mode.truncate && !options_.limits.fixed_size) { node->content.truncate(0); }
        return file(node, *std::move(lock), options_.limits, mode.write);
    }

    submit_status submit(file& target, operation& op, const request& what) noexcept {
        const auto code = static_cast<std::size_t>(what.code);
        ++counters_.by_opcode[code];
        counters_.bytes_by_opcode[code] += what.size;
        op.begin(what);
        const int refused = check(target, what);
        if (at_once_) {
            op.set_outcome(refused != 0 ? refused : perform(*target.node_, what));
            return submit_status::done;
        }
        op.set_outcome(refused);
        op.target_ = target.node_.get();
        op.due_ = schedule();
        enqueue(op);
        return submit_status::pending;
    }

    unsigned poll() noexcept {
        const unsigned ended = complete_due();
        if (ended == 0 && in_flight_ != 0) { ++now_; }
        return ended;
    }

    unsigned wait() noexcept {
        if (in_flight_ == 0) { return 0; }
        now_ = std::max(now_, pending_.front().due_);
        return complete_due();
    }

    unsigned in_flight() const noexcept { return in_flight_; }

    /// Virtual time since the start, nanoseconds.
    std::uint64_t now() const noexcept { return now_; }
    const io::memory::counters& counters() const noexcept { return counters_; }
    void reset_counters() noexcept { counters_ = {}; }

    // Access to the disk, for tests.

    /// Sets the space of the disk, in bytes, from here on; see options::capacity.
    void set_capacity(std::uint64_t bytes) noexcept { options_.capacity = bytes; }

    bool contains(const std::string& path) const { return files_.contains(path); }
    /// The file must exist. The reference is valid as long as the name or a handle exists.
    sparse_bytes& content(const std::string& path) {
        const auto found = files_.find(path);
        GAUR_ASSERT(found != files_.end());
        return found->second->content;
    }
    /// Creates the file if it does not exist. Open handles see the new content.
    void set_content(const std::string& path, sparse_bytes content) {
        if (const auto found = files_.find(path); found != files_.end()) {
            found->second->content = std::move(content);
        } else {
            files_.emplace(path, new_node(std::move(content)));
        }
    }
    /// Removes the name. Open handles keep the content. True if the name existed.
    bool remove(const std::string& path) { return files_.erase(path) != 0; }

    disk snapshot() const {
        disk copy;
        for (const auto& [path, node] : files_) { copy.emplace(path, node->content); }
        return copy;
    }
    /// Afterwards the disk has exactly the files of `from`. Open handles of these see their
    /// content.
    void restore(const disk& from) {
        std::erase_if(files_, [&](const auto& entry) { return !from.contains(entry.first); });
        for (const auto& [path, content] : from) { set_content(path, content); }
    }

  private:
    using queue =
        boost::intrusive::slist<operation, boost::intrusive::cache_last<true>,
                                boost::intrusive::constant_time_size<false>>;

    std::shared_ptr<detail::node> new_node(sparse_bytes content) {
        auto made = std::make_shared<detail::node>();
        made->content = std::move(content);
        made->inode = ++last_inode_;
        return made;
    }

    int check(const file& target, const request& what) const noexcept {
        if (const int refused = check_request(options_.limits, what); refused != 0) {
            return refused;
        }
        if (what.code == opcode::read || what.code == opcode::flush) { return 0; }
        if (!target.writable_) { return EBADF; }
        if (options_.limits.fixed_size) {
            return what.offset + what.size > target.node_->content.size() ? ENOSPC : 0;
        }
        return what.offset + what.size > sparse_bytes::max_size ? EFBIG : 0;
    }

    int perform(detail::node& target, const request& what) noexcept {
        sparse_bytes& content = target.content;
        if (what.code == opcode::read) {
            for_each_buffer(what, [&](std::uint64_t at, std::byte* data, std::size_t size) {
                content.read(at, data, size);
            });
            return 0;
        }
        try {
            return change(content, what);
        } catch (const std::bad_alloc&) { return ENOSPC; }
    }

    int change(sparse_bytes& content, const request& what) {
        switch (what.code) {
        case opcode::read:
        case opcode::flush: break;
        case opcode::write:
            if (!has_space(content, what)) { return ENOSPC; }
            for_each_buffer(what, [&](std::uint64_t at, std::byte* data, std::size_t size) {
                content.write(at, data, size);
            });
            break;
        case opcode::zero: content.zero(what.offset, what.size); break;
        case opcode::discard: content.discard(what.offset, what.size); break;
        case opcode::extend:
            if (options_.limits.fixed_size) { break; }
            if (!has_space(content, what)) { return ENOSPC; }
            content.allocate(what.offset, what.size);
            break;
        case opcode::truncate:
            if (!options_.limits.fixed_size) { content.truncate(what.offset); }
            break;
        }
        return 0;
    }

    template <class F>
    static void for_each_buffer(const request& what, F f) {
        if (what.vectors == nullptr) { return f(what.offset, what.data, what.size); }
        std::uint64_t at = what.offset;
        for (std::uint32_t i = 0; i < what.vector_count; ++i) {
            f(at, static_cast<std::byte*>(what.vectors[i].iov_base), what.vectors[i].iov_len);
            at += what.vectors[i].iov_len;
        }
    }

    bool has_space(const sparse_bytes& content, const request& what) const noexcept {
        if (options_.capacity == ~std::uint64_t{0}) { return true; }
        std::uint64_t used = content.missing(what.offset, what.size);
        for (const auto& [path, node] : files_) { used += node->content.allocated(); }
        return used <= options_.capacity;
    }

    /// When a request that is submitted now ends. It takes the server that is free first.
    std::uint64_t schedule() noexcept {
        std::uint64_t latency = options_.latency;
        if (options_.seed != 0) { latency = 1 + random_.below(latency == 0 ? 1000 : 2 * latency); }
        if (servers_.empty()) { return now_ + latency; }
        std::uint64_t& free = *std::min_element(servers_.begin(), servers_.end());
        free = std::max(free, now_) + latency;
        return free;
    }

    /// Keeps `pending_` in the order of completion, and equal times in order of arrival.
    void enqueue(operation& op) noexcept {
        ++in_flight_;
        if (pending_.empty() || pending_.back().due_ <= op.due_) { return pending_.push_back(op); }
        auto before = pending_.before_begin();
        for (auto next = pending_.begin(); next->due_ <= op.due_; ++next) { before = next; }
        pending_.insert_after(before, op);
    }

    unsigned complete_due() noexcept {
        unsigned ended = 0;
        // Operations that callbacks submit wait for the next call. Otherwise this one might never
        // return.
        for (unsigned left = in_flight_; left > 0; --left) {
            if (pending_.empty() || pending_.front().due_ > now_) { break; }
            operation& op = pending_.front();
            pending_.pop_front();
            --in_flight_;
            ++ended;
            op.complete(op.outcome() != 0 ? op.outcome() : perform(*op.target_, op.asked()));
        }
        return ended;
    }

    options options_;
    seeded random_;
    bool at_once_;
    std::vector<std::uint64_t> servers_; ///< when each is free
    queue pending_;
    unsigned in_flight_ = 0;
    std::uint64_t now_ = 0;
    io::memory::counters counters_;
    std::map<std::string, std::shared_ptr<detail::node>> files_;
    std::uint64_t last_inode_ = 0;
};

static_assert(check_backend<backend>());

} // namespace gaur::io::memory
