// SPDX-License-Identifier: BSL-1.0
// The power goes at any request to the device. Of what was not flushed any part may be left, torn
// into sectors; whatever is left must be a whole image with what was flushed in it, and in every
// other place the old bytes or some of the new ones, never anybody else's.
#include "support/simulated_disk.hpp"

#include <gaur/io/fault.hpp>

namespace gaur::test {
namespace {

using faulty = io::fault::backend<io::memory::backend>;

std::uint64_t states_seen = 0;

/// One of the disks that the cut may have left: `what` was not flushed since `model`'s last flush.
template <class Order>
void check_survivor(simulated_image& image) {
    image.check_structure(true);
    if (!image.good()) { return; }
    if (std::string bad = image.model().after_power_cut(image.content_at_rest()); !bad.empty()) {
        return image.note("at rest: " + bad);
    }
    image.check_snapshots();
    if (!image.good()) { return; }
    auto made = io::memory::backend::make({}, image.files());
    exec::inline_loop loop;
    // Refcounts that are marked as stale have to be rebuilt before anybody writes.
    auto opened = open_top<Order>(**made, loop, image.decided(), !image.is_dirty());
    if (!opened) { return image.note("open: " + opened.error().message()); }
    auto disk = *std::move(opened);
    auto all = read_whole(**made, disk);
    if (!all) { return image.note("reading all: " + all.error().message()); }
    if (std::string bad = image.model().after_power_cut(*all); !bad.empty()) {
        return image.note("reopened: " + bad);
    }
    const result<void> closed = sync_wait(**made, loop.get_executor(), disk.close());
    if (!closed) { image.note("close: " + closed.error().message()); }
    ++states_seen;
}

template <class Order>
struct power_cut : ::testing::Test {
    /// Load until the power goes; false where it did not.
    static bool cut_session(simulated_image& image, std::uint64_t number, unsigned states) {
        const scenario& s = image.decided();
        io::seeded random(s.seed * 77 + number);
        auto inner = io::memory::backend::make(s.device, image.files());
        faulty io(*std::move(inner),
                  {.order = one_of(random, {io::fault::order::as_inner, io::fault::order::random,
                                            io::fault::order::newest_first,
                                            io::fault::order::oldest_last}),
                   .seed = s.seed + number,
                   .record = true});
        exec::inline_loop loop;
        const drained_at_end drained{io};
        io.cut_after(1 + random.below(one_of(random, {30U, 200U, 800U})));
        {
            auto opened = open_top<Order>(io, loop, s);
            if (opened) {
                auto disk = *std::move(opened);
                guest load(io, disk, image.model(), s, s.seed * 31 + number);
                load.allow_errors();
                load.stop_when([&io] { return io.is_cut(); });
                if (!load.run(s.operations)) { image.note(load.wrong()); }
                // A close may be cut as well.
                if (!io.is_cut()) {
                    const std::uint32_t began = image.model().begin_flush();
                    const result<void> closed =
                        sync_wait(io, loop.get_executor(), disk.close());
                    image.model().end_flush(began, closed.has_value());
                }
            }
        }
        while (io.in_flight() != 0) { io.wait(); }
        for (unsigned i = 0; i < states && image.good(); ++i) {
            image.set_files(io.survivors(random.next()));
            check_survivor<Order>(image);
        }
        return io.is_cut();
    }

    static std::string run(std::uint64_t seed, unsigned cluster_bits) {
        simulated_image image(seed, cluster_bits);
        if (image.decided().sessions > 1) {
            image.clean_session<Order>(0);
            if (image.good()) { image.between_sessions(0); }
        }
        // The survivor of one cut is what the next session begins with.
        for (std::uint64_t session = 1; session <= 3 && image.good(); ++session) {
            cut_session(image, session, 8);
            if (!image.good() || image.is_dirty()) { break; }
            image.model().restart(image.content_at_rest());
        }
        return image.wrong();
    }
    static void run_seeds(unsigned cluster_bits, std::uint64_t otherwise) {
        states_seen = 0;
        for_each_seed(otherwise, [&](std::uint64_t seed) { return run(seed, cluster_bits); });
        std::printf("%llu disks after a cut\n", static_cast<unsigned long long>(states_seen));
    }
};
TYPED_TEST_SUITE(power_cut, orderings, ordering_name);

TYPED_TEST(power_cut, clusters_of_512) { this->run_seeds(9, 400); }
TYPED_TEST(power_cut, clusters_of_4096) { this->run_seeds(12, 100); }
TYPED_TEST(power_cut, clusters_of_64k) { this->run_seeds(16, 20); }

} // namespace
} // namespace gaur::test
