// SPDX-License-Identifier: BSL-1.0
// The engine against a model of the guest's disk, over a device that ends requests in any order.
//
//   GAUR_SEEDS=100000 test_simulation   more of them
//   GAUR_SEED=77 test_simulation        one, to look at
#include "support/simulated_disk.hpp"

#include <gtest/gtest.h>

#include <chrono>

namespace gaur::test {
namespace {

using backend = io::memory::backend;

template <track::Ordering Order>
class simulated_run {
    using image = qcow2::image<backend, exec::inline_loop::executor, Order>;

  public:
    simulated_run(std::uint64_t seed, unsigned cluster_bits)
        : scenario_(decide(seed, cluster_bits)) {
        prepared_disk made = prepare(scenario_);
        files_ = std::move(made.files);
        below_ = made.content;
        model_.emplace(std::move(made.content));
    }

    /// Empty, or what went wrong.
    std::string run() {
        for (unsigned session = 0; session < scenario_.sessions && wrong_.empty(); ++session) {
            one_session(session);
            if (!wrong_.empty()) { break; }
            check_file();
            if (session < scenario_.snapshots) { add_snapshot(); }
        }
        if (wrong_.empty()) { check_snapshots(); }
        return wrong_.empty() ? wrong_ : scenario_.describe() + ": " + wrong_;
    }
    const memory_disk& files() const noexcept { return files_; }
    const scenario& decided() const noexcept { return scenario_; }

  private:
    void one_session(unsigned number) {
        auto made = backend::make(scenario_.device, files_);
        backend& io = **made;
        exec::inline_loop loop;
        const auto executor = loop.get_executor();
        auto opened = sync_wait(io, executor,
                                qcow2::open<Order>(io, executor, "top",
                                                   {.write = true,
                                                    .references = qcow2::references::follow,
                                                    .cache_bytes = scenario_.cache_bytes}));
        if (!opened) { return note("open: " + opened.error().message()); }
        image disk = *std::move(opened);
        guest<backend, image> load(io, disk, *model_, scenario_,
                                   scenario_.seed * 31 + number);
        if (!load.run(scenario_.operations)) { return note(load.wrong()); }
        if (!disk.engine().changes().empty()) { return note("the tracker is not empty"); }
        if (disk.in_flight() != 0) { return note("requests are counted that have ended"); }
        auto all = read_whole(io, disk);
        if (!all) { return note("reading all: " + all.error().message()); }
        if (std::string bad = model_->settle(*all); !bad.empty()) {
            return note("at the end of session " + std::to_string(number) + ": " + bad);
        }
        const result<void> closed = sync_wait(io, executor, disk.close());
        if (!closed) { return note("close: " + closed.error().message()); }
        files_ = io.snapshot();
    }

    /// By the specification alone: what the file says, and what the guest reads.
    void check_file() {
        reference_image file(files_.at("top").bytes());
        const reference_image::verdict v = file.check();
        if (v.corruptions != 0) { return note("corruption: " + v.first); }
        if (v.leaks != 0) { return note(std::to_string(v.leaks) + " clusters leak"); }
        if (file.is_dirty()) { return note("closed, but marked dirty"); }
        std::vector<std::byte> seen = below_;
        file.read_over(seen);
        if (seen != model_->base()) { note("the file at rest reads differently"); }
    }

    void add_snapshot() {
        reference_image file(files_.at("top").bytes());
        if (!file.add_snapshot()) { return; }
        files_.at("top") = io::sparse_bytes(file.bytes());
        kept_.push_back(model_->base());
        const reference_image::verdict v = file.check();
        if (v.corruptions + v.leaks != 0) { note("the test's own snapshot: " + v.first); }
    }
    void check_snapshots() {
        const reference_image file(files_.at("top").bytes());
        if (file.snapshot_count() != kept_.size()) { return note("snapshots are lost"); }
        for (std::size_t i = 0; i < kept_.size(); ++i) {
            std::vector<std::byte> seen = below_;
            file.read_snapshot_over(i, seen);
            if (seen != kept_[i]) { note("snapshot " + std::to_string(i) + " has changed"); }
        }
    }

    void note(std::string what) {
        if (wrong_.empty()) { wrong_ = std::move(what); }
    }

    scenario scenario_;
    memory_disk files_;
    std::vector<std::byte> below_; ///< what the top layer lies on
    std::optional<model_disk> model_;
    std::vector<std::vector<std::byte>> kept_; ///< in snapshots
    std::string wrong_;
};

template <class Order>
struct random_load : ::testing::Test {
    void run_seeds(unsigned cluster_bits, std::uint64_t otherwise) {
        const std::uint64_t one = from_environment("GAUR_SEED", 0);
        const std::uint64_t count = one != 0 ? 1 : from_environment("GAUR_SEEDS", otherwise);
        const std::uint64_t first = one != 0 ? one : from_environment("GAUR_FIRST_SEED", 1);
        const auto begin = std::chrono::steady_clock::now();
        for (std::uint64_t seed = first; seed < first + count; ++seed) {
            const std::string wrong = simulated_run<Order>(seed, cluster_bits).run();
            ASSERT_TRUE(wrong.empty()) << wrong << "\nagain: GAUR_SEED=" << seed;
        }
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
        std::printf("%llu seeds, %.0f a second\n", static_cast<unsigned long long>(count),
                    static_cast<double>(count) / took.count());
    }
};
using orderings = ::testing::Types<track::serialize, track::join>;
struct ordering_name {
    template <class Order>
    static std::string GetName(int) {
        return std::string(Order::name);
    }
};
TYPED_TEST_SUITE(random_load, orderings, ordering_name);

TYPED_TEST(random_load, clusters_of_512) { this->run_seeds(9, 1500); }
TYPED_TEST(random_load, clusters_of_4096) { this->run_seeds(12, 500); }
TYPED_TEST(random_load, clusters_of_64k) { this->run_seeds(16, 60); }
TYPED_TEST(random_load, clusters_of_2m) { this->run_seeds(21, 2); }

TYPED_TEST(random_load, a_seed_replays) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        simulated_run<TypeParam> first(seed, 9);
        simulated_run<TypeParam> second(seed, 9);
        ASSERT_EQ(first.run(), second.run());
        EXPECT_TRUE(first.files() == second.files()) << seed;
    }
}

} // namespace
} // namespace gaur::test
