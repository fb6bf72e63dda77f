// SPDX-License-Identifier: BSL-1.0
// A device that fails some requests: errors are reported, nobody reads wrong bytes, and the image
// stays whole.
#include "support/simulated_disk.hpp"

#include <gaur/io/fault.hpp>

#include <cerrno>

namespace gaur::test {
namespace {

using faulty = io::fault::backend<io::memory::backend>;

/// `writes_only`: what is taken for a write that fails is given back, and can be.
void arm(faulty& io, io::seeded& random, bool writes_only) {
    for (std::uint64_t rules = 1 + random.below(5); rules > 0; --rules) {
        io::fault::rule r;
        r.nth = 1 + random.below(300);
        if (writes_only) {
            r.code = io::opcode::write;
        } else if (random.coin()) {
            r.code = one_of(random, {io::opcode::read, io::opcode::write, io::opcode::flush});
        }
        r.host_errno = one_of(random, {EIO, EIO, ENOSPC});
        r.from_then_on = random.below(16) == 0;
        io.fail(r);
    }
}

template <class Order>
struct faults : ::testing::Test {
    static void faulty_session(simulated_image& image, std::uint64_t number) {
        const scenario& s = image.decided();
        io::seeded random(s.seed * 99 + number);
        auto inner = io::memory::backend::make(s.device, image.files());
        faulty io(*std::move(inner), {.order = random.coin() ? io::fault::order::random
                                                             : io::fault::order::as_inner,
                                      .seed = s.seed + number});
        exec::inline_loop loop;
        const drained_at_end drained{io};
        auto opened = open_top<Order>(io, loop, s);
        if (!opened) { return image.note("open: " + opened.error().message()); }
        auto disk = *std::move(opened);
        const bool writes_only = random.below(3) == 0;
        arm(io, random, writes_only);
        guest load(io, disk, image.model(), s, s.seed * 31 + number);
        load.allow_errors();
        if (!load.run(s.operations)) { return image.note(load.wrong()); }
        if (load.counted().failed != 0 && io.injected() == 0) {
            return image.note("a request failed, and nothing was wrong");
        }
        io.forget_rules();
        if (!disk.engine().changes().empty()) { return image.note("the tracker is not empty"); }
        auto all = read_whole(io, disk);
        if (!all) { return image.note("reading all: " + all.error().message()); }
        const result<void> closed = sync_wait(io, loop.get_executor(), disk.close());
        if (closed) {
            if (std::string bad = image.model().settle(*all); !bad.empty()) {
                return image.note("at the end: " + bad);
            }
        } else if (io.injected() == 0) {
            return image.note("close: " + closed.error().message());
        }
        image.set_files(io.inner().snapshot());
        // The second session may find what the first one left behind.
        image.check_structure(!closed || !writes_only || number > 1);
        if (!image.good()) { return; }
        const std::vector<std::byte> left = image.content_at_rest();
        // Without a close it is as after a power cut: what was flushed is there.
        if (closed ? left != image.model().base() : !image.model().after_power_cut(left).empty()) {
            return image.note("at rest: " + image.model().after_power_cut(left));
        }
        image.model().restart(left);
        image.check_snapshots();
    }

    static std::string run(std::uint64_t seed, unsigned cluster_bits) {
        simulated_image image(seed, cluster_bits);
        if (image.decided().sessions > 1) {
            image.clean_session<Order>(0);
            if (image.good()) { image.between_sessions(0); }
        }
        for (std::uint64_t session = 1; session <= 2 && image.good(); ++session) {
            faulty_session(image, session);
            if (image.is_dirty()) { break; }
        }
        return image.wrong();
    }
    static void run_seeds(unsigned cluster_bits, std::uint64_t otherwise) {
        for_each_seed(otherwise, [&](std::uint64_t seed) { return run(seed, cluster_bits); });
    }
};
TYPED_TEST_SUITE(faults, orderings, ordering_name);

TYPED_TEST(faults, clusters_of_512) { this->run_seeds(9, 1000); }
TYPED_TEST(faults, clusters_of_4096) { this->run_seeds(12, 300); }
TYPED_TEST(faults, clusters_of_64k) { this->run_seeds(16, 30); }

} // namespace
} // namespace gaur::test
