// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/io/operation.hpp>
#include <gaur/io/seeded.hpp>
#include <gaur/io/sparse_bytes.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <string>
#include <vector>

namespace gaur::io {

/// The part of a disk that would survive a power cut: for each file the durable content, and the
/// changes since then, each of which may or may not have reached the medium.
///
/// A change is durable if it had ended before a successful flush of its file was submitted. Of all
/// other changes, including those in flight, any subset survives, whole or torn into sectors of 512
/// bytes. If a write grows the file, size and data survive independently. Changes to the same bytes
/// keep the order in which they ended. Names are durable at once: an opened file exists.
class power_log {
  public:
    static constexpr std::uint64_t sector = 512;

    enum class fate : std::uint8_t { lost, kept, torn };

    /// A change that is not durable, or a flush in flight.
    struct change {
        opcode code;
        std::uint64_t offset;
        std::uint64_t size;
        std::vector<std::byte> data; ///< of a write; otherwise empty
        std::uint64_t began;         ///< time on the log's own clock, which counts events
        std::uint64_t ended = 0;     ///< 0: in flight
    };
    using entry = std::list<change>::iterator;

    /// The number of the file. If the file is new to the log, `content` counts as durable.
    std::size_t track(const std::string& path, const sparse_bytes& content) {
        const auto known = std::find_if(files_.begin(), files_.end(),
                                        [&](const file& f) { return f.path == path; });
        if (known != files_.end()) { return static_cast<std::size_t>(known - files_.begin()); }
        files_.push_back({path, content, {}, {}});
        return files_.size() - 1;
    }

    /// `content` is durable, and all ended changes are dropped: `truncate` at open. Changes in
    /// flight stay: those of an image that is gone may still be applied after it.
    void reset(std::size_t number, const sparse_bytes& content) {
        files_[number].durable = content;
        files_[number].ended.clear();
    }

    /// Records any operation but a read when it is submitted. Copies the data.
    entry begin(std::size_t number, const request& what) {
        auto& in_flight = files_[number].in_flight;
        in_flight.push_back({what.code, what.offset, what.size, {}, ++clock_});
        if (what.code == opcode::write) { copy_data(in_flight.back(), what); }
        return std::prev(in_flight.end());
    }

    /// Records the end. A failed operation has changed nothing and made nothing durable.
    void end(std::size_t number, entry e, bool succeeded) {
        file& f = files_[number];
        if (!succeeded || e->code == opcode::flush) {
            const std::uint64_t flushed = succeeded ? e->began : 0;
            f.in_flight.erase(e);
            settle(f, flushed);
            return;
        }
        e->ended = ++clock_;
        f.ended.splice(f.ended.end(), f.in_flight, e);
    }

    /// Whether a flush is in flight. Its end may make changes durable that are unflushed now.
    bool is_flushing() const {
        return std::any_of(files_.begin(), files_.end(), [](const file& f) {
            return std::any_of(f.in_flight.begin(), f.in_flight.end(),
                               [](const change& c) { return c.code == opcode::flush; });
        });
    }

    /// The number of changes that a cut now could lose.
    std::size_t unflushed() const {
        std::size_t count = 0;
        for (const file& f : files_) {
            count += f.ended.size();
            count += static_cast<std::size_t>(std::count_if(
                f.in_flight.begin(), f.in_flight.end(),
                [](const change& c) { return c.code != opcode::flush; }));
        }
        return count;
    }

    /// The files that a cut now would leave. `decide(index, change)` gives the fate of each of the
    /// `unflushed()` changes. `random` tears changes, and orders those in flight together. A
    /// `random` that enumerates all the values it is asked for yields every possible disk.
    template <class Random, class Decide>
    std::map<std::string, sparse_bytes> survivors(Random random, Decide decide) const {
        std::map<std::string, sparse_bytes> disk;
        std::size_t index = 0;
        for (const file& f : files_) {
            sparse_bytes content = f.durable;
            for (const change* c : in_some_order(f, random)) {
                switch (decide(index++, *c)) {
                case fate::lost: break;
                case fate::kept: apply(content, *c); break;
                case fate::torn: tear(content, *c, random); break;
                }
            }
            disk.insert_or_assign(f.path, std::move(content));
        }
        return disk;
    }

    /// The same with seeded fates. Half of the seeds let nothing survive, everything, all but one
    /// change, or only one; for the others each change has a fate of its own.
    std::map<std::string, sparse_bytes> survivors(std::uint64_t seed) const {
        seeded random(seed);
        const std::size_t count = unflushed();
        const std::uint64_t mood = random.below(8);
        const std::uint64_t chosen = random.below(count + 1);
        seeded fates(random.next());
        return survivors(random, [=](std::size_t index, const change&) mutable {
            switch (mood) {
            case 0: return fate::lost;
            case 1: return fate::kept;
            case 2: return index == chosen ? fate::lost : fate::kept;
            case 3: return index == chosen ? fate::kept : fate::lost;
            default: return static_cast<fate>(fates.below(3));
            }
        });
    }

  private:
    struct file {
        std::string path;
        sparse_bytes durable;
        std::list<change> ended; ///< in the order in which they ended
        std::list<change> in_flight;
    };

    static void copy_data(change& to, const request& what) {
        if (what.vectors == nullptr) {
            to.data.assign(what.data, what.data + what.size);
            return;
        }
        to.data.reserve(what.size);
        for (std::uint32_t i = 0; i < what.vector_count; ++i) {
            const auto* from = static_cast<const std::byte*>(what.vectors[i].iov_base);
            to.data.insert(to.data.end(), from, from + what.vectors[i].iov_len);
        }
    }

    static void settle(file& f, std::uint64_t flushed) {
        while (!f.ended.empty() && f.ended.front().ended < flushed) {
            apply(f.durable, f.ended.front());
            f.ended.pop_front();
        }
    }

    /// Ended changes in the order in which they ended. A change in flight is at a random place
    /// after all changes that ended before it began.
    template <class Random>
    static std::vector<const change*> in_some_order(const file& f, Random& random) {
        std::vector<const change*> order;
        for (const change& c : f.ended) { order.push_back(&c); }
        for (const change& c : f.in_flight) {
            if (c.code == opcode::flush) { continue; }
            const auto before = std::find_if(order.rbegin(), order.rend(), [&](const change* o) {
                return o->ended != 0 && o->ended < c.began;
            });
            const auto first = static_cast<std::size_t>(before.base() - order.begin());
            const std::uint64_t place = first + random.below(order.size() - first + 1);
            order.insert(order.begin() + static_cast<std::ptrdiff_t>(place), &c);
        }
        return order;
    }

    static void apply(sparse_bytes& to, const change& c) {
        switch (c.code) {
        case opcode::read:
        case opcode::flush: break;
        case opcode::write: to.write(c.offset, c.data.data(), c.data.size()); break;
        case opcode::zero: to.zero(c.offset, c.size); break;
        case opcode::discard: to.discard(c.offset, c.size); break;
        case opcode::extend: to.allocate(c.offset, c.size); break;
        case opcode::truncate: to.truncate(c.offset); break;
        }
    }

    template <class Random>
    static void tear(sparse_bytes& to, const change& c, Random& random) {
        const std::uint64_t end = c.offset + c.size;
        if (c.code == opcode::truncate) { return random.coin() ? apply(to, c) : void(); }
        if (c.code != opcode::extend) {
            for (std::uint64_t at = c.offset; at < end;) {
                const std::uint64_t next = std::min(end, align_down(at, sector) + sector);
                if (random.coin()) {
                    if (c.code == opcode::write) {
                        to.write(at, c.data.data() + (at - c.offset), next - at);
                    } else {
                        to.zero(at, next - at);
                    }
                }
                at = next;
            }
        }
        const bool grows = c.code == opcode::write || c.code == opcode::extend;
        if (grows && to.size() < end && random.coin()) { to.truncate(end); }
    }

    std::vector<file> files_;
    std::uint64_t clock_ = 0;
};

} // namespace gaur::io
