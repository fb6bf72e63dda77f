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
    /// Both tools, on the same command line; `x` is what it may make.
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
    expect_says("create -f qcow2 -o cluster_size=4k, x 1M",
                "Invalid option list: cluster_size=4k,");
    expect_says("create -f qcow2 -b base.raw x", "name it with -F");
    expect_says("create -f qcow2 -o lazy_refcounts=1 x 1M",
                "Parameter 'lazy_refcounts' expects 'on' or 'off'");
}

} // namespace
