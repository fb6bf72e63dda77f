// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/contract.hpp>
#include <gaur/base/error.hpp>
#include <gaur/io/backend.hpp>
#include <gaur/io/power_log.hpp>
#include <gaur/io/seeded.hpp>

#include <boost/intrusive/slist.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// Fault injection below an engine, repeatable.
namespace gaur::io::fault {

/// When operations reach the inner backend, and thereby in which order they end.
enum class order : std::uint8_t {
    as_inner,     ///< at once
    oldest_first, ///< this and all below: later, from poll() and wait(), one at a time
    newest_first,
    oldest_last,  ///< at random, but the oldest only if it is the only one
    random,       ///< at random, sometimes several at a time
};

/// Fails requests instead of passing them on. A failed request makes nothing durable and changes
/// nothing, except that the first `arrives` bytes of a write reach a disk in memory (DiskBackend).
struct rule {
    std::uint64_t nth = 1;            ///< which matching request, from 1, counted from fail() on
    std::optional<opcode> code = {};  ///< empty: all
    std::string file = {};            ///< the path that was given to open(); empty: all
    int host_errno = EIO;
    bool from_then_on = false;        ///< the nth and all that follow
    std::uint64_t arrives = 0;        ///< bytes of a failed write that reach the disk
};

struct options {
    fault::order order = order::as_inner;
    std::uint64_t seed = 0; ///< for `order`
    bool record = false;    ///< for survivors(): keeps a copy of all unflushed changes
};

/// A backend whose files can be inspected, such as io::memory. A power cut needs this.
template <class B>
concept DiskBackend = IoBackend<B> && requires(B& io, const std::string& path) {
    { io.content(path) } -> std::convertible_to<const sparse_bytes&>;
    { io.snapshot() } -> std::same_as<std::map<std::string, sparse_bytes>>;
};

/// Any backend, with faults:
///
///     fault::backend io(inner, {.order = fault::order::random, .seed = 7, .record = true});
///     io.fail({.nth = 3, .code = opcode::write, .host_errno = ENOSPC});
///     io.cut_after(100);   // the 100th request from now, and all after it, fail with EIO
///     …
///     memory::disk after = io.survivors(seed);   // one of the disks that may be left
///
/// Deterministic if the inner backend is: the same seed, and submissions in the same order, give
/// the same run. A file must not move while it has operations in flight.
template <IoBackend Inner>
class backend {
  public:
    static constexpr std::string_view name = "fault";

    class file {
      public:
        io::limits limits() const noexcept { return inner_.limits(); }
        result<std::uint64_t> size() const noexcept { return inner_.size(); }
        file_identity identity() const noexcept { return inner_.identity(); }
        file_run run_at(std::uint64_t offset) const noexcept
            requires ReportsHoles<typename Inner::file>
        {
            return inner_.run_at(offset);
        }

      private:
        friend class backend;
        file(typename Inner::file inner, std::string path, bool writable,
             std::size_t number) noexcept
            : inner_(std::move(inner)), path_(std::move(path)), writable_(writable),
              number_(number) {}
        typename Inner::file inner_;
        std::string path_;
        bool writable_;
        std::size_t number_; ///< index in the log
    };

    class operation : public io::operation {
      public:
        explicit operation(callback on_complete) noexcept
            : io::operation(on_complete), inner_(*this) {}

      private:
        friend class backend;
        struct inner_operation : Inner::operation {
            explicit inner_operation(operation& o) noexcept
                : Inner::operation(&backend::on_inner), outer(&o) {}
            operation* outer;
        };
        inner_operation inner_;
        backend* owner_ = nullptr;
        file* file_ = nullptr;
        bool recorded_ = false;
        power_log::entry entry_;
    };

    explicit backend(Inner& inner, const options& how = {})
        : inner_(inner), options_(how), random_(how.seed) {}
    /// Owns the inner backend.
    explicit backend(std::unique_ptr<Inner> inner, const options& how = {})
        : owned_(std::move(inner)), inner_(*owned_), options_(how), random_(how.seed) {}
    backend(const backend&) = delete;
    backend& operator=(const backend&) = delete;
    ~backend() { drain(*this); }

    Inner& inner() noexcept { return inner_; }

    result<file> open(const std::string& path, open_mode mode) {
        if (is_cut_) { return error::from_errno(EIO); }
        auto opened = inner_.open(path, mode);
        if (!opened) { return opened.error(); }
        std::size_t number = 0;
        if constexpr (DiskBackend<Inner>) {
            if (options_.record) {
                number = log_.track(path, inner_.content(path));
                if (mode.truncate) { log_.reset(number, inner_.content(path)); }
            }
        }
        return file(*std::move(opened), path, mode.write, number);
    }

    submit_status submit(file& target, operation& op, const request& what) noexcept {
        ++submitted_;
        if (submitted_ == cut_at_) { cut(); }
        op.begin(what);
        op.owner_ = this;
        op.file_ = &target;
        const rule* const failing = is_cut_ ? nullptr : failing_rule(target, what);
        op.set_outcome(is_cut_ ? EIO : failing != nullptr ? failing->host_errno : 0);
        if constexpr (DiskBackend<Inner>) {
            if (failing != nullptr && what.code == opcode::write && failing->arrives != 0) {
                write_start(target, what, failing->arrives);
            }
        }
        // Only a disk in memory can show what a cut leaves, so only a DiskBackend has a log.
        op.recorded_ = DiskBackend<Inner> && options_.record && op.outcome() == 0 &&
                       may_change(target, what);
        if (op.recorded_) { op.entry_ = log_.begin(target.number_, what); }
        if (options_.order == order::as_inner && start(op)) { return submit_status::done; }
        ++in_flight_;
        if (options_.order != order::as_inner) {
            held_.push_back(op);
            ++held_count_;
        }
        return submit_status::pending;
    }

    unsigned poll() noexcept {
        const std::uint64_t before = ended_;
        // In a random order this call may also release nothing.
        if (!picks_at_random() || random_.coin()) { release(); }
        inner_.poll();
        return static_cast<unsigned>(ended_ - before);
    }

    unsigned wait() noexcept {
        const std::uint64_t before = ended_;
        while (in_flight_ != 0 && ended_ == before) {
            if (held_.empty()) {
                inner_.wait();
            } else {
                release();
                if (ended_ == before) { inner_.poll(); }
            }
        }
        return static_cast<unsigned>(ended_ - before);
    }

    unsigned in_flight() const noexcept { return in_flight_; }

    // Fault injection.

    void fail(rule what) { rules_.push_back({std::move(what), 0}); }
    void forget_rules() noexcept { rules_.clear(); }
    /// Requests since the start, and how many of them a rule has failed. A loop that fails the nth
    /// request for rising n is done if `injected` stays 0.
    std::uint64_t submitted() const noexcept { return submitted_; }
    std::uint64_t injected() const noexcept { return injected_; }
    std::uint64_t injected(opcode code) const noexcept {
        return injected_by_opcode_[static_cast<std::size_t>(code)];
    }

    /// From here on every operation ends with EIO, including those in flight.
    void cut() noexcept { is_cut_ = true; }
    /// Calls cut() when the n-th request from now is submitted (1: the next).
    void cut_after(std::uint64_t n) noexcept { cut_at_ = submitted_ + n; }
    bool is_cut() const noexcept { return is_cut_; }

    /// What may be durable: as of the cut, or as of now without one. Needs `record`.
    const power_log& log() const noexcept { return log_; }

    /// One of the disks that the cut may have left, or that a cut now would leave. May be called
    /// with any number of seeds. Files that were never opened here have their current content.
    std::map<std::string, sparse_bytes> survivors(std::uint64_t seed) const
        requires DiskBackend<Inner>
    {
        GAUR_ASSERT(options_.record);
        std::map<std::string, sparse_bytes> disk = log_.survivors(seed);
        disk.merge(inner_.snapshot());
        return disk;
    }

  private:
    struct armed_rule {
        rule what;
        std::uint64_t seen;
    };
    using queue =
        boost::intrusive::slist<operation, boost::intrusive::cache_last<true>,
                                boost::intrusive::constant_time_size<false>>;

    bool picks_at_random() const noexcept {
        return options_.order == order::random || options_.order == order::oldest_last;
    }

    /// Whether a cut may find the request done in part. False if the inner backend is going to
    /// refuse its range.
    static bool may_change(const file& target, const request& what) noexcept {
        if (what.code == opcode::flush) { return true; }
        return what.code != opcode::read && target.writable_ &&
               what.offset <= sparse_bytes::max_size &&
               what.size <= sparse_bytes::max_size - what.offset;
    }

    /// The first rule that fails the request; null: none does. Every matching rule counts it.
    const rule* failing_rule(const file& target, const request& what) noexcept {
        const rule* found = nullptr;
        for (armed_rule& r : rules_) {
            if (r.what.code && *r.what.code != what.code) { continue; }
            if (!r.what.file.empty() && r.what.file != target.path_) { continue; }
            ++r.seen;
            const bool hit = r.what.from_then_on ? r.seen >= r.what.nth : r.seen == r.what.nth;
            if (hit && found == nullptr) { found = &r.what; }
        }
        if (found != nullptr) {
            ++injected_;
            ++injected_by_opcode_[static_cast<std::size_t>(what.code)];
        }
        return found;
    }

    /// Puts the first `size` bytes of a failing write on the disk, at once.
    void write_start(file& target, const request& what, std::uint64_t size) noexcept
        requires DiskBackend<Inner>
    {
        if (!may_change(target, what)) { return; }
        std::vector<std::byte> start;
        const auto add = [&](const void* from, std::size_t bytes) {
            const auto* first = static_cast<const std::byte*>(from);
            const std::size_t left = static_cast<std::size_t>(size) - start.size();
            start.insert(start.end(), first, first + std::min(bytes, left));
        };
        size = std::min<std::uint64_t>(size, what.size);
        if (what.vectors == nullptr) { add(what.data, what.size); }
        for (std::uint32_t i = 0; what.vectors != nullptr && i < what.vector_count; ++i) {
            add(what.vectors[i].iov_base, what.vectors[i].iov_len);
        }
        inner_.content(target.path_).write(what.offset, start.data(), start.size());
        if (!options_.record) { return; }
        power_log::entry arrived =
            log_.begin(target.number_, request::write(what.offset, std::span<std::byte>(start)));
        log_.end(target.number_, arrived, true);
    }

    /// True if the operation has ended at once.
    bool start(operation& op) noexcept {
        if (is_cut_) { op.set_outcome(EIO); }
        if (op.outcome() != 0) { return true; }
        if (inner_.submit(op.file_->inner_, op.inner_, op.asked()) == submit_status::pending) {
            return false;
        }
        take_outcome(op);
        return true;
    }

    void take_outcome(operation& op) noexcept {
        op.set_outcome(is_cut_ ? EIO : op.inner_.outcome());
        // After the cut the log does not change.
        if (op.recorded_ && !is_cut_) {
            log_.end(op.file_->number_, op.entry_, op.outcome() == 0);
        }
    }

    void finish(operation& op) noexcept {
        --in_flight_;
        ++ended_;
        op.complete(op.outcome());
    }

    static void on_inner(io::operation& ended) noexcept {
        operation& op = *static_cast<typename operation::inner_operation&>(ended).outer;
        op.owner_->take_outcome(op);
        op.owner_->finish(op);
    }

    /// Passes on one held operation, or several if the order is random.
    void release() noexcept {
        if (held_.empty()) { return; }
        std::uint64_t count = 1;
        if (options_.order == order::random) { count += random_.below(held_count_); }
        for (; count > 0 && !held_.empty(); --count) {
            operation& op = pick();
            if (start(op)) { finish(op); }
        }
    }

    operation& pick() noexcept {
        std::uint64_t place = 0;
        switch (options_.order) {
        case order::as_inner:
        case order::oldest_first: break;
        case order::newest_first: place = held_count_ - 1; break;
        case order::oldest_last:
            if (held_count_ > 1) { place = 1 + random_.below(held_count_ - 1); }
            break;
        case order::random: place = random_.below(held_count_); break;
        }
        auto before = held_.before_begin();
        for (; place > 0; --place) { ++before; }
        operation& op = *std::next(before);
        held_.erase_after(before);
        --held_count_;
        return op;
    }

    std::unique_ptr<Inner> owned_;
    Inner& inner_;
    options options_;
    seeded random_;
    queue held_; ///< submitted, not yet passed on; oldest first
    std::uint64_t held_count_ = 0;
    unsigned in_flight_ = 0;
    std::uint64_t submitted_ = 0;
    std::uint64_t ended_ = 0; ///< by callback
    std::uint64_t injected_ = 0;
    std::array<std::uint64_t, 7> injected_by_opcode_{};
    std::vector<armed_rule> rules_;
    std::uint64_t cut_at_ = 0; ///< a value of submitted_; 0: never
    bool is_cut_ = false;
    power_log log_;
};

} // namespace gaur::io::fault
