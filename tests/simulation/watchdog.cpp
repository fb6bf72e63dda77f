// SPDX-License-Identifier: BSL-1.0
// A simulated run that hangs ends at once, and reports why.
#include "support/simulated_disk.hpp"

#include <gtest/gtest.h>

#include <utility>

namespace gaur::test {
namespace {

/// All writes meet an allocation that never retires.
void run_into_a_change_that_stays() {
    scenario s = decide(3, 9);
    s.device = {};
    s.operations = 50;
    prepared_disk made = prepare(s);
    model_disk model(std::move(made.content));
    simulated_device io(*io::memory::backend::make(s.device, made.files), order_of(0));
    exec::inline_loop loop;
    auto disk = *open_top<track::serialize>(io, loop, s);
    const cluster_geometry g = disk.engine().top().geometry();
    track::allocation stays({{0}, g.covering(disk.size())}, {1000});
    disk.engine().allocations().track(stays);
    guest load(io, disk, model, s, 0);
    load.run();
}

TEST(watchdog_of_simulations, says_which_requests_wait_for_which_change) {
    EXPECT_DEATH(run_into_a_change_that_stays(),
                 "the run hangs: nothing is in flight.*"
                 "in flight:.*write [0-9]+ .*: at work.*"
                 "tracked:.*clusters of 0 \\+ .* wait for it.*commits: .*at the device: 0");
}

TEST(watchdog_of_simulations, ends_what_goes_round_over_the_device) {
    const auto go_round = [] {
        simulated_device io(std::make_unique<io::memory::backend>());
        io.dog().on_hang([] { return std::string("two slices push each other out"); });
        for (;;) { io.poll(); }
    };
    EXPECT_DEATH(go_round(), "no progress in 300000 steps.*two slices push");
}

TEST(watchdog_of_simulations, ends_what_goes_round_without_the_device) {
    const auto go_round = [] {
        watchdog dog(watchdog::most_steps, 1);
        for (volatile bool for_ever = true; for_ever;) {}
    };
    EXPECT_DEATH(go_round(), "without asking the device");
}

TEST(watchdog_of_simulations, lets_a_run_go_on_that_makes_progress) {
    simulated_device io(std::make_unique<io::memory::backend>());
    for (int part = 0; part < 3; ++part) {
        io.dog().progress();
        for (std::uint64_t n = 0; n < watchdog::most_steps; ++n) { io.poll(); }
    }
    EXPECT_EQ(io.in_flight(), 0U);
}

} // namespace
} // namespace gaur::test
