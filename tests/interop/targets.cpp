// SPDX-License-Identifier: BSL-1.0
// gaur-img never writes over what it reads, and a command that is refused changes nothing.
#include "support/gaur_img.hpp"
#include "support/qemu_io.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

namespace {

using gaur::test::said;

class targets : public gaur::test::gaur_img {
  protected:
    using bytes = std::vector<std::byte>;

    bytes content(const std::string& name) const { return gaur::test::read_file(file(name)); }

    /// The command fails with a message, and leaves the files unchanged.
    void expect_refused(const std::string& arguments, const std::vector<std::string>& kept,
                        const std::string& part = "") const {
        SCOPED_TRACE(arguments);
        std::vector<bytes> before;
        for (const std::string& name : kept) { before.push_back(content(name)); }
        const said s = ours(arguments);
        EXPECT_EQ(s.exit_code, 1) << s;
        EXPECT_NE(s.text.find("gaur-img: "), s.text.npos) << s;
        EXPECT_NE(s.text.find(part), s.text.npos) << s;
        for (std::size_t i = 0; i < kept.size(); ++i) {
            EXPECT_TRUE(content(kept[i]) == before[i]) << kept[i] << " has changed\n" << s;
        }
    }

    /// The chain top.q -> middle.q -> base.q, with data in each, and other names of the lowest.
    void make_chain() const {
        prepare("head -c 300000 /dev/urandom > r.raw && qemu-img convert -O qcow2 r.raw base.q && "
                "qemu-img create -q -f qcow2 -b base.q -F qcow2 middle.q && "
                "qemu-img create -q -f qcow2 -b middle.q -F qcow2 top.q && "
                "ln -s base.q link.q && ln base.q hard.q && mkdir d && ln -s ../base.q d/up.q");
    }
    std::vector<std::string> names_of_base() const {
        return {"base.q", "./base.q", "d/../base.q", file("base.q"), "link.q", "hard.q", "d/up.q"};
    }
};

constexpr const char* is_read = "would be destroyed; name another file";

TEST_F(targets, no_image_is_made_over_its_own_chain) {
    make_chain();
    for (const std::string& name : names_of_base()) {
        // The name of a backing file is relative to the folder of the image.
        const std::string up = name.starts_with("d/up") ? "../" : "";
        for (const std::string below : {"base.q", "middle.q", "top.q"}) {
            for (const std::string how : {"", "-u "}) {
                expect_refused("create -f qcow2 " + how + "-F qcow2 -b " + up + below + ' ' + name +
                                   " 1M",
                               {"base.q"}, is_read);
            }
        }
    }
    for (const std::string& name : names_of_base()) {
        if (name.starts_with("d/")) { continue; }
        expect_refused("create -f qcow2 -F qcow2 -b " + name + " base.q", {"base.q"}, is_read);
        expect_refused("create -f qcow2 -o backing_file=" + name + ",backing_fmt=qcow2 base.q 5M",
                       {"base.q"}, is_read);
    }
    expect_refused("create -q -u -f qcow2 -b new.q -F qcow2 new.q 1M", {"base.q"});
    EXPECT_FALSE(std::filesystem::exists(file("new.q")));
}

TEST_F(targets, no_conversion_writes_over_what_it_reads) {
    make_chain();
    for (const std::string& name : names_of_base()) {
        const std::string up = name.starts_with("d/up") ? "../" : "";
        for (const std::string source : {"base.q", "middle.q", "top.q"}) {
            for (const std::string how : {"", "-n ", "-U ", "-n -U "}) {
                for (const std::string format : {"raw", "qcow2"}) {
                    expect_refused("convert " + how + "-O " + format + ' ' + source + ' ' + name,
                                   {"base.q"}, is_read);
                }
            }
        }
        for (const std::string below : {"base.q", "middle.q", "top.q"}) {
            expect_refused("convert -O qcow2 -F qcow2 -B " + up + below + " r.raw " + name,
                           {"base.q", "r.raw"}, is_read);
        }
    }
    expect_refused("convert -f raw -O raw r.raw ./r.raw", {"r.raw"}, is_read);
    expect_refused("convert -f raw -n -U -O raw r.raw r.raw", {"r.raw"}, is_read);
    // Into an overlay of the source: allowed.
    EXPECT_EQ(ours("convert -n -O qcow2 base.q top.q").exit_code, 0);
    prepare("qemu-img compare -f raw -F qcow2 r.raw top.q");
}

TEST_F(targets, what_the_command_line_tells_is_looked_at_first) {
    prepare("head -c 3M /dev/urandom > r.raw && echo keep > t && truncate -s 10M big.raw && "
            "qemu-img create -q -f qcow2 q 3M && qemu-img create -q -f qcow2 -b gone.q -F qcow2 -u "
            "headless.q 1M");
    for (const std::string how : {
             "-t bogus", "-T bogus", "-t ''", "-O zork", "-O qcow2 -o size=1M", "-O qcow2 -o foo=1",
             "-O qcow2 -B nope -F raw", "-O qcow2 -B r.raw -F qcow2", "-O qcow2 -B q -F zork",
             "-O qcow2 -B headless.q -F qcow2", "-O qcow2 -B q", "-O qcow2 -F raw",
             "-O raw -B q -F qcow2", "-S 13", "-S 1G", "-m 0", "-m 65",
             "-O qcow2 -o cluster_size=5", "-O qcow2 -o cluster_size=4M",
             "-O qcow2 -o refcount_bits=3", "-O qcow2 -o compat=9",
             "-O qcow2 -o compat=0.10,lazy_refcounts=on",
             "-O qcow2 -o cluster_size=512,size=1P", "-O raw -o size=9E", "--target-is-zero",
             "-f qcow2", "-O qcow2 -o data_file=x", "-O qcow2 -B . -F raw"}) {
        expect_refused("convert " + how + " r.raw t", {"t", "r.raw"});
    }
    expect_refused("convert nope t", {"t"});
    expect_refused("convert -O qcow2 headless.q t", {"t"});
    for (const std::string how :
         {"-f qcow2 t", "-f zork t 1M", "-f qcow2 -b nope -F raw t", "-f qcow2 -b nope -F raw t 1M",
          "-f qcow2 -b r.raw -F qcow2 t 1M", "-f qcow2 -b headless.q -F qcow2 t 1M",
          "-f qcow2 -o cluster_size=512 t 1P", "-f raw t 9E", "-f qcow2 -o size=1M,foo t",
          "-f qcow2 t 1X", "-f raw -b q t 1M"}) {
        expect_refused("create " + how, {"t"});
    }
    // With -n as well.
    expect_refused("convert -n -O qcow2 r.raw t", {"t"});
    expect_refused("convert -n -O qcow2 big.raw q", {"q"}, "output file is smaller");
    expect_refused("convert -n -O qcow2 -o cluster_size=4k r.raw q", {"q"});
    expect_refused("convert -n -O qcow2 -B r.raw -F raw r.raw q", {"q"},
                   "does not have the backing");
    expect_refused("convert -n -O qcow2 -t bogus r.raw q", {"q"});
    prepare("qemu-img check q");
}

TEST_F(targets, a_target_that_somebody_holds_stays_as_it_was) {
    prepare("head -c 1M /dev/urandom > r.raw && qemu-img create -q -f qcow2 q 1M");
    const gaur::test::qemu_io holder("-f qcow2 " + file("q"));
    ASSERT_TRUE(holder.is_open());
    expect_refused("create -f qcow2 q 5M", {"q"});
    expect_refused("create -f raw q 5M", {"q"});
    expect_refused("convert -O qcow2 r.raw q", {"q"});
    expect_refused("convert -O raw r.raw q", {"q"});
}

TEST_F(targets, a_command_that_fails_half_way_leaves_no_target_that_looks_whole) {
    // The shell limits file sizes: a write past 2 MiB fails.
    prepare("head -c 4M /dev/urandom > r.raw && echo old > there.raw && cp there.raw there.q");
    for (const std::string format : {"raw", "qcow2"}) {
        SCOPED_TRACE(format);
        const auto limited = [&](const std::string& target) {
            return shell("ulimit -f 2048; " + program() + " convert -S 0 -O " + format +
                         " r.raw " + target);
        };
        said s = limited("new");
        EXPECT_EQ(s.exit_code, 1) << s;
        EXPECT_FALSE(std::filesystem::exists(file("new"))) << s;
        EXPECT_NE(s.text.find("'new' was removed"), s.text.npos) << s;
        prepare("ln -s behind linked");
        s = limited("linked");
        EXPECT_EQ(s.exit_code, 1) << s;
        EXPECT_FALSE(std::filesystem::exists(file("behind"))) << s;
        prepare("rm linked");
        const std::string there = "there." + format.substr(0, format == "raw" ? 3 : 1);
        s = limited(there);
        EXPECT_EQ(s.exit_code, 1) << s;
        EXPECT_NE(shell(program() + " info -f qcow2 " + there).exit_code, 0);
    }
}

TEST_F(targets, no_space_for_an_image_leaves_the_file_that_was_there) {
    prepare("mkdir full");
    if (shell("mount -t tmpfs -o size=2M none full").exit_code != 0) {
        GTEST_SKIP() << "no file system can be mounted here";
    }
    prepare("head -c 100000 /dev/urandom > full/t");
    const bytes before = content("full/t");
    const said s = ours("create -f qcow2 -o cluster_size=512 full/t 100G"); // an L1 table of 25 MB
    EXPECT_TRUE(content("full/t") == before);
    const said fits = ours("create -f qcow2 full/t 1T");
    prepare("umount full");
    EXPECT_EQ(s.exit_code, 1) << s;
    EXPECT_NE(s.text.find("No space left on device"), s.text.npos) << s;
    EXPECT_EQ(s.text.find("is gone"), s.text.npos) << s;
    EXPECT_EQ(fits.exit_code, 0) << fits;
}

TEST_F(targets, cache_modes_are_qemus) {
    prepare("head -c 3M /dev/urandom > r.raw && truncate -s 5M r.raw");
    for (const std::string mode :
         {"none", "off", "directsync", "writeback", "writethrough", "unsafe"}) {
        for (const std::string format : {"raw", "qcow2"}) {
            SCOPED_TRACE(mode + ' ' + format);
            const said s =
                ours("convert -t " + mode + " -T " + mode + " -O " + format + " r.raw x");
            EXPECT_EQ(s.exit_code, 0) << s;
            prepare("qemu-img compare -f raw -F " + format + " r.raw x");
            EXPECT_EQ(ours("compare -T " + mode + " -f raw -F " + format + " r.raw x").exit_code,
                      0);
            EXPECT_EQ(ours("bench -t " + mode + " -f " + format + " -c 50 x").exit_code, 0);
            EXPECT_EQ(ours("bench -w -t " + mode + " -f " + format + " -c 50 x").exit_code, 0);
        }
        EXPECT_EQ(ours("check -T " + mode + " x").exit_code, 0);
    }
}

/// Number of flushes that reach the host.
TEST_F(targets, cache_modes_flush_as_they_say) {
    if (gaur::test::run("strace -V") != 0) { GTEST_SKIP() << "strace is not installed"; }
    prepare("head -c 8M /dev/urandom > r.raw");
    const auto flushes = [&](const std::string& arguments) {
        // The message of a failing command is no number.
        const said s =
            shell("ASAN_OPTIONS=detect_leaks=0 strace -f -o log -e trace=fdatasync,fsync " +
                  program() + ' ' + arguments +
                  " --backend sync >out 2>&1 || cat out; grep -c sync log");
        return std::stoi(s.text);
    };
    for (const std::string format : {"raw", "qcow2"}) {
        SCOPED_TRACE(format);
        // Creating the image flushes, in any mode.
        const int made = flushes("create -q -f " + format + " x 8M");
        const std::string convert = "convert -O " + format + " r.raw x ";
        EXPECT_EQ(flushes(convert), made) << "the default is unsafe, as qemu-img's";
        EXPECT_EQ(flushes(convert + "-t unsafe"), made);
        const int at_the_end = flushes(convert + "-t writeback");
        EXPECT_GT(at_the_end, made);
        EXPECT_EQ(flushes(convert + "-t none"), at_the_end);
        EXPECT_GE(flushes(convert + "-m 1 -t writethrough"), made + 4) << "one each 2 MiB";
        EXPECT_GE(flushes(convert + "-m 1 -t directsync"), made + 4);

        const std::string bench = "bench -w -d 1 -c 20 -f " + format + " x ";
        EXPECT_LE(flushes(bench), 4);
        EXPECT_EQ(flushes(bench + "-t unsafe --flush-interval 5"), 0);
        EXPECT_GE(flushes(bench + "-t writethrough"), 20);
    }
}

} // namespace
