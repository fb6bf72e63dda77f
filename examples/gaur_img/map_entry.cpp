// SPDX-License-Identifier: BSL-1.0
#include "map_entry.hpp"

namespace gaur_img {

namespace {

bool continues(const map_entry& before, const map_entry& next) noexcept {
    return before.is_same_kind(next) && before.depth == next.depth &&
           before.offset.has_value() == next.offset.has_value() &&
           before.start + before.size == next.start &&
           (!before.offset || *before.offset + before.size == *next.offset);
}

} // namespace

gaur::async::task<map_entry> entry_of(disk& of, const gaur::device::block_run& run) {
    using gaur::device::mapping;
    map_entry entry;
    entry.start = run.at.value;
    entry.size = run.size;
    entry.depth = run.layer;
    entry.present = run.kind != mapping::unallocated;
    entry.zero = run.reads_as_zeroes();
    entry.data = !run.reads_as_zeroes();
    if (run.has_host) { entry.offset = run.host.value; }
    if (run.in_hole && !of.is_raw(run.layer)) {
        entry.data = true;
        gaur::async::task<bool> asking = of.lacks_space(run.layer);
        const gaur::result<bool> lacks = co_await asking;
        if (!lacks) { co_return lacks.error(); }
        entry.zero = *lacks;
    }
    co_return entry;
}

gaur::async::task<void> map_walk::next_of(map_walk& self, std::span<map_entry> into,
                                          std::size_t& count) {
    count = 0;
    while (count < into.size()) {
        if (self.at_ == self.end_) {
            if (self.ahead_.size != 0) { into[count++] = self.ahead_; }
            self.ahead_ = {};
            break;
        }
        gaur::async::task<gaur::device::block_run> looking =
            self.of_.block_status(self.at_, self.end_ - self.at_);
        const gaur::result<gaur::device::block_run> run = co_await looking;
        if (!run) { co_return run.error(); }
        gaur::async::task<map_entry> naming = entry_of(self.of_, *run);
        const gaur::result<map_entry> next = co_await naming;
        if (!next) { co_return next.error(); }
        self.at_ += next->size;
        if (self.ahead_.size != 0 && continues(self.ahead_, *next)) {
            self.ahead_.size += next->size;
            continue;
        }
        if (self.ahead_.size != 0) { into[count++] = self.ahead_; }
        self.ahead_ = *next;
    }
    co_return {};
}

} // namespace gaur_img
