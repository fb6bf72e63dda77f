// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/reference_policy.hpp>

#include "support/qemu_img.hpp"

#include <gaur/async/sync_wait.hpp>
#include <gaur/exec/inline.hpp>
#include <gaur/io/sync.hpp>
#include <gaur/qcow2/create.hpp>
#include <gaur/qcow2/image.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <filesystem>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace gaur::test {
namespace {

namespace fs = std::filesystem;
using qcow2::reference_policy;
using qcow2::reference;
using qcow2::references;

reference named(const std::string& path) { return {"dir/image", "name", path, "raw"}; }
std::string text(error why) { return why.message(); }
const std::string refused = text(errc::reference_refused);

/// Why a file is not admitted; empty if it is.
std::string verdict(const reference_policy& by, const std::string& path) {
    const auto admitted = by.admit(named(path));
    return admitted ? "" : admitted.error().message();
}

TEST(reference_policy, is_shut_unless_somebody_opens_it) {
    EXPECT_EQ(verdict(reference_policy(), "a"), refused);
    EXPECT_EQ(verdict(references::refuse, "a"), refused);
    EXPECT_EQ(verdict(references::ignore, "a"), refused);
    EXPECT_FALSE(reference_policy().ignores() || reference_policy(references::follow).ignores());
    EXPECT_TRUE(reference_policy(references::ignore).ignores());
    const auto followed = reference_policy(references::follow).admit(named("a/../b"));
    ASSERT_TRUE(followed);
    EXPECT_EQ(followed->path, "a/../b");
    EXPECT_EQ(followed->opens, "a/../b");
}

TEST(reference_policy, takes_no_name_that_hides_its_end) {
    const std::string path("a\0.raw", 6);
    EXPECT_EQ(verdict(references::follow, path), refused);
    EXPECT_EQ(verdict(reference_policy::asking([](const reference&) { return true; }), path),
              refused);
}

TEST(reference_policy, takes_no_protocol_for_a_path) {
    for (const reference_policy& by :
         {reference_policy(references::follow), reference_policy::within("/"),
          reference_policy::listed({"nbd://h/x"}),
          reference_policy::asking([](const reference&) { return true; })}) {
        const auto admitted = by.admit({"dir/image", "nbd://h/x", "nbd://h/x", "raw"});
        ASSERT_FALSE(admitted);
        EXPECT_EQ(text(admitted.error()), text(errc::protocol_not_supported));
    }
    EXPECT_EQ(text(reference_policy().admit({"dir/image", "nbd:x", "nbd:x", "raw"}).error()),
              refused);
    EXPECT_TRUE(
        reference_policy(references::follow).admit({"dir/image", "file:a", "dir/a", "raw"}));
}

TEST(reference_policy, opens_what_the_list_names) {
    const reference_policy by = reference_policy::listed({"images/base.raw", "/srv/golden.qcow2"});
    const std::string here = fs::current_path().string();
    for (const std::string path : {"images/base.raw", "./images/base.raw",
                                   "images/../images/base.raw"}) {
        const auto admitted = by.admit(named(path));
        ASSERT_TRUE(admitted) << path;
        EXPECT_EQ(admitted->path, "images/base.raw") << "a link on the way leads nowhere else";
        EXPECT_EQ(admitted->opens, "images/base.raw");
    }
    EXPECT_EQ(verdict(by, here + "/images/base.raw"), "");
    EXPECT_EQ(verdict(by, "/srv/golden.qcow2"), "");
    for (const std::string path : {"base.raw", "images/base.raw2", "images", "/images/base.raw",
                                   "srv/golden.qcow2", "/srv/golden.qcow2/", ""}) {
        EXPECT_EQ(verdict(by, path), refused) << path;
    }
    EXPECT_EQ(verdict(reference_policy::listed({}), "a"), refused);
}

TEST(reference_policy, asks_the_program) {
    std::vector<std::string> asked;
    const reference_policy by = reference_policy::asking([&](const reference& r) {
        asked.push_back(r.image + '|' + r.name + '|' + r.path + '|' + r.format);
        return r.path == "yes";
    });
    const auto admitted = by.admit(named("yes"));
    ASSERT_TRUE(admitted);
    EXPECT_EQ(admitted->opens, "yes");
    EXPECT_EQ(verdict(by, "no"), refused);
    EXPECT_EQ(asked, (std::vector<std::string>{"dir/image|name|yes|raw", "dir/image|name|no|raw"}));
}

/// A folder that names must not leave, and a secret outside.
class within : public ::testing::Test {
  protected:
    void SetUp() override {
        for (const auto* name : {"in/a/b", "in2", "out"}) { fs::create_directories(at(name)); }
        for (const std::string name : {"in/base", "in/a/base", "in2/base", "out/secret"}) {
            write_file(at(name), std::as_bytes(std::span(name)));
        }
    }
    std::string at(const std::string& name) const { return folder.file(name); }
    void link(const std::string& to, const std::string& name) const {
        fs::create_symlink(to, at(name));
    }
    std::string verdict_of(const std::string& path) const {
        return verdict(reference_policy::within(at("in")), at(path));
    }
    scratch_folder folder;
};

TEST_F(within, what_is_below_the_folder) {
    link("a", "in/link");
    link(at("in"), "elsewhere");
    for (const std::string path : {"in/base", "in/a/base", "in/a/../base", "in/a/b/../../base",
                                   "in/./a//base", "in/link/base", "in/link/b/../base",
                                   "in2/../in/base", "elsewhere/base"}) {
        EXPECT_EQ(verdict_of(path), "") << path;
    }
    EXPECT_EQ(verdict(reference_policy::within(at("elsewhere")), at("in/base")), "");
    EXPECT_EQ(verdict(reference_policy::within("/"), at("out/secret")), "");
    // The next name is relative to the real location of the file.
    const auto admitted = reference_policy::within(at("in")).admit(named(at("in/link/base")));
    ASSERT_TRUE(admitted);
    EXPECT_EQ(admitted->path, fs::canonical(at("in/a/base")));
    EXPECT_EQ(read_file(admitted->opens).size(), 9U);
}

TEST_F(within, no_way_out) {
    link(at("out/secret"), "in/absolute");
    link("../../out/secret", "in/a/relative");
    link("../out", "in/folder");
    link("absolute", "in/twice");
    link("/", "in/root");
    for (const std::string path :
         {"out/secret", "in/../out/secret", "in/a/../../out/secret", "in/absolute",
          "in/a/relative", "in/folder/secret", "in/twice", "in2/base"}) {
        EXPECT_EQ(verdict_of(path), refused) << path;
    }
    EXPECT_EQ(verdict_of("in/root" + at("out/secret")), refused);
    EXPECT_EQ(verdict(reference_policy::within(at("in")), "/proc/self/exe"), refused);
    EXPECT_EQ(verdict(reference_policy::within(at("in")), "/proc/self/root" + at("out/secret")),
              refused);
}

TEST_F(within, regular_files_only) {
    ASSERT_EQ(::mkfifo(at("in/fifo").c_str(), 0600), 0);
    link("/dev/zero", "in/device");
    EXPECT_EQ(verdict_of("in/fifo"), refused) << "and does not wait for its writer";
    EXPECT_EQ(verdict_of("in/device"), refused);
    EXPECT_EQ(verdict_of("in/a"), refused);
    EXPECT_EQ(verdict_of("in"), refused);
    EXPECT_EQ(verdict(reference_policy::within("/dev"), "/dev/zero"), refused);
}

TEST_F(within, says_what_the_host_says) {
    link("loop", "in/loop");
    EXPECT_EQ(verdict_of("in/gone"), text(error::from_errno(ENOENT)));
    EXPECT_EQ(verdict_of("in/loop"), text(error::from_errno(ELOOP)));
    EXPECT_EQ(verdict(reference_policy::within(at("gone")), at("in/base")),
              text(error::from_errno(ENOENT)));
    EXPECT_EQ(verdict(reference_policy::within(at("in/base")), at("in/base")),
              text(error::from_errno(ENOTDIR)));
}

/// Between the decision and the open another process replaces the file by a link to the secret.
TEST_F(within, what_was_admitted_cannot_be_exchanged) {
    const auto admitted = reference_policy::within(at("in")).admit(named(at("in/base")));
    ASSERT_TRUE(admitted);
    fs::remove(at("in/base"));
    link(at("out/secret"), "in/base");
    EXPECT_EQ(read_file(at("in/base")).size(), 10U) << "the name leads to the secret";
    EXPECT_EQ(read_file(admitted->opens).size(), 7U) << "the admission does not";
}

TEST_F(within, a_whole_chain) {
    io::sync::backend io;
    exec::inline_loop loop;
    const auto wait = [&](auto task) {
        return async::sync_wait(io, loop.get_executor(), std::move(task));
    };
    const auto make = [&](const std::string& path, const std::string& below) {
        const result<void> r = wait(qcow2::create(
            io, loop.get_executor(), at(path),
            {.size = 4096, .backing_file = below, .backing_format = "qcow2"}));
        EXPECT_TRUE(r);
    };
    std::string failed;
    const auto opens = [&](const std::string& path) {
        const auto r = wait(qcow2::open(io, loop.get_executor(), at(path),
                                        {.write = true,
                                         .references = reference_policy::within(at("in")),
                                         .failed_path = &failed}));
        return r ? "" : r.error().message();
    };
    ASSERT_TRUE(wait(qcow2::create(io, loop.get_executor(), at("in/bottom"), {.size = 4096})));
    make("in/a/middle", "../bottom");
    link("a/middle", "in/link"); // the name in it is relative to a/, not to the folder of the link
    make("out/top", at("in/link"));
    EXPECT_EQ(opens("out/top"), "");
    ASSERT_TRUE(wait(qcow2::create(io, loop.get_executor(), at("out/bottom"), {.size = 4096})));
    make("in/a/middle", "../../out/bottom");
    EXPECT_EQ(opens("out/top"), refused);
    EXPECT_EQ(failed, fs::canonical(at("in/a")).string() + "/../../out/bottom");
}

} // namespace
} // namespace gaur::test
