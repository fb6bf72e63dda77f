// SPDX-License-Identifier: BSL-1.0
// Spellings of sizes, numbers, options and commands, against qemu-img.
#include "support/gaur_img.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace {

using gaur::test::said;

class command_line : public gaur::test::gaur_img {
  protected:
    /// The exit code, and the size of the disk that was made: "" if none was.
    std::string made_by(said outcome) const {
        const said size = shell("[ ! -e x ] || qemu-img info x | sed -n 's/virtual size: //p'; "
                                "rm -f x");
        return std::to_string(outcome.exit_code) + ' ' + size.text;
    }
    /// Runs both tools with the same command line. `x` is the file that they may make.
    void expect_same(const std::string& arguments) const {
        SCOPED_TRACE(arguments);
        const said a = ours(arguments);
        const std::string mine = made_by(a);
        EXPECT_EQ(mine, made_by(qemu(arguments))) << a;
        EXPECT_LT(a.exit_code, 124);
    }
    void expect_says(const std::string& arguments, const std::string& part) const {
        const said s = ours(arguments);
        EXPECT_EQ(s.exit_code, 1) << arguments << '\n' << s;
        EXPECT_NE(s.text.find(part), s.text.npos) << arguments << '\n' << s;
    }
};

TEST_F(command_line, sizes_are_qemus) {
    const std::vector<std::string> sizes{
        "1M",      "0x100000", "0X100000", "+1M",   " 1M",   "010",  "08",    "1.5M", "1.0",
        "1.M",     "1.",       "1b",       "1B",    "1k",    "1K",   "3m",    "1G",   "1t",
        "1.7k",    "0.875k",   "0x1M",     "+0x400", "512",  "0",    "1M ",   "1e3",  ".5M",
        "1.5",     "0.5b",     "1Y",       "1KB",   "1KiB",  "nan",  "inf",   "0x",   "0x1.8",
        "1.5.5M",  "1,5M",     "+-1M",     "++1M",  "+ 1M",  "0x-1", "1MM",   "",     "-",
        "8E",      "9E",       "16E",      "64E",   "99999999999E", "9223372036854775807",
        "9223372036854775808", "18446744073709551615", "18446744073709551616",
        "0x8000000000000000",  "0.0000000001k", "1.0000000000000000000000000001M"};
    for (const std::string& size : sizes) {
        expect_same("create -q -f qcow2 x '" + size + "'");
    }
    expect_same("create -q -f qcow2 -- x -1");
    expect_same("create -q -f qcow2 -- x -1M");
    expect_same("create -q -f raw x 0x200");
    EXPECT_EQ(ours("create -q -f raw x 9223372036854775807").exit_code, 1);
    EXPECT_EQ(ours("create -q -f raw -o size=8E x").exit_code, 1);
    EXPECT_FALSE(std::filesystem::exists(file("x"))) << "what could not be made is gone again";
    expect_says("create -q x 8E", "Must be between 0 and 9223372036854775807.");
    expect_says("create -q x -- -1", "You may use k, M, G, T, P or E suffixes");
}

TEST_F(command_line, option_lists_are_qemus) {
    prepare("truncate -s 1M 'a,b.raw' base.raw");
    const std::vector<std::string> lists{
        "lazy_refcounts=on",    "lazy_refcounts=yes", "lazy_refcounts=true", "lazy_refcounts=y",
        "lazy_refcounts=off",   "lazy_refcounts=no",  "lazy_refcounts=false", "lazy_refcounts=n",
        "lazy_refcounts=ON",    "lazy_refcounts=Yes", "lazy_refcounts=1",    "lazy_refcounts=",
        "lazy_refcounts",       "nolazy_refcounts",   "cluster_size",        "cluster_size=",
        "cluster_size=0x10000", "cluster_size=+64k",  "cluster_size=-4k",    "cluster_size=4k,",
        ",cluster_size=4k",     ",",                  "",                    "=4k",
        "cluster_size=4k,,compat=1.1", "cluster_size=4k,,,compat=1.1", "refcount_bits=0x10",
        "refcount_bits=010",    "refcount_bits=1k",   "refcount_bits=-1",
        "refcount_bits=4294967312",
        "encryption=off",       "encryption=no",      "encryption=on",       "preallocation=off",
        "extended_l2=off",      "extended_l2=no",     "compression_type=zlib", "zork=1", "help=x",
        "backing_file=",        "backing_file=base.raw,backing_fmt=raw", "backing_fmt=raw",
        "cluster_size=1M,cluster_size=4k"};
    for (const std::string& list : lists) {
        expect_same("create -q -f qcow2 -o '" + list + "' x 1M");
    }
    for (const std::string options :
         {"-f qcow2 -o backing_file=a,,b.raw,backing_fmt=raw x", "-f raw -o preallocation=off x 1M",
          "-f raw -o encryption=off x 1M", "-f raw -o size=3M x", "-f raw -o size=16E x",
          "-f qcow2 -o size=1M,size=2M x",
          "-f qcow2 -o size=1M -o size=2M x",
          "-f qcow2 -o cluster_size=4k -o compat=0.10 x 1M", "-f qcow2 -o size=1M x 2M",
          "-f qcow2 -o size=1M -o '' x", "-f qcow2 -b '' x 1M",
          "-f qcow2 -b base.raw -F '' x 1M", "-f qcow2 x 1M 2M", "-f qcow2"}) {
        expect_same("create -q " + std::string(options));
    }
    EXPECT_EQ(ours("create -q -f qcow2 -o backing_file=a,,b.raw,backing_fmt=raw x").exit_code, 0);
    EXPECT_EQ(shell("qemu-img info x | sed -n 's/backing file: //p'").text, "a,b.raw\n");
    const std::string escaped = "create -f qcow2 -o backing_file=a,,b.raw,backing_fmt=raw x";
    EXPECT_EQ(ours(escaped), qemu(escaped));
    expect_says("create -f qcow2 -o cluster_size=4k, x 1M",
                "Invalid option list: cluster_size=4k,");
    expect_says("create -f qcow2 -b base.raw x", "name it with -F");
    expect_says("create -f qcow2 -o lazy_refcounts=1 x 1M",
                "Parameter 'lazy_refcounts' expects 'on' or 'off'");
}

TEST_F(command_line, numbers_of_bench_are_bounded) {
    prepare("qemu-img create -q -f qcow2 s 1M && qemu-img create -q -f qcow2 h 2P && "
            "qemu-img create -q -f qcow2 e 0 && : > e.raw && truncate -s 1M r");
    for (const std::string options :
         {"-c -1", "-c 0", "-c 1k", "-c 0x10", "-c ''", "-c 2147483648", "-c zork", "-c 1.5",
          "-c +5", "-c ' 5'", "-c 99999999999999999999", "-d -1", "-d 2147483648", "-d zork",
          "-d 1 -c 5", "-s -1", "-s 2G", "-s 4G -c 1", "-s zork", "-s 8E", "-s 16E", "-s 513 -c 3",
          "-s 3M -c 1", "-s 0x200 -c 3", "-S -1", "-S 2G -c 2", "-S 4G -c 2", "-S 1M -c 5",
          "-S 2147483647 -c 9", "-s 1k -S 0 -c 2", "-o -1", "-o 1M -c 1", "-o 2M -c 1",
          "-o 1E -c 1", "-o 9223372036854775807 -c 1", "-o 8E -c 1", "-o 1023k -s 512 -c 9 -d 3",
          "--flush-interval 10 -c 10", "-w --flush-interval -1", "-w --flush-interval 10k",
          "-w --flush-interval 10 -d 20 -c 5", "-w --flush-interval 10 -d 7 -c 25",
          "-w --flush-interval 0 -c 1", "--pattern 256 -w -c 1", "--pattern -1 -w -c 1",
          "--pattern 0xff -w -c 1", "-t zork -c 1", "-i zork -c 1"}) {
        SCOPED_TRACE(options);
        const std::string arguments = "bench -f qcow2 " + std::string(options) + " s";
        const said a = ours(arguments);
        const said b = qemu(arguments);
        EXPECT_EQ(a.exit_code, b.exit_code) << a << b;
    }
    // Cases in which qemu-img does not end or dies by a signal.
    for (const std::string arguments :
         {"-d 0 s", "-s 1P -d 16384 -c 1 h", "-s 2147483647 h", "-s 64M -d 64 h", "-s 0 -c 1 s",
          "-d 2147483647 s", "-c 1 e", "-c 1 -w e", "-c 1 -f raw e.raw", "-S 5k -c 3 e.raw"}) {
        const said s = ours("bench " + std::string(arguments));
        EXPECT_EQ(s.exit_code, 1) << arguments << '\n' << s;
        EXPECT_TRUE(s.text.starts_with("gaur-img: ")) << s;
    }
    EXPECT_EQ(ours("bench -c 0 e").exit_code, 0);
    EXPECT_EQ(ours("bench -s 1M -d 65536 -c 1 s").exit_code, 0) << "memory for one request only";
    expect_says("bench -s 64M -d 64 h", "take 4294967296 bytes of memory; at most 1073741824");
    expect_says("bench -c 1 e", "'e' is an empty disk");
}

TEST_F(command_line, numbers_of_other_commands_are_bounded) {
    prepare("qemu-img create -q -f qcow2 s 1M && qemu-io -f qcow2 -c 'write 0 10k' s && "
            "head -c 1M /dev/urandom > r");
    for (const std::string options :
         {"-s -1", "-s 8E", "-s 1k", "-s 1M", "-s 2M", "-s 9223372036854775807", "-s zork", "-l 0",
          "-l -1", "-l 8E", "-l 9223372036854775807", "-s 512k -l 9223372036854775807", "-l ''",
          "-s 1000 -l 1000", "-s 9223372036854775807 -l 9223372036854775807"}) {
        SCOPED_TRACE(options);
        const std::string arguments = "map -f qcow2 " + std::string(options) + " s";
        const said b = qemu(arguments);
        EXPECT_EQ(ours(arguments).exit_code, b.exit_code);
        if (b.exit_code == 0) { EXPECT_EQ(ours(arguments), b); }
    }
    for (const std::string options :
         {"-m 0", "-m -1", "-m 65", "-m 0x8", "-m 8k", "-m ''", "-m 18446744073709551617", "-S -1",
          "-S 1", "-S 512", "-S 16M", "-S 17M", "-S 8E", "-S zork", "-S 0x1000", "-S ''"}) {
        expect_same("convert -O raw " + std::string(options) + " r x");
    }
}

TEST_F(command_line, contradictions_are_refused) {
    prepare("truncate -s 1M r base.raw && qemu-img create -q -f qcow2 q 1M");
    for (const std::string arguments :
         {"--target-is-zero r x", "-n --target-is-zero -O qcow2 r q", "-n -O qcow2 r q",
          "-n -O qcow2 -o cluster_size=4k r q", "-O qcow2 -o '' r x", "-O qcow2 -B base.raw r x",
          "-O raw -B base.raw -F raw r x", "-O zork r x", "-f zork r x", "r", ""}) {
        expect_same("convert " + std::string(arguments));
    }
    expect_says("convert --target-is-zero r x", "requires use of -n");
    expect_says("convert -n -O qcow2 -o cluster_size=4k r q", "-o has no effect");
    expect_says("create -f qcow2 -o size=1M x 2M", "The image size must be specified only once");
    expect_says("create -f qcow2 -b '' x 1M", "got empty string");
}

TEST_F(command_line, errors_of_compare_are_no_difference) {
    prepare("truncate -s 1M r && printf x > s && truncate -s 1M s");
    for (const std::string arguments :
         {"r r", "r s", "-T bogus r r", "-f zork r r", "-F zork r r", "-f qcow2 r r", "nowhere r",
          "r nowhere", "--zork r r", "r", "r r r"}) {
        SCOPED_TRACE(arguments);
        EXPECT_EQ(ours("compare " + std::string(arguments)).exit_code,
                  qemu("compare " + std::string(arguments)).exit_code);
    }
    EXPECT_EQ(ours("compare --backend zork r r").exit_code, 1) << "of the command line";
    EXPECT_EQ(ours("compare --max-depth 0 r r").exit_code, 2);
}

TEST_F(command_line, help_and_version_are_answers) {
    for (const std::string arguments :
         {"--version", "-V", "--help", "-h", "create --help", "create -f qcow2 -o help",
          "create -f qcow2 -o '?' x", "create -f qcow2 -o cluster_size=4k,help x 1M",
          "create -f raw -o help", "convert -O qcow2 -o help r x", "create -f zork -o help", "zork",
          "", "--zork", "create --zork x", "create", "info", "info a b", "map", "check", "bench",
          "create -f qcow2 -o help=x x 1M", "create --version"}) {
        SCOPED_TRACE(arguments);
        EXPECT_EQ(ours(arguments).exit_code, qemu(arguments).exit_code) << ours(arguments);
    }
    EXPECT_FALSE(std::filesystem::exists(file("x")));
    EXPECT_TRUE(ours("--version").text.starts_with("gaur-img "));
    EXPECT_EQ(ours("-V"), ours("--version"));
    expect_says("zork", "Command not found: zork");
    const said help = ours("create -f qcow2 -o help");
    for (const std::string option : {"backing_file", "backing_fmt", "cluster_size", "compat",
                                     "lazy_refcounts", "refcount_bits", "size"}) {
        EXPECT_NE(help.text.find("\n  " + option + "=<"), help.text.npos) << help;
    }
    EXPECT_EQ(ours("create -f raw -o help").text.find("cluster_size"), std::string::npos);
}

TEST_F(command_line, chains_are_as_deep_as_is_asked) {
    prepare("qemu-img create -q -f qcow2 0 1M && qemu-io -f qcow2 -c 'write -P 7 0 64k' 0 && "
            "cp 0 first && i=1; while [ $i -lt 70 ]; do "
            "qemu-img create -q -u -f qcow2 -b $((i-1)) -F qcow2 $i 1M || exit 1; "
            "i=$((i+1)); done");
    expect_says("map 69", "--max-depth");
    expect_says("map --max-depth 0 69", "Invalid depth of the chain");
    expect_says("map --max-depth -1 69", "Invalid depth of the chain");
    expect_says("map --max-depth 69 69", "found 69");
    expect_says("info --backing-chain 69", "--max-depth");
    EXPECT_EQ(ours("map --max-depth 70 69"), qemu("map 69"));
    EXPECT_EQ(ours("map 63"), qemu("map 63"));
    EXPECT_EQ(ours("info --max-depth 70 --backing-chain 69"), qemu("info --backing-chain 69"));
    EXPECT_EQ(ours("compare --max-depth 100 69 first").exit_code, 0);
    EXPECT_EQ(ours("convert --max-depth 100 -O raw 69 x").exit_code, 0);
    EXPECT_EQ(ours("bench --max-depth 100 -c 9 69").exit_code, 0);
    EXPECT_EQ(ours("create -q --max-depth 100 -f qcow2 -b 69 -F qcow2 70").exit_code, 0);
}

} // namespace
