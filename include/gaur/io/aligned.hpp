// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/buffer.hpp>
#include <gaur/base/contract.hpp>
#include <gaur/base/units.hpp>
#include <gaur/io/backend.hpp>
#include <gaur/io/data_run_cache.hpp>

#include <boost/intrusive/list.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

namespace gaur::io {

/// A file of backend `B` that accepts any offset, size and buffer address. A request that the host
/// would refuse (O_DIRECT) goes through an aligned bounce buffer. A write that begins or ends
/// inside a block is a read-modify-write, and excludes other writes to the same blocks until it
/// ends. An aligned request passes straight through.
///
/// One layer for all backends, so that neither the backends nor the engine handle alignment. Keeps
/// the contract of `IoBackend`. The file must not move while operations are in flight.
template <IoBackend B>
class aligned_file {
    using write_hook = boost::intrusive::list_base_hook<boost::intrusive::tag<class by_write>>;

  public:
    class operation : public io::operation, public write_hook {
      public:
        explicit operation(callback on_complete) noexcept
            : io::operation(on_complete), inner_(&on_inner, *this) {}

      private:
        friend class aligned_file;
        enum class phase : std::uint8_t { direct, bounced_read, reading, writing };
        struct inner_operation : B::operation {
            inner_operation(callback on_complete, operation& o) noexcept
                : B::operation(on_complete), outer(o) {}
            operation& outer;
        };
        static void on_inner(io::operation& op) noexcept {
            operation& self = static_cast<inner_operation&>(op).outer;
            aligned_file& file = *self.file_;
            if (file.after_inner(self)) { self.complete(self.outcome()); }
        }

        inner_operation inner_;
        aligned_file* file_ = nullptr;
        buffer bounce_;
        phase phase_ = phase::direct;
        bool rewrites_ = false; // read-modify-write: excludes other writes to its blocks
    };

    aligned_file(B& io, typename B::file file, buffer_pool& buffers) noexcept
        : io_(io), file_(std::move(file)), limits_(file_->limits()), buffers_(buffers),
          takes_all_(limits_.offset_alignment == 1 && limits_.memory_alignment == 1) {}
    aligned_file(const aligned_file&) = delete;
    aligned_file& operator=(const aligned_file&) = delete;
    ~aligned_file() { GAUR_ASSERT(writing_.empty() && waiting_.empty()); }

    /// The alignment that the host requires. Any request is accepted; an aligned one costs less.
    io::limits limits() const noexcept { return limits_; }
    result<std::uint64_t> size() const noexcept { return file_->size(); }
    file_identity identity() const noexcept { return file_->identity(); }
    /// The run of the host's file that begins at `offset`. May be longer than the run of the
    /// backend's file: runs of data are cached, so a file without holes is queried once. A range
    /// that has been discarded since may still be reported as data. If the backend does not report
    /// holes, everything is data.
    file_run run_at(std::uint64_t offset) noexcept {
        if constexpr (ReportsHoles<typename B::file>) {
            return data_runs_.run_at(*file_, offset);
        } else {
            return {false, static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) -
                               offset};
        }
    }
    B& backend() noexcept { return io_; }
    /// Moves the backend's file out, for another layer on top of it.
    typename B::file release() && noexcept { return *std::move(file_); }

    /// Closes the file and drops its lock. Nothing may be in flight. Afterwards only `is_open` and
    /// `limits` may be called.
    void close() noexcept { file_.reset(); }
    bool is_open() const noexcept { return file_.has_value(); }

    /// Bytes of all writes submitted so far. Padding up to whole blocks is not counted.
    std::uint64_t bytes_written() const noexcept { return bytes_written_; }

    submit_status submit(operation& op, const request& what) noexcept {
        GAUR_ASSERT(is_open());
        bytes_written_ += what.code == opcode::write ? what.size : 0;
        op.begin(what);
        op.file_ = this;
        if (takes_all_) {
            const submit_status status = io_.submit(*file_, op.inner_, what);
            if (status == submit_status::done) { op.set_outcome(op.inner_.outcome()); }
            return status;
        }
        if (limits_.offset_alignment > 1 && what.code == opcode::write) {
            op.rewrites_ = !is_aligned(what.offset | what.size, limits_.offset_alignment);
            if (must_wait(op)) {
                waiting_.push_back(op);
                return submit_status::pending;
            }
            writing_.push_back(op);
        }
        return start(op) ? submit_status::done : submit_status::pending;
    }

  private:
    using phase = typename operation::phase;
    using operation_list =
        boost::intrusive::list<operation, boost::intrusive::base_hook<write_hook>,
                               boost::intrusive::constant_time_size<false>>;

    std::uint64_t window_begin(const request& r) const noexcept {
        return align_down(r.offset, limits_.offset_alignment);
    }
    std::uint64_t window_size(const request& r) const noexcept {
        return align_up(r.offset + r.size, limits_.offset_alignment) - window_begin(r);
    }
    bool overlap(operation& a, operation& b) const noexcept {
        const request& x = a.asked();
        const request& y = b.asked();
        return window_begin(x) < window_begin(y) + window_size(y) &&
               window_begin(y) < window_begin(x) + window_size(x);
    }

    /// Whether a write must wait: only if it overlaps another one and at least one rewrites blocks.
    bool must_wait(operation& op) noexcept {
        if (rewriting_ == 0 && waiting_.empty() && !op.rewrites_) { return false; }
        return collides(op, writing_.begin(), writing_.end()) ||
               collides(op, waiting_.begin(), waiting_.end());
    }
    template <class It>
    bool collides(operation& op, It from, It to) noexcept {
        return std::any_of(from, to, [&](operation& other) {
            return (op.rewrites_ || other.rewrites_) && overlap(op, other);
        });
    }

    bool fits(const request& r) const noexcept {
        if (!r.moves_data()) { return true; }
        const io::limits& l = limits_;
        if (!is_aligned(r.offset | r.size, l.offset_alignment)) { return false; }
        if (r.vectors == nullptr) {
            return is_aligned(reinterpret_cast<std::uintptr_t>(r.data), l.memory_alignment);
        }
        return std::all_of(r.vectors, r.vectors + r.vector_count, [&](const iovec& v) {
            return is_aligned(reinterpret_cast<std::uintptr_t>(v.iov_base), l.memory_alignment) &&
                   is_aligned(v.iov_len, l.offset_alignment);
        });
    }

    /// True if the operation has ended at once.
    bool start(operation& op) noexcept {
        request& r = op.asked();
        if (fits(r)) {
            op.phase_ = phase::direct;
            return submit_inner(op, r);
        }
        op.bounce_ = buffers_.take(static_cast<std::size_t>(window_size(r)));
        if (!op.bounce_.has_value()) {
            op.set_outcome(ENOMEM);
            ended(op);
            return true;
        }
        if (op.rewrites_) { ++rewriting_; }
        if (r.code == opcode::read || op.rewrites_) {
            op.phase_ = r.code == opcode::read ? phase::bounced_read : phase::reading;
            return submit_inner(op, request::read(window_begin(r), op.bounce_.bytes()));
        }
        return write_bounced(op);
    }

    bool submit_inner(operation& op, const request& what) noexcept {
        return io_.submit(*file_, op.inner_, what) == submit_status::done && after_inner(op);
    }

    bool write_bounced(operation& op) noexcept {
        const request& r = op.asked();
        std::byte* to = op.bounce_.data() + (r.offset - window_begin(r));
        for_each_part(r, [&to](std::byte* part, std::size_t size) {
            std::memcpy(to, part, size);
            to += size;
        });
        op.phase_ = phase::writing;
        return submit_inner(op, request::write(window_begin(r), op.bounce_.bytes()));
    }

    /// The inner operation has ended: do the next step. True if the outer one has ended.
    bool after_inner(operation& op) noexcept {
        const int outcome = op.inner_.outcome();
        op.set_outcome(outcome);
        if (outcome == 0 && op.phase_ == phase::reading) { return write_bounced(op); }
        if (outcome == 0 && op.phase_ == phase::bounced_read) {
            const request& r = op.asked();
            const std::byte* from = op.bounce_.data() + (r.offset - window_begin(r));
            for_each_part(r, [&from](std::byte* part, std::size_t size) {
                std::memcpy(part, from, size);
                from += size;
            });
        }
        ended(op);
        return true;
    }

    void ended(operation& op) noexcept {
        if (op.bounce_.has_value()) {
            op.bounce_ = buffer();
            if (op.rewrites_) { --rewriting_; }
        }
        if (!op.write_hook::is_linked()) { return; }
        writing_.erase(writing_.iterator_to(op));
        if (!waiting_.empty()) { start_waiting(); }
    }

    /// Starts, in order of arrival, the waiting writes that no earlier write excludes any more.
    void start_waiting() noexcept {
        for (auto at = waiting_.begin(); at != waiting_.end();) {
            operation& op = *at;
            if (collides(op, writing_.begin(), writing_.end()) ||
                collides(op, waiting_.begin(), at)) {
                ++at;
                continue;
            }
            waiting_.erase(at);
            writing_.push_back(op);
            if (start(op)) { op.complete(op.outcome()); }
            at = waiting_.begin(); // start() and the callback may have changed the list
        }
    }

    template <class F>
    static void for_each_part(const request& r, F use) noexcept {
        if (r.vectors == nullptr) {
            use(r.data, static_cast<std::size_t>(r.size));
            return;
        }
        for (std::uint32_t i = 0; i < r.vector_count; ++i) {
            use(static_cast<std::byte*>(r.vectors[i].iov_base), r.vectors[i].iov_len);
        }
    }

    B& io_;
    std::optional<typename B::file> file_;
    io::limits limits_;
    buffer_pool& buffers_;
    operation_list writing_; // all writes in flight, if the host requires alignment of offsets
    operation_list waiting_; // in order of arrival
    unsigned rewriting_ = 0;
    bool takes_all_; // the host requires no alignment
    std::uint64_t bytes_written_ = 0;
    data_run_cache data_runs_;
};

} // namespace gaur::io
