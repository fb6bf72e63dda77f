// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/resumption.hpp>
#include <gaur/async/shard.hpp>
#include <gaur/base/hash.hpp>
#include <gaur/base/units.hpp>

#include <boost/intrusive/list.hpp>

#include <bit>
#include <coroutine>
#include <cstring>
#include <memory>
#include <new>
#include <utility>
#include <vector>

namespace gaur::cache {

/// What a slice holds. Each kind is written in its own phase of a commit.
enum class slice_kind : std::uint8_t { mapping, refcount };
inline constexpr unsigned slice_kinds = 2;

/// A piece of a metadata table: 4 KiB, or one cluster if clusters are smaller.
class slice : public boost::intrusive::list_base_hook<> {
  public:
    host_offset at() const noexcept { return at_; }
    slice_kind kind() const noexcept { return kind_; }
    std::byte* data() noexcept { return data_; }
    const std::byte* data() const noexcept { return data_; }
    bool is_dirty() const noexcept { return dirty_ != 0; }
    /// One bit for each sector of 512 bytes.
    std::uint32_t dirty_sectors() const noexcept { return dirty_; }
    /// Belongs to a table that nothing durable refers to yet.
    bool is_fresh() const noexcept { return fresh_; }

  private:
    template <class>
    friend class slice_cache;

    slice* next_in_bucket_ = nullptr;
    std::byte* data_ = nullptr;
    void* load_ = nullptr; // the load in flight
    host_offset at_;
    std::uint32_t dirty_ = 0;
    std::uint32_t taken_ = 0; // sectors that the running commit took
    std::uint32_t pins_ = 0;
    slice_kind kind_ = slice_kind::mapping;
    std::uint8_t phase_ = 0; // of the running commit
    bool fresh_ = false;
    bool taken_fresh_ = false;
    bool referenced_ = false; // since the clock hand last passed
};

/// Slices of metadata tables in memory, found by host offset in O(1). Clean slices are on a clock
/// (second chance) and are evicted if space is needed. Dirty slices stay until a commit has taken
/// them.
///
/// No caller may hold a slice across a suspension: it must look the slice up again, and load it
/// again if it was evicted. So the cache needs no pins, except from the end of a load until its
/// waiters run, and while a commit writes the slice. Any capacity works. The capacity may be
/// exceeded: by the dirty slices, and by a few slices for each request in flight.
template <class Shard>
class slice_cache {
    struct load_in_flight;

  public:
    static constexpr std::size_t max_slice = 4096;
    static constexpr std::size_t sector = 512;

    slice_cache(Shard& shard, typename Shard::file& file, std::size_t slice_size,
                std::size_t capacity_bytes)
        : shard_(shard), file_(file), slice_size_(slice_size),
          capacity_(std::max<std::size_t>(capacity_bytes / slice_size, 4)),
          buckets_(std::bit_ceil(std::min<std::size_t>(capacity_, std::size_t{1} << 20)), nullptr) {
        GAUR_ASSERT(slice_size <= max_slice && std::has_single_bit(slice_size));
    }
    slice_cache(const slice_cache&) = delete;
    slice_cache& operator=(const slice_cache&) = delete;
    ~slice_cache() {
        GAUR_ASSERT(loading_ == 0);
        clean_.clear();
        free_.clear();
        for (slice_list& list : dirty_) { list.clear(); }
        while (slabs_ != nullptr) { delete std::exchange(slabs_, slabs_->next); }
        while (all_loads_ != nullptr) { delete std::exchange(all_loads_, all_loads_->next_made); }
    }

    std::size_t slice_size() const noexcept { return slice_size_; }
    std::size_t resident() const noexcept { return resident_; }
    std::size_t dirty() const noexcept { return dirty_count_; }
    std::size_t capacity() const noexcept { return capacity_; }
    std::uint64_t loads() const noexcept { return loads_; }

    /// The slice that begins at `at`, a multiple of the slice size. Null if it is not in memory.
    slice* find(host_offset at) noexcept {
        slice* s = lookup(at);
        if (s == nullptr || s->load_ != nullptr) { return nullptr; }
        s->referenced_ = true;
        return s;
    }

    /// A slice of a new table: all zeroes, to be written whole before anything refers to it. A
    /// slice that is already in memory is reused. Null if there is no memory, or if a load of the
    /// slice is in flight (only in a corrupt image is there a table in a free cluster).
    slice* create(host_offset at, slice_kind kind) noexcept {
        slice* s = lookup(at);
        if (s != nullptr && s->load_ != nullptr) { return nullptr; }
        if (s == nullptr) {
            s = make_room();
            if (s == nullptr) { return nullptr; }
            insert(*s, at, kind);
        } else {
            remove_from_list(*s);
            s->kind_ = kind;
            s->dirty_ = 0;
        }
        std::memset(s->data_, 0, slice_size_);
        s->fresh_ = true;
        s->dirty_ = all_sectors();
        push_dirty(*s);
        return s;
    }

    /// Marks bytes `[from, from + size)` of the slice as changed.
    void mark_dirty(slice& s, std::size_t from, std::size_t size) noexcept {
        const std::size_t first = from / sector;
        const std::size_t last = (from + size - 1) / sector;
        if (!s.is_dirty()) {
            remove_from_list(s);
            push_dirty(s);
        }
        s.dirty_ |= (std::uint32_t{2} << last) - (std::uint32_t{1} << first);
    }

    /// A commit takes the slice's dirty sectors, to write them in this phase. The slice stays in
    /// memory until `writes_ended`: a read from the file might give the old content before that.
    void begin_write(slice& s, unsigned phase = 0) {
        GAUR_ASSERT(s.is_dirty());
        writing_.push_back(&s);
        ++s.pins_;
        remove_from_list(s);
        s.phase_ = static_cast<std::uint8_t>(phase);
        s.taken_ = std::exchange(s.dirty_, 0);
        s.taken_fresh_ = std::exchange(s.fresh_, false);
        clean_.push_back(s);
    }

    /// All writes of the commit have ended; its first `durable` phases are durable. The slices of
    /// the other phases are dirty again, and stay in memory until a later commit has written them:
    /// the file may hold their old content.
    void writes_ended(unsigned durable) noexcept {
        for (slice* s : writing_) {
            --s->pins_;
            if (s->phase_ < durable) { continue; }
            if (!s->is_dirty()) {
                remove_from_list(*s);
                push_dirty(*s);
            }
            s->dirty_ |= s->taken_;
            s->fresh_ = s->fresh_ || s->taken_fresh_;
        }
        writing_.clear();
    }

    bool has_dirty(slice_kind kind) const noexcept {
        return !dirty_[static_cast<unsigned>(kind)].empty();
    }

    /// Calls `use(slice&)` for each dirty slice of a kind. `use` may begin to write the slice.
    template <class F>
    void for_each_dirty(slice_kind kind, F use) {
        slice_list& list = dirty_[static_cast<unsigned>(kind)];
        for (auto at = list.begin(); at != list.end();) {
            slice& s = *at;
            ++at;
            use(s);
        }
    }

    /// The table at `at`, `size` bytes, no longer exists: drops its slices from memory, also dirty
    /// ones. A slice whose load is in flight stays.
    void forget(host_offset at, std::uint64_t size) noexcept {
        for (std::uint64_t done = 0; done < size; done += slice_size_) {
            if (slice* s = lookup(at + done); s != nullptr && s->load_ == nullptr) {
                remove_from_list(*s);
                drop(*s);
            }
        }
    }

    /// Begins to load the slice at `at` if it is not in memory, for a later lookup. The outcome is
    /// not reported.
    void prefetch(host_offset at, slice_kind kind) noexcept {
        if (lookup(at) == nullptr) { static_cast<void>(start_load(at, kind)); }
    }
    bool is_loading() const noexcept { return loading_ != 0; }

    /// Sets the callback that runs each time the last load in flight has ended.
    void on_idle(void (*call)(void*) noexcept, void* context) noexcept {
        on_idle_ = call;
        on_idle_context_ = context;
    }

    /// `co_await` it. On success the slice at `at` is in memory until the next suspension. All
    /// waiters for one slice share one load. Errors: that of the read; ENOMEM.
    class load : public async::resumption {
      public:
        load(slice_cache& cache, host_offset at, slice_kind kind) noexcept
            : cache_(cache), at_(at), kind_(kind) {}

        bool await_ready() noexcept { return cache_.find(at_) != nullptr; }
        bool await_suspend(std::coroutine_handle<> waiting) noexcept {
            suspend(waiting);
            return cache_.join_load(*this);
        }
        result<void> await_resume() noexcept {
            if (pinned_ != nullptr) { --pinned_->pins_; }
            return status_;
        }

      private:
        friend class slice_cache;

        slice_cache& cache_;
        host_offset at_;
        slice_kind kind_;
        slice* pinned_ = nullptr;
        result<void> status_;
    };

    /// `co_await` it: until no load is in flight. At most one coroutine may wait at a time.
    class quiet : public async::resumption {
      public:
        explicit quiet(slice_cache& cache) noexcept : cache_(cache) {}
        bool await_ready() const noexcept { return !cache_.is_loading(); }
        void await_suspend(std::coroutine_handle<> waiting) noexcept {
            suspend(waiting);
            cache_.waits_for_quiet_ = this;
        }
        void await_resume() const noexcept {}

      private:
        slice_cache& cache_;
    };

  private:
    using slice_list =
        boost::intrusive::list<slice, boost::intrusive::constant_time_size<false>>;

    struct load_in_flight : Shard::file::operation, exec::work {
        explicit load_in_flight(slice_cache& c) noexcept
            : Shard::file::operation(&on_complete), exec::work(&on_run), cache(c) {}
        static void on_complete(io::operation& op) noexcept {
            auto& self = static_cast<load_in_flight&>(op);
            self.cache.shard_.executor().post(self);
        }
        static void on_run(exec::work& w) noexcept {
            auto& self = static_cast<load_in_flight&>(w);
            self.cache.finish_load(self);
        }
        slice_cache& cache;
        slice* target = nullptr;
        exec::work_queue waiting;
        load_in_flight* next_free = nullptr;
        load_in_flight* next_made = nullptr;
    };

    /// Slices and their bytes are allocated in slabs, and freed only with the cache.
    struct slab {
        static constexpr std::size_t slices = 64;
        explicit slab(std::size_t slice_size) noexcept
            : bytes(static_cast<std::byte*>(
                  ::operator new(slices * slice_size, std::align_val_t{4096}, std::nothrow))) {}
        slab(const slab&) = delete;
        slab& operator=(const slab&) = delete;
        ~slab() { ::operator delete(bytes, std::align_val_t{4096}); }
        std::byte* bytes;
        slice members[slices];
        slab* next = nullptr;
    };

    std::uint32_t all_sectors() const noexcept {
        return (std::uint32_t{1} << (slice_size_ / sector)) - 1;
    }
    std::size_t bucket_of(host_offset at) const noexcept {
        return slot_of(at.value / sector, buckets_.size());
    }
    slice* lookup(host_offset at) noexcept {
        slice* s = buckets_[bucket_of(at)];
        while (s != nullptr && s->at_ != at) { s = s->next_in_bucket_; }
        return s;
    }
    void insert(slice& s, host_offset at, slice_kind kind) noexcept {
        s.at_ = at;
        s.kind_ = kind;
        s.referenced_ = true;
        slice*& bucket = buckets_[bucket_of(at)];
        s.next_in_bucket_ = bucket;
        bucket = &s;
        ++resident_;
    }
    /// Removes the slice from the hash and puts it on the free list. Precondition: it is in no
    /// list.
    void drop(slice& s) noexcept {
        slice** at = &buckets_[bucket_of(s.at_)];
        while (*at != &s) { at = &(*at)->next_in_bucket_; }
        *at = s.next_in_bucket_;
        s.dirty_ = 0;
        s.fresh_ = false;
        --resident_;
        free_.push_back(s);
    }
    void push_dirty(slice& s) noexcept {
        dirty_[static_cast<unsigned>(s.kind_)].push_back(s);
        ++dirty_count_;
    }
    void remove_from_list(slice& s) noexcept {
        if (s.is_dirty()) {
            slice_list& list = dirty_[static_cast<unsigned>(s.kind_)];
            list.erase(list.iterator_to(s));
            --dirty_count_;
        } else {
            clean_.erase(clean_.iterator_to(s));
        }
    }

    /// A slice that is in no list, to be filled. If the cache is full it evicts clean slices first,
    /// by the clock. Then it takes a free slice, or a new one. Null if there is no memory.
    slice* make_room() noexcept {
        // More than one, if the cache had grown beyond its capacity.
        while (resident_ >= room() && evict_one()) {}
        if (free_.empty() && !add_slab()) { return nullptr; }
        slice& s = free_.front();
        free_.pop_front();
        return &s;
    }
    /// The number of slices from which on the cache evicts. However small the capacity, each
    /// request in flight has room for the few slices that it needs at once, besides the dirty ones.
    /// Otherwise requests could evict each other's slices forever.
    std::size_t room() const noexcept {
        constexpr std::size_t slices_a_request = 4;
        return std::max(capacity_, dirty_count_ + slices_a_request * (shard_.requests() + 1));
    }
    /// False if no slice can be evicted.
    bool evict_one() noexcept {
        // At most two rounds of the clock: the first clears every `referenced_`.
        for (std::size_t steps = 2 * resident_ + 1; steps > 0 && !clean_.empty(); --steps) {
            slice& s = clean_.front();
            clean_.pop_front();
            if (s.pins_ == 0 && !s.referenced_) {
                drop(s);
                return true;
            }
            s.referenced_ = false;
            clean_.push_back(s);
        }
        return false;
    }
    bool add_slab() noexcept {
        std::unique_ptr<slab> more(new (std::nothrow) slab(slice_size_));
        if (more == nullptr || more->bytes == nullptr) { return false; }
        for (std::size_t i = 0; i < slab::slices; ++i) {
            more->members[i].data_ = more->bytes + i * slice_size_;
            free_.push_back(more->members[i]);
        }
        more->next = slabs_;
        slabs_ = more.release();
        return true;
    }

    /// False if the load has ended already.
    bool join_load(load& waiting) noexcept {
        const slice* s = lookup(waiting.at_);
        if (s == nullptr) {
            waiting.status_ = start_load(waiting.at_, waiting.kind_);
            s = lookup(waiting.at_);
            if (s == nullptr || s->load_ == nullptr) { return false; }
        }
        static_cast<load_in_flight*>(s->load_)->waiting.push_back(waiting);
        return true;
    }

    /// An error means that the load has ended already.
    result<void> start_load(host_offset at, slice_kind kind) noexcept {
        slice* s = make_room();
        load_in_flight* l = s != nullptr ? take_load() : nullptr;
        if (l == nullptr) {
            if (s != nullptr) { free_.push_front(*s); }
            return error::from_errno(ENOMEM);
        }
        insert(*s, at, kind);
        s->load_ = l;
        l->target = s;
        ++loading_;
        ++loads_;
        const io::request what = io::request::read(at.value, {s->data_, slice_size_});
        if (file_.submit(*l, what) != io::submit_status::done) { return {}; }
        const result<void> status = l->status();
        finish_load(*l);
        return status;
    }

    void finish_load(load_in_flight& l) noexcept {
        slice& s = *l.target;
        const result<void> status = l.status();
        s.load_ = nullptr;
        --loading_;
        if (status) {
            clean_.push_back(s);
        } else {
            drop(s);
        }
        exec::work_queue waiting;
        waiting.swap(l.waiting);
        l.next_free = free_loads_;
        free_loads_ = &l;
        while (!waiting.empty()) {
            load& w = static_cast<load&>(waiting.front());
            waiting.pop_front();
            w.status_ = status;
            if (status) {
                ++s.pins_;
                w.pinned_ = &s;
            }
            shard_.executor().post(w);
        }
        if (loading_ != 0) { return; }
        if (quiet* w = std::exchange(waits_for_quiet_, nullptr)) { shard_.executor().post(*w); }
        if (on_idle_ != nullptr) { on_idle_(on_idle_context_); }
    }

    load_in_flight* take_load() noexcept {
        if (free_loads_ == nullptr) {
            auto* const more = new (std::nothrow) load_in_flight(*this);
            if (more == nullptr) { return nullptr; }
            more->next_made = all_loads_;
            all_loads_ = more;
            return more;
        }
        return std::exchange(free_loads_, free_loads_->next_free);
    }

    Shard& shard_;
    typename Shard::file& file_;
    std::size_t slice_size_;
    std::size_t capacity_; // slices
    std::vector<slice*> buckets_;
    slab* slabs_ = nullptr;               // a linked list: adding a slab cannot throw
    load_in_flight* all_loads_ = nullptr; // all that were allocated
    load_in_flight* free_loads_ = nullptr;
    std::vector<slice*> writing_;
    slice_list clean_; // the clock; its hand is at the front
    slice_list free_;
    slice_list dirty_[slice_kinds];
    std::size_t resident_ = 0;
    std::size_t dirty_count_ = 0;
    std::size_t loading_ = 0;
    std::uint64_t loads_ = 0;
    quiet* waits_for_quiet_ = nullptr;
    void (*on_idle_)(void*) noexcept = nullptr;
    void* on_idle_context_ = nullptr;
};

} // namespace gaur::cache
