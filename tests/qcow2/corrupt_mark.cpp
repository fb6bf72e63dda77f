// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/corrupt_mark.hpp>

#include <gaur/exec/run_loop.hpp>

#include "support/job.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <string>

namespace gaur::test {
namespace {

struct marked {
    no_io io;
    exec::run_loop<no_io> loop{io};
    std::string calls;
    result<void> outcome;
    qcow2::corrupt_mark<marked> mark{*this};

    auto executor() { return loop.get_executor(); }
    void tell_damage() noexcept { calls += "told "; }
    async::task<void> write_mark() { return write(*this); }
    static async::task<void> write(marked& self) {
        self.calls += "written ";
        co_return self.outcome;
    }
    void epochs_idle() noexcept { calls += mark.is_running() ? "busy " : "idle "; }
};

TEST(corrupt_mark, is_told_and_written_from_the_executor) {
    for (const bool well : {true, false}) {
        marked image;
        if (!well) { image.outcome = error::from_errno(EIO); }
        EXPECT_FALSE(image.mark.is_running());
        image.mark.start();
        EXPECT_EQ(image.calls, "");
        EXPECT_TRUE(image.mark.is_running());
        image.loop.run();
        EXPECT_EQ(image.calls, "told written idle ");
        EXPECT_FALSE(image.mark.is_running());
    }
}

} // namespace
} // namespace gaur::test
