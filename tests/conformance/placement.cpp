// SPDX-License-Identifier: BSL-1.0
#include <gaur/conformance/placement.hpp>

#include <gaur/qcow2/alloc/first_fit.hpp>

#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <malloc.h>
#include <variant>
#include <vector>

// The suite must be able to fail: each placement here breaks one line of the contract.
namespace gaur::conformance {
namespace {

using namespace qcow2::alloc;

/// first_fit with the fault that `Fault` names.
enum class fault {
    too_many, not_raised, not_free, twice, hides, swallows, leaks, gives_up, forgets, keeps,
    by_chance, hoards
};
template <fault Fault>
class faulty : public first_fit {
  public:
    template <RefcountView R>
    answer take(R& counts, const request& what) noexcept {
        request asked = what;
        if (Fault == fault::too_many) { asked.most = asked.most + cluster_count{1}; }
        ++takes_;
        if (Fault == fault::not_raised && takes_ % 5 == 0) { return grant{{900}, {1}}; }
        if (Fault == fault::not_free && takes_ % 5 == 0) { return counts.take_free({{3}, {2}}); }
        if (Fault == fault::twice && takes_ % 5 == 0 && last_.count.value > 0) { return last_; }
        if (Fault == fault::by_chance) { asked.most = asked.count = {1 + total_++ % 2}; }
        if (Fault == fault::hoards) { memory_.resize(memory_.size() + 1000); }
        if (Fault == fault::keeps && asked.most.value == 1) { asked.most = {2}; }
        if (Fault == fault::leaks && takes_ == 4) {
            static_cast<void>(first_fit::take(counts, {{1}, {1}, {}, {}}));
        }
        const answer found = first_fit::take(counts, asked);
        if (Fault == fault::hides && std::holds_alternative<missing_block>(found)) {
            return image_full{};
        }
        if (Fault == fault::swallows && std::holds_alternative<error>(found)) {
            return image_full{};
        }
        if (Fault == fault::gives_up && takes_ > 50) { return image_full{}; }
        if (const auto* g = std::get_if<grant>(&found)) {
            last_ = *g;
            if (Fault == fault::keeps && g->count > what.most) {
                return grant{g->first, what.most, g->pristine};
            }
        }
        return found;
    }
    void freed(host_cluster c) noexcept {
        if (Fault != fault::forgets) { first_fit::freed(c); }
    }

  private:
    unsigned takes_ = 0;
    grant last_;
    std::vector<char> memory_;
    static inline std::uint64_t total_ = 0; // shared by all instances, so that the answers differ
};

/// Whether a line of the suite detects a fault.
bool finds(void (*line)()) {
    ::testing::TestPartResultArray results;
    {
        const ::testing::ScopedFakeTestPartResultReporter reporter(
            ::testing::ScopedFakeTestPartResultReporter::INTERCEPT_ONLY_CURRENT_THREAD, &results);
        line();
    }
    for (int i = 0; i < results.size(); ++i) {
        if (results.GetTestPartResult(i).failed()) { return true; }
    }
    return false;
}

TEST(placement_suite, finds_each_fault_by_the_line_that_it_breaks) {
    EXPECT_TRUE(finds(&placement_lines<faulty<fault::too_many>>::bounded));
    EXPECT_TRUE(finds(&placement_lines<faulty<fault::not_raised>>::raised));
    EXPECT_TRUE(finds(&placement_lines<faulty<fault::not_free>>::raised));
    EXPECT_TRUE(finds(&placement_lines<faulty<fault::twice>>::once));
    EXPECT_TRUE(finds(&placement_lines<faulty<fault::hides>>::asks));
    EXPECT_TRUE(finds(&placement_lines<faulty<fault::swallows>>::passes_on));
    EXPECT_TRUE(finds(&placement_lines<faulty<fault::leaks>>::repeatable));
    EXPECT_TRUE(finds(&placement_lines<faulty<fault::gives_up>>::complete));
    EXPECT_TRUE(finds(&placement_lines<faulty<fault::forgets>>::reused));
    EXPECT_TRUE(finds(&placement_lines<faulty<fault::keeps>>::given_back));
    EXPECT_TRUE(finds(&placement_lines<faulty<fault::by_chance>>::pure));
    if (mallinfo2().uordblks != 0) { // a sanitizer's heap does not report its size
        EXPECT_TRUE(finds(&placement_lines<faulty<fault::hoards>>::pure));
    }
}

} // namespace

INSTANTIATE_TYPED_TEST_SUITE_P(exemplar, placement_conformance, qcow2::alloc::first_fit);

} // namespace gaur::conformance
