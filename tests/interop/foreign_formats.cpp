// SPDX-License-Identifier: BSL-1.0
// Images of other formats are refused with the format's name, unless the command line says raw.
#include "support/gaur_img.hpp"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace {

using gaur::test::said;

class foreign_formats : public gaur::test::gaur_img {
  protected:
    void expect_refused(const std::string& arguments, const std::string& format, int code = 1) {
        const said s = ours(arguments);
        EXPECT_EQ(s.exit_code, code) << arguments << '\n' << s;
        EXPECT_NE(s.text.find("format '" + format + "'"), s.text.npos) << arguments << '\n' << s;
        EXPECT_NE(s.text.find("-f raw"), s.text.npos) << "what to do: " << s;
    }
    /// By every command that probes the format.
    void expect_refused_everywhere(const std::string& file, const std::string& format) {
        SCOPED_TRACE(file);
        prepare("qemu-img create -q -f raw same 1M; rm -f o");
        expect_refused("info " + file, format);
        EXPECT_EQ(ours("info " + file + " 2>&-").text, "") << "nothing that a service may parse";
        expect_refused("info --output=json " + file, format);
        expect_refused("map " + file, format);
        expect_refused("check " + file, format);
        expect_refused("convert -O qcow2 " + file + " o", format);
        EXPECT_EQ(shell("test -e o").exit_code, 1) << "nothing was made";
        expect_refused("compare " + file + " same", format, 2);
        expect_refused("compare same " + file, format, 2);
        expect_refused("bench -c 1 " + file, format);
    }
    /// Makes a file of 1 MiB that contains these bytes.
    void make(const std::string& name, const std::string& bytes, std::size_t at = 0) {
        prepare("truncate -s 1M " + name + " && printf '" + bytes + "' | dd of=" + name +
                " bs=1 conv=notrunc status=none seek=" + std::to_string(at));
    }
};

TEST_F(foreign_formats, of_qemu_img_are_refused_by_name) {
    prepare("head -c 1M /dev/urandom > data");
    const std::vector<std::pair<std::string, std::string>> ways{
        {"vmdk", "vmdk"}, {"vmdk -o subformat=streamOptimized", "vmdk"}, {"vdi", "vdi"},
        {"vdi -o static=on", "vdi"}, {"vhdx", "vhdx"}, {"vpc", "vpc"},
        {"vpc -o subformat=fixed,force_size=on", "vpc"}, {"qed", "qed"}, {"qcow", "qcow"},
        {"parallels", "parallels"}};
    for (const auto& [how, format] : ways) {
        prepare("qemu-img convert -f raw -O " + how + " data x");
        expect_refused_everywhere("x", format);
        EXPECT_EQ(ours("info -f raw x").exit_code, 0);
        EXPECT_EQ(ours("convert -f raw -O raw x o").exit_code, 0);
        EXPECT_EQ(shell("cmp -n $(stat -c %s x) x o"), (said{0, ""})) << "its bytes, as they are";
        prepare("rm x o");
    }
    // A text file that names the extents.
    for (const std::string subformat : {"monolithicFlat", "twoGbMaxExtentSparse"}) {
        prepare("qemu-img convert -f raw -O vmdk -o subformat=" + subformat + " data x.vmdk");
        expect_refused_everywhere("x.vmdk", "vmdk");
    }
}

TEST_F(foreign_formats, of_others_are_refused_by_name) {
    const std::string koly = "koly\\0\\0\\0\\4\\0\\0\\2\\0";
    make("luks1", "LUKS\\272\\276\\0\\1");
    make("luks2", "LUKS\\272\\276\\0\\2");
    make("parallels", "WithouFreSpacExt");
    make("sesparse", "\\276\\272\\376\\312\\0\\0\\0\\0");
    make("cowd", "COWD");
    make("comments", "# a comment\\n\\r\\n # no\\n#\\nversion=1\\n");
    make("descriptor", "# Disk DescriptorFile\\nversion=4\\n");
    make("bochs", "Bochs Virtual HD Image\\0");
    make("cloop", "#!/bin/sh\\n#V2.0 Format\\nmodprobe cloop file=$0");
    make("iso", "CD001", 0x8001);
    make("fixed", "conectix", (1 << 20) - 512);
    make("dmg", koly, (1 << 20) - 512);
    make("moved", koly, (1 << 20) - 513);
    make("old", "conectix", (1 << 20) - 511);
    prepare("sed -i 's/^ # no$/ /' comments");
    const std::vector<std::pair<std::string, std::string>> images{
        {"luks1", "luks"},     {"luks2", "luks"}, {"parallels", "parallels"}, {"sesparse", "vmdk"},
        {"cowd", "vmdk"},      {"comments", "vmdk"}, {"descriptor", "vmdk"}, {"bochs", "bochs"},
        {"cloop", "cloop"},    {"iso", "iso"},    {"fixed", "vpc"},           {"dmg", "dmg"},
        {"moved", "dmg"},      {"old", "vpc"}};
    for (const auto& [file, format] : images) {
        expect_refused_everywhere(file, format);
        EXPECT_EQ(ours("map -f raw " + file).exit_code, 0) << file;
        EXPECT_EQ(ours("compare -f raw -F raw " + file + ' ' + file).exit_code, 0) << file;
    }
}

TEST_F(foreign_formats, need_their_whole_magic) {
    make("ascii", "# a text\\nversion is 1\\n");
    make("empty_lines", "\\n\\n\\n");
    make("late", "KDMV", 512);
    make("iso_elsewhere", "CD001", 0x8000);
    make("koly_in_the_middle", "koly", 4096);
    make("nearly", "conecti");
    prepare(": > empty; printf Q > one; head -c 700 /dev/zero > short; "
            "printf WithoutFreeSpac > cut");
    for (const std::string file :
         {"ascii", "empty_lines", "late", "iso_elsewhere", "koly_in_the_middle", "nearly", "empty",
          "one", "short", "cut"}) {
        EXPECT_EQ(ours("info " + file + " | sed -n 's/file format: //p'").text, "raw\n") << file;
    }
}

TEST_F(foreign_formats, qcow_of_an_unknown_version_is_refused_by_it) {
    make("v4", "QFI\\373\\0\\0\\0\\4");
    prepare("printf 'QFI\\373' > four");
    for (const std::string command : {"info v4", "map v4", "check v4", "convert -O raw v4 o"}) {
        const said s = ours(command);
        EXPECT_EQ(s.exit_code, 1) << s;
        EXPECT_NE(s.text.find("unsupported qcow2 version (2 and 3 are known) (found 4)"),
                  s.text.npos) << s;
    }
    EXPECT_EQ(ours("info four").exit_code, 1);
    EXPECT_EQ(ours("info -f raw v4").exit_code, 0);
}

TEST_F(foreign_formats, of_a_backing_file_are_named) {
    prepare("qemu-img create -q -f vmdk b 1M && qemu-img create -q -f qcow2 -b b -F vmdk x && "
            "qemu-img create -q -u -f qcow2 -b x -F qcow2 top 1M && "
            "truncate -s 1M r && qemu-img create -q -f qcow2 -u -b r -F qcow2 y 1M && "
            "printf '\\0\\0\\0\\0' | dd of=y bs=1 seek=112 conv=notrunc status=none");
    for (const std::string command : {"map x", "convert -O raw x o", "compare x r", "map top",
                                      "info --backing-chain x"}) {
        const said s = ours(command);
        EXPECT_EQ(s.exit_code, command.starts_with("compare") ? 2 : 1) << s;
        EXPECT_NE(s.text.find("Unknown driver 'vmdk'"), s.text.npos) << command << '\n' << s;
    }
    const std::string why = "Could not open 'b': Unknown driver 'vmdk': the image says";
    EXPECT_NE(ours("map top").text.find(why), std::string::npos);
    // If the image does not name the format, an option does.
    const said missing = ours("map y");
    EXPECT_EQ(missing.exit_code, 1);
    EXPECT_NE(missing.text.find("--backing-format"), missing.text.npos) << missing;
    EXPECT_NE(ours("info --backing-chain y").text.find("--backing-format"), missing.text.npos);
    EXPECT_EQ(ours("map --backing-format raw y").exit_code, 0);
    EXPECT_EQ(ours("info --backing-chain --backing-format raw y").exit_code, 0);
    EXPECT_EQ(ours("compare --backing-format raw y r").exit_code, 0);
}

} // namespace
