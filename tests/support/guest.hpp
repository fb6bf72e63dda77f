// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "support/model_disk.hpp"
#include "support/poison.hpp"
#include "support/scenario.hpp"

#include <gaur/device/request.hpp>
#include <gaur/io/seeded.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace gaur::test {

struct request_kind;

/// One request of a guest, as it was drawn. It is self-contained, so that a run can be repeated
/// without some of its steps.
struct step {
    const request_kind* kind = nullptr;
    std::uint64_t at = 0;
    std::uint64_t size = 0;
    unsigned number = 0;      ///< session * 1000 + index: the same in each repetition
    unsigned pauses = 0;      ///< turns of the device before the step begins
    bool from_inside = false; ///< it begins in the completion of another step
};

/// A request in flight, and what the model needs to know about it.
struct begun_step {
    step what;
    std::vector<std::byte> data;
    std::uint32_t id = 0; ///< of a write in the model, or when a flush began
    model_disk::read_begun reading;
};

/// Draws the offsets and sizes of the steps of one session.
class places {
  public:
    places(const scenario& s, std::uint64_t disk_size, io::seeded& random)
        : scenario_(s), size_(disk_size), random_(random) {}

    static void nowhere(places&, step&) {}
    static void anywhere(places& p, step& s) { p.choose(s); }

  private:
    void choose(step& s) {
        if (scenario_.stream && random_.below(4) != 0) { return choose_next(s); }
        const std::uint64_t area = random_.below(3) == 0 ? size_ : scenario_.hot_bytes;
        const std::uint64_t most = std::min(scenario_.most_bytes, size_);
        s.at = random_.below(area);
        s.size = random_.below(4) == 0 ? random_.below(100) : random_.below(most) + 1;
        const std::uint64_t cluster = std::uint64_t{1} << scenario_.top.cluster_bits;
        if (scenario_.border != 0 && random_.coin()) { // across the border, or right beside it
            const std::uint64_t border = scenario_.border * random_.below(size_ / scenario_.border);
            s.at = border - std::min(border, random_.below(3 * cluster));
            s.size = 1 + random_.below(5 * cluster);
        }
        switch (random_.below(4)) {
        case 0: break;
        case 1: align(s, 512); break;
        case 2: align(s, cluster); break;
        case 3: // begins where the previous step ended
            s.at = next_ < size_ ? next_ : 0;
            if (random_.coin()) { align(s, 512); }
            break;
        }
        if (random_.below(64) != 0) { s.size = std::min(s.size, size_ - s.at); }
        next_ = s.at + s.size;
    }
    void choose_next(step& s) {
        const std::uint64_t cluster = std::uint64_t{1} << scenario_.top.cluster_bits;
        s.at = next_ < size_ ? next_ : 0;
        s.size = std::min(size_ - s.at, 1 + random_.below(cluster));
        next_ = s.at + s.size;
    }
    static void align(step& s, std::uint64_t to) {
        s.at = s.at / to * to;
        s.size = std::max(s.size / to * to, to);
    }

    const scenario& scenario_;
    std::uint64_t size_;
    io::seeded& random_;
    std::uint64_t next_ = 0;
};

/// A kind of request that a guest can make. Each kind is one entry of the table below.
struct request_kind {
    const char* name;
    device::verb verb;
    bool changes; ///< changes data: replaced if it would overlap and must not
    unsigned (*weight)(const scenario&);
    void (*place)(places&, step&);
    void (*begin)(model_disk&, begun_step&);
    /// What is wrong with the outcome; empty if it is right.
    std::string (*end)(model_disk&, begun_step&, bool well);
};

inline std::string end_write(model_disk& model, begun_step& b, bool well) {
    model.end_write(b.id, well);
    return {};
}

inline constexpr request_kind request_kinds[] = {
    {"read", device::verb::read, false, [](const scenario&) { return 30U; }, &places::anywhere,
     [](model_disk& model, begun_step& b) { model.begin_read(b.reading, b.what.at, b.what.size); },
     [](model_disk& model, begun_step& b, bool well) {
         return well ? model.end_read(b.reading, b.data) : std::string();
     }},
    {"write", device::verb::write, true, [](const scenario&) { return 60U; }, &places::anywhere,
     [](model_disk& model, begun_step& b) { b.id = model.begin_write(b.what.at, b.data, false); },
     &end_write},
    {"write of zeroes", device::verb::write, true, [](const scenario&) { return 4U; },
     &places::anywhere,
     [](model_disk& model, begun_step& b) { b.id = model.begin_write(b.what.at, b.data, true); },
     &end_write},
    {"flush", device::verb::flush, false, [](const scenario& s) { return s.flush_weight; },
     &places::nowhere,
     [](model_disk& model, begun_step& b) { b.id = model.begin_flush(); },
     [](model_disk& model, begun_step& b, bool well) {
         model.end_flush(b.id, well);
         return std::string();
     }},
};
inline constexpr const request_kind& instead_of_overlap = request_kinds[0];

inline std::string describe(const step& s) {
    std::string text = s.kind->name;
    if (s.kind->verb != device::verb::flush) {
        text += ' ' + std::to_string(s.at) + " + " + std::to_string(s.size);
    }
    if (s.pauses > 0) { text += ", after " + std::to_string(s.pauses) + " pauses"; }
    if (s.from_inside) { text += ", where another ends"; }
    return text + " (session " + std::to_string(s.number / 1000) + ")";
}

/// The steps of one session of a scenario; the same for the same seed.
inline std::vector<step> draw_steps(const scenario& s, std::uint64_t disk_size, unsigned session,
                                    unsigned count) {
    io::seeded random(s.seed * 31 + session);
    places where(s, disk_size, random);
    unsigned total = 0;
    for (const request_kind& k : request_kinds) { total += k.weight(s); }
    std::vector<step> all(count);
    for (unsigned i = 0; i < count; ++i) {
        step& next = all[i];
        next.number = session * 1000 + i;
        std::uint64_t drawn = random.below(total);
        for (const request_kind& k : request_kinds) {
            next.kind = &k;
            if (drawn < k.weight(s)) { break; }
            drawn -= k.weight(s);
        }
        next.kind->place(where, next);
        while (random.below(4) == 0) { ++next.pauses; }
        next.from_inside = random.below(8) == 0;
    }
    return all;
}

/// A guest with many requests in flight on one open image, with a model of its disk.
template <class Backend, class Image>
class guest {
  public:
    struct figures {
        std::uint64_t ended = 0;
        std::uint64_t failed = 0;
    };

    guest(Backend& io, Image& disk, model_disk& model, const scenario& s, unsigned session)
        : io_(io), disk_(disk), model_(model), scenario_(s), slots_(s.depth),
          steps_(draw_steps(s, model.size(), session, s.operations)) {
        if (s.part != nullptr) {
            std::erase_if(steps_, [&](const step& each) { return !s.part->has(each.number); });
        }
        for (slot& each : slots_) {
            each.owner = this;
            idle_.push_back(&each);
        }
        io_.dog().on_hang([this] { return state_of_the_run(); });
    }
    guest(const guest&) = delete;
    guest& operator=(const guest&) = delete;
    ~guest() { io_.dog().on_hang({}); }

    /// Errors are expected and do not stop the run.
    void allow_errors() noexcept { errors_allowed_ = true; }
    /// `f` is asked before each request. If it returns true, no further request begins.
    template <class F>
    void stop_when(F f) {
        stop_ = f;
    }

    /// Begins all steps and waits until they have ended. False if something is wrong.
    bool run() {
        while (next_ < steps_.size() || idle_.size() < slots_.size()) {
            if (!wrong_.empty() || (stop_ && stop_())) { next_ = steps_.size(); }
            if (next_ == steps_.size() || idle_.empty()) {
                turn();
                continue;
            }
            step& s = steps_[next_];
            const bool alone = idle_.size() == slots_.size();
            if (s.pauses > 0 || (s.from_inside && !alone)) {
                s.pauses -= s.pauses > 0 ? 1 : 0;
                // Sometimes nothing is ready and only time advances.
                if ((s.number + s.pauses) % 4 == 3) {
                    io_.poll();
                } else {
                    turn();
                }
                continue;
            }
            begin_next();
        }
        return wrong_.empty();
    }

    const std::string& wrong() const noexcept { return wrong_; }
    const figures& counted() const noexcept { return figures_; }

  private:
    using request = typename Image::request;

    struct slot : begun_step {
        guest* owner = nullptr;
        std::optional<request> asked;
        bool out_of_range = false;
    };

    void note(std::string what) {
        if (wrong_.empty()) { wrong_ = std::move(what); }
    }

    /// The device ends a request, if it has one.
    void turn() {
        const bool alone = idle_.size() == slots_.size();
        if (io_.in_flight() != 0 || !alone) { io_.wait(); }
    }

    /// Which request waits for which.
    std::string state_of_the_run() {
        std::string text = scenario_.describe() + "\nin flight:";
        for (const slot& s : slots_) {
            if (!s.asked) { continue; }
            text += "\n    " + describe(s.what) + ": " + std::string(s.asked->state_name());
        }
        auto& engine = disk_.engine();
        const cluster_geometry g = engine.top().geometry();
        text += "\ntracked:";
        engine.allocations().for_each([&](const auto& a) {
            const std::uint64_t from = g.offset_of(a.guest().first).value;
            text += "\n    clusters of " + std::to_string(from) + " + " +
                    std::to_string(g.bytes(a.guest().count)) + ", new at " +
                    std::to_string(g.offset_of(a.host()).value) + ": " +
                    std::to_string(a.waiting()) + " wait for it";
            if constexpr (std::remove_cvref_t<decltype(a)>::is_joinable) {
                constexpr const char* modes[] = {"none", "direct", "merge"};
                text += std::string(", join mode ") + modes[static_cast<int>(a.join_mode())] +
                        ", " + std::to_string(a.joined()) + " joined, " +
                        std::to_string(a.direct_writes()) + " of them writing";
            }
        });
        const auto& slices = engine.top().slices();
        const auto& commits = engine.top().figures();
        text += "\ncommits: " + std::to_string(commits.epochs) + " epochs, " +
                std::to_string(commits.barriers) + " barriers; I/O of no request: " +
                (engine.top().is_busy() ? "in flight" : "none") + "\nslices: " +
                std::to_string(slices.resident()) + " in memory, " +
                std::to_string(slices.dirty()) + " dirty, capacity " +
                std::to_string(slices.capacity()) + "\nat the device: " +
                std::to_string(io_.in_flight());
        return text;
    }

    void begin_next() {
        slot& s = *idle_.back();
        idle_.pop_back();
        s.what = steps_[next_++];
        if (s.what.kind->changes && !scenario_.overlaps && meets_write(s)) {
            s.what.kind = &instead_of_overlap;
        }
        if (scenario_.part != nullptr && scenario_.part->tell) {
            std::fprintf(stderr, "    %s\n", describe(s.what).c_str());
        }
        // Reveals buffers that the engine takes but does not fill, once they reach the file. Large
        // clusters: only sometimes.
        if (scenario_.top.cluster_bits <= 16 || s.what.number % 16 == 0) {
            poison_free_buffers(disk_.engine().shard().buffers(),
                                std::size_t{1} << scenario_.top.cluster_bits);
        }
        s.data.resize(s.what.size);
        s.out_of_range = s.what.at + s.what.size > model_.size();
        if (!s.out_of_range) { s.what.kind->begin(model_, s); }
        s.asked.emplace(disk_.engine(), s.what.kind->verb, guest_offset{s.what.at},
                        std::span(s.data));
        s.asked->start(&on_end, &s);
    }

    bool meets_write(const slot& mine) const {
        return std::any_of(slots_.begin(), slots_.end(), [&](const slot& s) {
            return &s != &mine && s.asked && s.what.kind->changes &&
                   s.what.at < mine.what.at + mine.what.size &&
                   mine.what.at < s.what.at + s.what.size;
        });
    }

    static void on_end(void* context, result<void> status) noexcept {
        auto& s = *static_cast<slot*>(context);
        s.owner->ended(s, status);
    }

    void ended(slot& s, result<void> status) {
        io_.dog().progress();
        ++figures_.ended;
        figures_.failed += status || s.out_of_range ? 0 : 1;
        if (s.out_of_range) {
            if (status || !(status.error() == errc::out_of_range)) {
                note("a request past the end was not refused");
            }
        } else {
            if (!status && !errors_allowed_) {
                note(describe(s.what) + " failed: " + status.error().message());
            }
            const std::string bad = s.what.kind->end(model_, s, status.has_value());
            if (!bad.empty()) { note(describe(s.what) + ": " + bad); }
        }
        s.asked.reset();
        idle_.push_back(&s);
        const bool goes_on = next_ < steps_.size() && steps_[next_].from_inside &&
                             steps_[next_].pauses == 0 && wrong_.empty();
        if (goes_on && !(stop_ && stop_())) { begin_next(); }
    }

    Backend& io_;
    Image& disk_;
    model_disk& model_;
    const scenario& scenario_;
    std::deque<slot> slots_;
    std::vector<slot*> idle_;
    std::vector<step> steps_;
    std::size_t next_ = 0;
    bool errors_allowed_ = false;
    std::function<bool()> stop_;
    std::string wrong_;
    figures figures_;
};

} // namespace gaur::test
