// SPDX-License-Identifier: BSL-1.0
// The program gaur-img against qemu-img: the same command lines, images and messages.
#include "support/gaur_img.hpp"
#include "support/qemu_img.hpp"
#include "support/qemu_io.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <string>
#include <sys/stat.h>
#include <sys/wait.h>
#include <vector>

namespace {

using gaur::test::gaur_img;
using gaur::test::last_line;
using gaur::test::said;
using gaur::test::sorted;

TEST_F(gaur_img, creates_what_qemu_img_creates) {
    prepare("truncate -s 5M base.raw");
    for (const std::string options : {
             "-f raw x 3M", "-f qcow2 x 1G", "-f qcow2 -o cluster_size=512 x 10M",
             "-f qcow2 -o cluster_size=2M,refcount_bits=1,lazy_refcounts=on x 1T",
             "-f qcow2 -o compat=0.10 x 12345", "-f qcow2 -b base.raw -F raw x",
             "-f qcow2 -o backing_file=base.raw,backing_fmt=raw x 9M",
             "-f qcow2 -u -b nowhere -F qcow2 x 1.5k", "-q -f qcow2 -o size=64k x"}) {
        SCOPED_TRACE(options);
        const said a = ours("create " + options);
        const said info = shell("qemu-img info -U x | grep -v 'disk size'");
        if (options.find("qcow2") != std::string::npos && options.find("nowhere") == options.npos) {
            EXPECT_EQ(qemu("check x").exit_code, 0);
        }
        prepare("rm x");
        EXPECT_EQ(a, qemu("create " + options));
        EXPECT_EQ(info, shell("qemu-img info -U x | grep -v 'disk size'"));
        prepare("rm x");
    }
}

TEST_F(gaur_img, refuses_what_qemu_img_refuses) {
    prepare("truncate -s 1M a.raw && qemu-img create -q -f qcow2 a.qcow2 1M");
    for (const std::string arguments : {
             "create -f qcow2 x", "create -f zork x 1M", "create -f qcow2 -o foo=1 x 1M",
             "create -f qcow2 -o cluster_size=100 x 1M", "create -f qcow2 -o refcount_bits=5 x 1M",
             "create -f qcow2 -o compat=5 x 1M", "create -f qcow2 -o lazy_refcounts=5 x 1M",
             "create -f qcow2 -o compat=0.10,refcount_bits=8 x 1M",
             "create -f qcow2 -F raw x 1M", "create -f raw -b a.raw -F raw x 1M",
             "create -f qcow2 nowhere/x 1M", "check a.raw", "info -f zork a.raw",
             "convert -S 3 a.raw x", "convert -n -O raw a.qcow2 /dev/null"}) {
        SCOPED_TRACE(arguments);
        const said a = ours(arguments);
        const said b = qemu(arguments);
        EXPECT_EQ(a.exit_code, b.exit_code) << a.text << b.text;
        EXPECT_EQ(last_line(a.text), last_line(b.text));
        EXPECT_FALSE(std::filesystem::exists("x"));
    }
    // Cases in which the messages are gaur's own.
    for (const std::string arguments :
         {"info nowhere", "check nowhere", "map nowhere", "bench nowhere", "compare nowhere a.raw",
          "convert nowhere x", "info -f qcow2 a.raw", "zork"}) {
        SCOPED_TRACE(arguments);
        EXPECT_EQ(ours(arguments).exit_code, qemu(arguments).exit_code) << ours(arguments).text;
    }
}

TEST_F(gaur_img, converts_there_and_back_over_every_backend) {
    make_raw("a.raw");
    for (const std::string backend : {"sync", "posix_aio", "threads", "uring"}) {
        SCOPED_TRACE(backend);
        const std::string with = "convert --backend " + backend;
        const said there = ours(with + " -f raw -O qcow2 a.raw b.qcow2");
        if (backend == "uring" && there.exit_code == 1 &&
            there.text.find("Could not start the backend") != std::string::npos) {
            GTEST_SKIP() << there.text;
        }
        ASSERT_EQ(there, (said{0, ""}));
        EXPECT_EQ(qemu("check -q b.qcow2"), (said{0, ""}));
        EXPECT_EQ(qemu("compare -q a.raw b.qcow2"), (said{0, ""}));
        ASSERT_EQ(ours(with + " -p -f qcow2 -O raw -t none b.qcow2 c.raw").exit_code, 0);
        EXPECT_EQ(shell("cmp a.raw c.raw"), (said{0, ""}));
        // Holes stay holes, and zeroes become holes.
        EXPECT_LE(disk_bytes("b.qcow2"), 3333333 + 98304 + 7 * 65536U);
        EXPECT_LE(disk_bytes("c.raw"), 3333333 + 98304 + 7 * 65536U);
    }
}

TEST_F(gaur_img, converts_in_every_way) {
    make_raw("a.raw");
    for (const std::string options :
         {"-O qcow2 -m 1 -W", "-O qcow2 -o cluster_size=512,refcount_bits=1",
          "-O qcow2 -o cluster_size=2M -S 0", "-O raw -S 64k", "-O qcow2 -o compat=v2 -T none"}) {
        SCOPED_TRACE(options);
        prepare("rm -f x");
        ASSERT_EQ(ours("convert " + options + " a.raw x"), (said{0, ""}));
        EXPECT_EQ(qemu("compare -q -f raw a.raw x"), (said{0, ""}));
        if (options.starts_with("-O qcow2")) { EXPECT_EQ(qemu("check -q x"), (said{0, ""})); }
    }
    // -S 0 allocates everything.
    ASSERT_EQ(ours("convert -O raw -S 0 a.raw x"), (said{0, ""}));
    EXPECT_GE(disk_bytes("x"), 40U << 20);

    // Into an existing image with other content.
    prepare("qemu-img create -q -f qcow2 y 64M && qemu-io -c 'write -P 9 0 50M' y");
    ASSERT_EQ(ours("convert -n -O qcow2 a.raw y"), (said{0, ""}));
    EXPECT_EQ(qemu("compare -q -f raw a.raw y").exit_code, 1) << "y was 9 beyond the end of a.raw";
    prepare("cat a.raw > z.raw; truncate -s 64M z.raw");
    EXPECT_EQ(shell("qemu-img dd -f qcow2 -O raw bs=65536 count=657 if=y of=y.raw && "
                    "cmp -n 43057152 y.raw a.raw"), (said{0, ""}));
}

TEST_F(gaur_img, converts_onto_a_backing_file) {
    make_raw("base.raw");
    prepare("qemu-img create -q -f qcow2 -b base.raw -F raw top.qcow2 && "
            "qemu-io -c 'write -P 1 100k 10k' -c 'write -z 1M 1M' top.qcow2 && "
            "cp base.raw copy.raw");
    ASSERT_EQ(ours("convert -O qcow2 -B copy.raw -F raw top.qcow2 x.qcow2"), (said{0, ""}));
    EXPECT_EQ(qemu("check -q x.qcow2"), (said{0, ""}));
    EXPECT_EQ(qemu("compare -q top.qcow2 x.qcow2"), (said{0, ""}));
    EXPECT_LT(disk_bytes("x.qcow2"), 2U << 20) << "more was copied than the overlay holds";
    // Flattened.
    ASSERT_EQ(ours("convert -O qcow2 top.qcow2 flat.qcow2"), (said{0, ""}));
    EXPECT_EQ(qemu("compare -q top.qcow2 flat.qcow2"), (said{0, ""}));
    EXPECT_EQ(ours("convert --no-references -O raw top.qcow2 y").exit_code, 1);
}

TEST_F(gaur_img, maps_compares_and_describes_as_qemu_img_does) {
    make_raw("a.raw");
    prepare("qemu-img create -q -f qcow2 new.qcow2 100M && "
            "qemu-img create -q -f qcow2 -o compat=0.10 old.qcow2 100M && "
            "qemu-img convert -O qcow2 a.raw full.qcow2 && cp full.qcow2 holes.qcow2 && "
            "qemu-io -c 'write -P 3 1M 100k' -c 'write -z 2M 1M' -c 'discard 0 256k' "
            "holes.qcow2 && "
            "qemu-img convert -c -O qcow2 a.raw packed.qcow2 && "
            "qemu-img create -q -f qcow2 snap.qcow2 10M && qemu-io -c 'write 0 3M' snap.qcow2 && "
            "qemu-img snapshot -c first snap.qcow2 && qemu-io -c 'write 0 1M' snap.qcow2 && "
            "qemu-img snapshot -c second snap.qcow2 && mkdir sub && "
            "qemu-img create -q -f qcow2 -b ../holes.qcow2 -F qcow2 sub/mid.qcow2 60M && "
            "qemu-io -c 'write -P 5 50M 3M' -c 'write -P 6 70k 1k' sub/mid.qcow2 && "
            "qemu-img create -q -f qcow2 bitmap.qcow2 10M && "
            "qemu-img bitmap --add bitmap.qcow2 b0 && qemu-img bitmap --add -g 4k "
            "bitmap.qcow2 b1 && "
            "qemu-img create -q -f qcow2 -o cluster_size=4k -b sub/mid.qcow2 -F qcow2 top.qcow2 "
            "80M && "
            "qemu-io -c 'write -z 3M 3M' -c 'write -P 6 1k 1k' top.qcow2 && : > empty.raw");
    const std::vector<std::string> images{"a.raw", "new.qcow2", "old.qcow2", "full.qcow2",
                                          "holes.qcow2", "packed.qcow2", "snap.qcow2",
                                          "sub/mid.qcow2", "top.qcow2", "bitmap.qcow2",
                                          "empty.raw"};
    for (const std::string& image : images) {
        SCOPED_TRACE(image);
        EXPECT_EQ(ours("map --output=json " + image), qemu("map --output=json " + image));
        EXPECT_EQ(ours("map " + image).exit_code, qemu("map " + image).exit_code);
        if (image != "empty.raw") {
            EXPECT_EQ(ours("map -s 1M -l 7M --output=json " + image),
                      qemu("map -s 1M -l 7M --output=json " + image));
        }
        EXPECT_EQ(ours("info --backing-chain " + image), qemu("info --backing-chain " + image));
        EXPECT_EQ(sorted(ours("info --output=json " + image)),
                  sorted(qemu("info --output=json " + image)));
        EXPECT_EQ(sorted(ours("info --backing-chain --output=json " + image)),
                  sorted(qemu("info --backing-chain --output=json " + image)));
        for (const std::string other : {"a.raw", "new.qcow2", "top.qcow2"}) {
            const std::string both = image + " " + other;
            EXPECT_EQ(ours("compare " + both), qemu("compare " + both)) << both;
        }
    }
    EXPECT_EQ(ours("compare -q full.qcow2 new.qcow2"), (said{1, ""}));
    EXPECT_EQ(ours("compare -s full.qcow2 new.qcow2"), qemu("compare -s full.qcow2 new.qcow2"));
    EXPECT_EQ(ours("compare -s full.qcow2 holes.qcow2"), qemu("compare -s full.qcow2 holes.qcow2"));
    EXPECT_EQ(ours("compare a.raw nowhere").exit_code, 2);
    EXPECT_EQ(ours("map --no-references top.qcow2").exit_code, 1);
}

TEST_F(gaur_img, checks_as_qemu_img_does) {
    // With 64 KiB clusters the refcounts, two bytes each, begin at the third cluster: the 10th to
    // 26th are those of the data.
    prepare("qemu-img create -q -f qcow2 clean 10M && qemu-io -c 'write 0 1M' clean && "
            "cp clean lost && cp clean leak && qemu-img convert -c -O qcow2 clean packed");
    prepare("printf '\\0\\0' | dd of=lost bs=1 seek=$((131072+20)) conv=notrunc status=none");
    // One cluster has a refcount but no reference.
    prepare("truncate -s 2M leak && "
            "printf '\\0\\1' | dd of=leak bs=1 seek=$((131072+60)) conv=notrunc status=none");
    const std::vector<std::pair<std::string, int>> images{
        {"clean", 0}, {"packed", 0}, {"lost", 2}, {"leak", 3}};
    for (const auto& [image, code] : images) {
        SCOPED_TRACE(image);
        const said a = ours("check " + image);
        EXPECT_EQ(a.exit_code, code) << a.text;
        // The order of findings differs.
        EXPECT_EQ(sorted(a), sorted(qemu("check " + image)));
        EXPECT_EQ(sorted(ours("check --output=json " + image + " 2>&-")),
                  sorted(qemu("check --output=json " + image + " 2>&-")));
        EXPECT_EQ(ours("check -q " + image + " 2>&-"), qemu("check -q " + image + " 2>&-"));
    }
}

TEST_F(gaur_img, repairs_as_qemu_img_does) {
    // As above. In addition, the refcount block of the second image is missing, and a cluster of
    // the third lies past the end.
    prepare("qemu-img create -q -f qcow2 clean 10M && qemu-io -c 'write 0 1M' clean && "
            "cp clean lost && cp clean gone && cp clean past && cp clean leak");
    prepare("printf '\\0\\0' | dd of=lost bs=1 seek=$((131072+20)) conv=notrunc status=none");
    prepare("printf '\\0\\0\\0' | dd of=gone bs=1 seek=$((65536+5)) conv=notrunc status=none");
    prepare("printf '\\200\\0\\100' | dd of=past bs=1 seek=$((262144)) conv=notrunc status=none");
    prepare("truncate -s 2M leak && "
            "printf '\\0\\1' | dd of=leak bs=1 seek=$((131072+60)) conv=notrunc status=none");
    // New tables may lie at another place.
    const auto figures = [&](const said& all) {
        said kept{all.exit_code, {}};
        std::istringstream from(sorted(all).text);
        for (std::string line; std::getline(from, line);) {
            if (line.find("nd offset") == std::string::npos &&
                line.find("end-offset") == std::string::npos) {
                kept.text += line + '\n';
            }
        }
        return kept;
    };
    for (const std::string image : {"clean", "lost", "gone", "leak"}) {
        for (const std::string how : {"-r all ", "-r all --output=json ", "-r all -q "}) {
            SCOPED_TRACE(how + image);
            prepare("cp " + image + " x && cp " + image + " y");
            const said a = ours("check " + how + "x 2>&-");
            const said b = shell("mv y z && mv x y && mv z x && qemu-img check " + how + "x 2>&-");
            EXPECT_EQ(a.exit_code, 0);
            EXPECT_EQ(figures(a), figures(b));
            EXPECT_EQ(qemu("check -q x").exit_code, 0);
            EXPECT_EQ(qemu("check -q y").exit_code, 0);
            EXPECT_EQ(qemu("compare -q x y").exit_code, 0);
        }
    }
    // Leaks only: equal to the last line.
    prepare("cp leak x");
    const said leaks = ours("check -r leaks x 2>&-");
    prepare("cp leak x");
    EXPECT_EQ(leaks, qemu("check -r leaks x 2>&-"));
    // With a line for the repair, and one for the second check.
    prepare("cp lost x");
    const said shown = ours("check -p -r all x 2>&-");
    EXPECT_EQ(shown.exit_code, 0);
    const std::size_t first = shown.text.find("(100.00/100%)\r\n");
    EXPECT_NE(first, std::string::npos) << shown.text;
    EXPECT_NE(shown.text.find("(100.00/100%)\r\n", first + 1), std::string::npos) << shown.text;
    // An image that cannot be repaired is not changed.
    prepare("cp past x");
    const said refused = ours("check -r all x");
    EXPECT_EQ(refused.exit_code, 2);
    EXPECT_EQ(refused.exit_code, qemu("check -q -r all past").exit_code);
    EXPECT_NE(refused.text.find("What no repair can mend:\nERROR"), std::string::npos)
        << refused.text;
    EXPECT_EQ(ours("check -r some x"), (said{1, "gaur-img: Unknown option value for -r (expecting "
                                                "'leaks' or 'all'): some\n"}));
    EXPECT_EQ(ours("check -U -r all x").exit_code, qemu("check -U -r all x").exit_code);
    EXPECT_EQ(ours("check -q --output=json clean"), (said{0, ""}));
}

TEST_F(gaur_img, benches_as_qemu_img_does) {
    prepare("qemu-img create -q -f qcow2 a 1M && qemu-img create -q -f qcow2 b 1M && "
            "truncate -s 1M r");
    const std::string how =
        "bench -w -c 100 -d 7 -s 3k -S 5k -o 60k --pattern 77 --flush-interval 10 ";
    for (const std::string backend : {"sync", "posix_aio", "threads"}) {
        SCOPED_TRACE(backend);
        prepare("qemu-img create -q -f qcow2 a 1M");
        const said wrote = ours(how + "-f qcow2 -i " + backend + " a");
        const said theirs = qemu(how + "-f qcow2 b");
        ASSERT_EQ(wrote.exit_code, 0) << wrote.text;
        const std::string begin = theirs.text.substr(0, theirs.text.find("Run completed"));
        EXPECT_TRUE(wrote.text.starts_with(begin)) << wrote.text;
        EXPECT_TRUE(last_line(wrote.text).starts_with("Run completed in ")) << wrote.text;
        EXPECT_TRUE(last_line(wrote.text).ends_with(" seconds.")) << wrote.text;
        // The same requests, wrapped around the end in the same way.
        EXPECT_EQ(qemu("compare a b"), (said{0, "Images are identical.\n"}));
        EXPECT_EQ(qemu("check -q a"), (said{0, ""}));
        EXPECT_EQ(ours("bench -c 50 -t none -f qcow2 -i " + backend + " a").exit_code, 0);
        EXPECT_EQ(ours("bench -w -c 50 -t none -f raw -i " + backend + " r").exit_code, 0);
    }
    EXPECT_EQ(ours("bench -f qcow2 -o 2M a").exit_code, qemu("bench -f qcow2 -o 2M a").exit_code);
}

/// A writer must be told that persistent bitmaps may be invalidated. A repair keeps them.
TEST_F(gaur_img, refuses_to_spoil_bitmaps) {
    prepare("qemu-img create -q -f qcow2 b.qcow2 4M && qemu-img bitmap --add b.qcow2 one && "
            "truncate -s 1M zeroes");
    const std::string convert = "convert -n -f raw -O qcow2 zeroes b.qcow2";
    for (const std::string& command : {std::string("bench -w -c 10 b.qcow2"), convert}) {
        const said s = ours(command);
        EXPECT_EQ(s.exit_code, 1) << s;
        EXPECT_NE(s.text.find("--invalidate-bitmaps"), std::string::npos) << s;
    }
    EXPECT_EQ(ours("check -r all b.qcow2").exit_code, 0);
    EXPECT_EQ(shell("qemu-img info b.qcow2 2>&1 | grep -c 'name: one'").text, "1\n");
    EXPECT_EQ(ours("bench -w -q -c 10 --invalidate-bitmaps b.qcow2").exit_code, 0);
    EXPECT_EQ(shell("qemu-img info b.qcow2 2>&1 | grep -c 'name: one'").text, "0\n");
    EXPECT_EQ(ours(convert).exit_code, 0) << "there is none any more";
}

TEST_F(gaur_img, names_the_file_of_the_chain_that_fails) {
    prepare("qemu-img create -q -f qcow2 -u -b gone -F qcow2 middle 1M && "
            "qemu-img create -q -f qcow2 -u -b middle -F qcow2 top 1M && "
            "qemu-img create -q -f qcow2 -u -b \"$(printf 'to\033x')\" -F qcow2 odd 1M");
    EXPECT_EQ(ours("map middle"), qemu("map middle"));
    const std::string why = ours("convert top x").text;
    EXPECT_NE(why.find("'top': Could not open backing file: Could not open 'gone': No such"),
              why.npos) << why;
    EXPECT_NE(ours("map odd").text.find("'to?x'"), why.npos) << "nothing raw out of an image";
    EXPECT_NE(ours("map --no-references middle").text.find("'gone': the image names"), why.npos);
}

/// An image that another process writes to is read only with force-share, by the commands for which
/// qemu-img has that option.
TEST_F(gaur_img, shares_as_qemu_img_does) {
    prepare("qemu-img create -q -f qcow2 a 1M && qemu-io -f qcow2 -c 'write -P 7 0 100k' a && "
            "qemu-img create -q -f qcow2 -b a -F qcow2 top");
    gaur::test::qemu_io writer("-f qcow2 " + file("a"));
    ASSERT_TRUE(writer.is_open()) << writer.said();
    for (const std::string command :
         {"info", "check", "map", "compare top", "convert -O raw", "bench -c 3"}) {
        SCOPED_TRACE(command);
        const std::string target = command.starts_with("convert") ? " a x" : " a";
        for (const std::string format : {"", " -f qcow2"}) {
            const said refused = ours(command + format + target);
            EXPECT_EQ(refused.exit_code, qemu(command + format + target).exit_code);
            EXPECT_NE(refused.text.find("holds it for writing"), refused.text.npos) << refused;
            EXPECT_EQ(ours(command + " -U" + format + target).exit_code, 0);
            EXPECT_EQ(ours(command + " --force-share" + format + target).exit_code, 0);
        }
        if (command == "info" || command == "map" || command.starts_with("compare")) {
            EXPECT_EQ(ours(command + " -U a"), qemu(command + " -U a"));
        }
    }
    for (const std::string command :
         {"create -q -f qcow2 a 1M", "bench -w -c 3 -U -f qcow2 a", "convert -U -O qcow2 a a"}) {
        EXPECT_EQ(ours(command).exit_code, 1) << command;
        EXPECT_EQ(qemu(command).exit_code, 1) << command;
    }
    const std::string over = "create -q -f qcow2 -b a -F qcow2 x"; // only its size is read
    EXPECT_EQ(ours(over), (said{0, ""}));
    EXPECT_EQ(qemu(over), (said{0, ""}));
    EXPECT_NE(writer.ask("read -P 7 0 100k").find("read 102400/102400"), std::string::npos);
    writer.close();
    EXPECT_EQ(ours("map a"), qemu("map a"));
    EXPECT_EQ(ours("check -q a").exit_code, 0);
}

} // namespace
