// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "support/held_points.hpp"
#include "support/model_disk.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace gaur::test {

/// One image whose requests a model follows, over a device that records what a power cut may leave.
/// After each step a test checks structure and content of the disks that a cut may leave then.
template <track::Ordering Order>
class modelled_stage {
  public:
    using stage_type = stage<Order, async::no_hooks>;

    /// What the guest sees of the files below "top". Modifies `seen`, which holds zeroes.
    using fill_below = void (*)(const io::memory::disk& files, std::vector<std::byte>& seen);

    modelled_stage(const io::memory::disk& files, std::vector<std::byte> content,
                   io::fault::order order, fill_below below)
        : s({.deferred = true}, {.order = order, .record = true}), model(std::move(content)),
          below_(below) {
        s.io.inner().restore(files);
    }

    void begin_write(std::uint64_t at, std::uint64_t size) {
        std::vector<std::byte> data(size);
        const std::uint32_t id = model.begin_write(at, data, false);
        todo_.emplace_back(&s.begin(device::verb::write, at, std::move(data)), id);
    }
    /// Runs until all writes have ended. Returns how many of them failed.
    unsigned wait() {
        s.drain();
        unsigned failed = 0;
        for (const auto& [asked, id] : todo_) {
            EXPECT_TRUE(asked->ended) << "it hangs";
            model.end_write(id, asked->ended && asked->status.has_value());
            failed += asked->ended && asked->status ? 0U : 1U;
        }
        todo_.clear();
        return failed;
    }
    result<void> flush() {
        return flush([] {});
    }
    /// `look()` runs each time the device has ended a request.
    template <class F>
    result<void> flush(F look) {
        const std::uint32_t began = model.begin_flush();
        const auto& asked = s.flush();
        do { look(); } while (s.io.wait() != 0);
        EXPECT_TRUE(asked.ended) << "it hangs";
        model.end_flush(began, asked.ended && asked.status.has_value());
        return asked.status;
    }
    result<void> close() {
        const std::uint32_t began = model.begin_flush();
        const result<void> closed =
            sync_wait(s.io, s.loop.get_executor(), s.disk->close());
        model.end_flush(began, closed.has_value());
        return closed;
    }

    /// Checks that the content read now is allowed, and takes it as the content from here on.
    void read_all() {
        const auto& all = s.read(0, model.size());
        s.drain();
        ASSERT_TRUE(all.ended);
        ASSERT_TRUE(all.status) << all.status.error().message();
        EXPECT_EQ(model.settle(all.data), "");
    }

    /// Checks some of the disks that a power cut now may leave.
    void check_cuts(const std::string& when, std::uint64_t seeds) const {
        for (std::uint64_t seed = 0; seed < seeds; ++seed) {
            check_at_rest(s.io.survivors(seed), when);
        }
    }
    /// Checks the files as a killed process leaves them.
    void check_killed(const std::string& when) {
        check_at_rest(s.io.inner().snapshot(), when);
    }
    void check_at_rest(const io::memory::disk& files, const std::string& when) const {
        reference_image file(files.at("top").bytes());
        const auto v = file.check(file.is_dirty());
        EXPECT_EQ(v.corruptions, 0U) << when << ": " << v.first;
        EXPECT_EQ(model.after_power_cut(content(files)), "") << when;
    }
    /// What the guest sees of the files at rest.
    std::vector<std::byte> content(const io::memory::disk& files) const {
        std::vector<std::byte> seen(model.size());
        if (below_ != nullptr) { below_(files, seen); }
        reference_image(files.at("top").bytes()).read_over(seen);
        return seen;
    }
    void expect_no_leaks() {
        const auto v = s.check();
        EXPECT_EQ(v.corruptions, 0U) << v.first;
        EXPECT_EQ(v.leaks, 0U);
    }

    stage_type s;
    model_disk model;

  private:
    fill_below below_;
    std::vector<std::pair<typename stage_type::pending*, std::uint32_t>> todo_;
};

} // namespace gaur::test
