// SPDX-License-Identifier: BSL-1.0
// Names with protocols: on the command line, in images, and as they are written into images.
#include "support/gaur_img.hpp"

#include <gtest/gtest.h>

#include <string>

namespace {

using gaur::test::said;

class names : public gaur::test::gaur_img {
  protected:
    void SetUp() override {
        gaur_img::SetUp();
        prepare("mkdir s && head -c 1M /dev/urandom > s/base.raw && cp s/base.raw a:b.raw && "
                "cp s/base.raw s/a:b.raw");
    }
    std::string full_name_of(const std::string& image) const {
        return shell(program() + " info --output=json " + image +
                     " | sed -n 's/.*full-backing-filename\": \"\\(.*\\)\",*$/\\1/p'").text;
    }
};

TEST_F(names, with_file_in_front_are_paths) {
    EXPECT_EQ(ours("convert -O qcow2 file:s/base.raw file:x.q"), (said{0, ""}));
    EXPECT_EQ(ours("compare file:x.q file:" + file("s/base.raw")).exit_code, 0);
    EXPECT_EQ(ours("create -q -f qcow2 file:c:d.q 1M"), (said{0, ""}));
    EXPECT_EQ(qemu("info file:c:d.q").exit_code, 0) << "the same name leads to the same file";
    EXPECT_EQ(ours("info --output=json file:s/base.raw"),
              shell(program() + " info --output=json s/base.raw")) << "without it, as QEMU says";
    for (const std::string command : {"map", "check", "bench -c 1"}) {
        EXPECT_EQ(ours(command + " file:x.q").exit_code, 0) << command;
    }
    EXPECT_EQ(ours("info file:").exit_code, qemu("info file:").exit_code);
}

TEST_F(names, with_other_protocols_are_refused_by_them) {
    for (const std::string name :
         {"nbd://h/x", "nbd:h:10809", "nbd+unix:///x?socket=s", "http://h/x", "https://h/x",
          "ssh://h/x", "rbd:pool/x", "iscsi://h/x/1", "fat:s", "zork://h/x",
          "json:{\\\"driver\\\":\\\"raw\\\"}", "json:x"}) {
        const std::string quoted = '"' + name + '"';
        const std::string protocol = "protocol '" + name.substr(0, name.find(':')) + "'";
        for (const std::string command : {"info ", "map ", "check ", "bench -c 1 ",
                                          "convert -O raw s/base.raw ", "create -f qcow2 ",
                                          "create -f qcow2 x 1M -F raw -b "}) {
            SCOPED_TRACE(command + name);
            const said s = ours(command + quoted + (command == "create -f qcow2 " ? " 1M" : ""));
            EXPECT_EQ(s.exit_code, 1);
            EXPECT_NE(s.text.find(protocol), s.text.npos) << s;
        }
        const said compared = ours("compare s/base.raw " + quoted);
        EXPECT_EQ(compared.exit_code, 2);
        EXPECT_NE(compared.text.find(protocol), compared.text.npos) << compared;
    }
    EXPECT_EQ(shell("ls").text, "a:b.raw\ns\n") << "nothing was made";
}

TEST_F(names, in_images_lead_where_they_say) {
    prepare("cd s && qemu-img create -q -f qcow2 -b file:base.raw -F raw f.q && "
            "qemu-img create -q -f qcow2 -b file:a:b.raw -F raw c.q && "
            "qemu-img create -q -u -f qcow2 -b file:" + file("s/base.raw") + " -F raw abs.q 1M");
    for (const std::string image : {"f.q", "c.q", "abs.q"}) {
        EXPECT_EQ(ours("compare s/" + image + " s/base.raw").exit_code, 0) << image;
        EXPECT_EQ(ours("info --backing-chain s/" + image).exit_code, 0) << image;
    }
    EXPECT_EQ(full_name_of("s/f.q"), "s/base.raw\n");
    EXPECT_EQ(full_name_of("s/c.q"), "s/a:b.raw\n");
}

TEST_F(names, in_images_with_other_protocols_are_refused_by_them) {
    const std::string json = "json:{\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":"
                             "\"" + file("s/base.raw") + "\"}}";
    for (const std::string& name : {std::string("nbd://h/x"), std::string("nbd:h:1"), json,
                                    std::string("a:b.raw"), std::string(":x")}) {
        SCOPED_TRACE(name);
        prepare("cd s && qemu-img create -q -u -f qcow2 -b '" + name + "' -F raw n.q 1M");
        for (const std::string command : {"map s/n.q", "convert -O raw s/n.q o",
                                          "info --backing-chain s/n.q"}) {
            const said s = ours(command);
            EXPECT_EQ(s.exit_code, 1) << s;
            EXPECT_NE(s.text.find("Could not open '" + name + "': the image names another file by "
                                  "a protocol"), s.text.npos) << s;
        }
        EXPECT_EQ(ours("info s/n.q"), qemu("info s/n.q"));
        EXPECT_EQ(sorted(ours("info --output=json s/n.q")),
                  sorted(qemu("info --output=json s/n.q")));
    }
    prepare("cd s && qemu-img create -q -u -f qcow2 -b nbd://h/x -F raw n.q 1M");
    EXPECT_EQ(full_name_of("s/n.q"), "nbd://h/x\n");
}

TEST_F(names, that_create_writes_are_opened_by_qemu) {
    for (const std::string name : {"a:b.raw", "./a:b.raw", "file:a:b.raw", "file:s/base.raw",
                                   "s/a:b.raw"}) {
        SCOPED_TRACE(name);
        for (const std::string& how : {"create -q -f qcow2 -F raw -b " + name + " x",
                                      "create -q -f qcow2 -o backing_fmt=raw,backing_file=" + name +
                                          " x",
                                      "convert -O qcow2 -F raw -B " + name + " s/base.raw x"}) {
            prepare("rm -f x");
            EXPECT_EQ(ours(how), (said{0, ""}));
            EXPECT_EQ(qemu("compare -q x s/base.raw"), (said{0, ""})) << how;
            EXPECT_EQ(ours("compare -q x s/base.raw"), (said{0, ""})) << how;
        }
    }
    // A name that is not opened is stored unchanged.
    EXPECT_EQ(ours("create -q -u -f qcow2 -b nbd://h/x -F raw x 1M"), (said{0, ""}));
    EXPECT_EQ(full_name_of("x"), "nbd://h/x\n");
    EXPECT_EQ(ours("create -q -u -f qcow2 -b a:b.raw -F raw s/x 1M"), (said{0, ""}));
    EXPECT_EQ(qemu("compare -q s/x s/base.raw"), (said{0, ""}));
}

} // namespace
