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

/// Everything that can go wrong under an engine, on purpose and repeatably.
namespace gaur::io::fault {

/// When operations reach the backend underneath, and so in which order they end.
enum class order : std::uint8_t {
    as_inner,     ///< at once
    oldest_first, ///< this and the rest: later, from poll() and wait(), one at a time
    newest_first,
    oldest_last,  ///< at random, but the oldest only when it is alone
    random,       ///< at random, and some at once
};

/// Fails requests instead of passing them on. Nothing becomes durable, and they change nothing, but
/// for the first `arrives` bytes of a write: on a disk in memory these are there nevertheless.
struct rule {
    std::uint64_t nth = 1;            ///< which of those that match, from 1, counted from fail()
    std::optional<opcode> code = {};  ///< none: all
    std::string file = {};            ///< the path with which it was opened; empty: all
    int host_errno = EIO;
    bool from_then_on = false;        ///< this one and all that follow
    std::uint64_t arrives = 0;        ///< bytes of a write
};

struct options {
    fault::order order = order::as_inner;
    std::uint64_t seed = 0; ///< of the order
    bool record = false;    ///< for survivors(): keeps a copy of all that is not flushed
};

/// A backend whose files can be looked at from outside, as io::memory's: what a power cut needs.
template <class B>
concept DiskBackend = IoBackend<B> && requires(B& io, const std::string& path) {
    { io.content(path) } -> std::convertible_to<const sparse_bytes&>;
    { io.snapshot() } -> std::same_as<std::map<std::string, sparse_bytes>>;
};

/// Any backend, with faults:
///
///     fault::backend io(inner, {.order = fault::order::random, .seed = 7, .record = true});
///     io.fail({.nth = 3, .code = opcode::write, .host_errno = ENOSPC});
///     io.cut_after(100);   // the 100th request from now, and all after it, find the power off
///     …
///     memory::disk after = io.survivors(seed);   // one of the disks that may be left
///
/// Deterministic where the inner backend is: seeds and submissions in the same order give the same
/// run. A file stays where it is while it has operations in flight.
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
        std::size_t number_; ///< in the log
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
    /// Owns what it wraps.
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
        // Only of a disk in memory can a cut show what is left, so only there is there a log.
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
        // At random also: nothing yet.
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

    // The faults.

    void fail(rule what) { rules_.push_back({std::move(what), 0}); }
    void forget_rules() noexcept { rules_.clear(); }
    /// Requests since the start, and how many of them a rule has failed: a fail loop is through
    /// when none was.
    std::uint64_t submitted() const noexcept { return submitted_; }
    std::uint64_t injected() const noexcept { return injected_; }
    std::uint64_t injected(opcode code) const noexcept {
        return injected_by_opcode_[static_cast<std::size_t>(code)];
    }

    /// From here on everything ends with EIO, also what is in flight.
    void cut() noexcept { is_cut_ = true; }
    /// The same when the n-th request from now is submitted (1: the next).
    void cut_after(std::uint64_t n) noexcept { cut_at_ = submitted_ + n; }
    bool is_cut() const noexcept { return is_cut_; }

    /// What may be durable: as it was at the cut, or as it is now. Needs `record`.
    const power_log& log() const noexcept { return log_; }

    /// One of the disks that the cut may have left, or that one now would; any number of seeds may
    /// be tried. Files that were never opened here are as they are.
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

    /// Whether a cut could find some of it done. What the inner backend will refuse for its place
    /// in the file never is.
    static bool may_change(const file& target, const request& what) noexcept {
        if (what.code == opcode::flush) { return true; }
        return what.code != opcode::read && target.writable_ &&
               what.offset <= sparse_bytes::max_size &&
               what.size <= sparse_bytes::max_size - what.offset;
    }

    /// Null: it goes on. All rules that match have seen it.
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

    /// The first `size` bytes of a write that fails reach the disk, at once.
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

    /// True where it ended at once.
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
        // The log stays as it was at the cut.
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

    /// Passes on one of the operations that are held back, or at random several.
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
