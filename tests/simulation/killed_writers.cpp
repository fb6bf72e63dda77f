// SPDX-License-Identifier: BSL-1.0
// Writers that are killed, one after another, at any request to the device. The file holds all that
// had ended, and nothing else. However many writers there are, the file is at most one writer's
// window longer than what is in use, and a repair and a clean close free the rest.
#include "support/simulations.hpp"

#include <gaur/qcow2/repair.hpp>

#include <algorithm>
#include <cstdint>
#include <string>

namespace gaur::test {
namespace {

template <class Order>
class killed_run {
  public:
    killed_run(std::uint64_t seed, unsigned cluster_bits, const part_of_run* part)
        : image_(seed, cluster_bits, part) {}

    std::string run() {
        image_.first_session<Order>();
        for (unsigned session = 1; session <= writers && image_.good(); ++session) {
            killed_session(session);
            if (image_.good() && image_.is_dirty()) { repair(); }
            if (image_.good()) { image_.model().restart(image_.content_at_rest()); }
        }
        close_cleanly();
        if (image_.good()) { image_.check_structure(true); }
        if (image_.good()) { repair(); }
        return image_.wrong();
    }

  private:
    static constexpr unsigned writers = 10;

    /// What a session frees while it closes stays in the file until a later session writes, and a
    /// session that writes nothing leaves the file unchanged. So it takes several sessions until
    /// the file is short.
    void close_cleanly() {
        bool is_short = false;
        unsigned written = 0;
        for (unsigned n = 1; n <= 6 && image_.good() && !is_short; ++n) {
            const io::sparse_bytes before = top();
            image_.clean_session<Order>(writers + n);
            written += top() == before ? 0 : 1;
            is_short = behind_use() <= 2 * image_.decided().top.size + some();
        }
        if (image_.good() && !is_short && written >= 3) {
            image_.note("closed: the file has " + std::to_string(behind_use()) +
                        " bytes behind what is in use");
        }
    }
    /// An allowance: a guest's clusters need tables, and each kind of table takes some clusters.
    std::uint64_t some() const { return std::uint64_t{64} << image_.decided().top.cluster_bits; }
    std::uint64_t behind_use() const {
        const std::uint64_t used = reference_image(top().bytes()).counted_end();
        return top().size() - std::min(used, top().size());
    }

    void killed_session(unsigned number) {
        const scenario& s = image_.decided();
        io::seeded random(s.seed * 33 + number);
        simulated_device io(*io::memory::backend::make(s.device, image_.files()),
                            order_of(s.seed + number));
        exec::inline_loop loop;
        const drained_at_end drained{io};
        io.cut_after(s.early(20 + random.below(one_of(random, {30U, 200U, 800U}))));
        auto opened = open_top<Order>(io, loop, s);
        if (opened) {
            auto disk = *std::move(opened);
            guest load(io, disk, image_.model(), s, number);
            load.allow_errors();
            load.stop_when([&io] { return io.is_cut(); });
            if (!load.run()) { image_.note(load.wrong()); }
        } else if (!io.is_cut()) {
            image_.note("open: " + opened.error().message());
        }
        while (io.in_flight() != 0) { io.wait(); }
        image_.set_files(io.inner().snapshot());
        image_.check_structure(true);
        if (!image_.good()) { return; }
        const std::string bad = image_.model().after_power_cut(image_.content_at_rest());
        if (!bad.empty()) { return image_.note("at rest: " + bad); }
        // Taken but not committed: each cluster once, and what was counted ahead.
        if (behind_use() > 2 * s.top.size + 4 * s.count_ahead + s.grow_ahead + some()) {
            image_.note("killed: the file has " + std::to_string(behind_use()) +
                        " bytes behind what is in use");
        }
    }

    /// Leaves only what is in use.
    void repair() {
        simulated_device io(*io::memory::backend::make(image_.decided().device, image_.files()));
        exec::inline_loop loop;
        const auto done = sync_wait(io, loop.get_executor(),
                                    qcow2::repair(io, loop.get_executor(), "top"));
        if (!done) { return image_.note("repair: " + done.error().message()); }
        if (done->outcome == qcow2::repair_outcome::refused) {
            return image_.note("repair is refused");
        }
        image_.set_files(io.inner().snapshot());
        image_.check_structure(false);
        if (behind_use() != 0) { image_.note("repaired: the file goes on behind what is in use"); }
    }

    const io::sparse_bytes& top() const { return image_.files().at("top"); }

    simulated_image image_;
};

template <class Order>
struct killed_writers : ::testing::Test {
    static void run_seeds(unsigned cluster_bits, std::uint64_t otherwise) {
        for_each_seed(otherwise, [=](std::uint64_t seed, const part_of_run* part) {
            return killed_run<Order>(seed, cluster_bits, part).run();
        });
    }
};
TYPED_TEST_SUITE(killed_writers, orderings, ordering_name);

TYPED_TEST(killed_writers, clusters_of_512) { this->run_seeds(9, 150); }
TYPED_TEST(killed_writers, clusters_of_4096) { this->run_seeds(12, 40); }

} // namespace
} // namespace gaur::test
