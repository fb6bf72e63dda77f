// SPDX-License-Identifier: BSL-1.0
// `info` of images with every feature, gaur's own and foreign ones, key by key against qemu-img.
#include "support/gaur_img.hpp"

#include <gaur/base/bytes.hpp>
#include <gaur/base/units.hpp>

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <regex>
#include <string>
#include <vector>

namespace {

using gaur::test::said;

class info : public gaur::test::gaur_img {
  protected:
    void expect_same(const std::string& image) const {
        SCOPED_TRACE(image);
        for (const std::string how : {"", "--backing-chain "}) {
            EXPECT_EQ(ours("info " + how + image), qemu("info " + how + image));
            const std::string json = "info --output=json " + how + image;
            said theirs = qemu(json); // which writes an empty list on two lines
            theirs.text = std::regex_replace(theirs.text, std::regex("\\[\\s*\\]"), "[]");
            EXPECT_EQ(sorted(ours(json)), sorted(theirs));
        }
    }
    /// An image "luks" with a header of AES encryption in this mode behind its other clusters.
    /// qemu-img can make one only if it can measure time well.
    void make_luks(const std::string& mode, std::uint32_t key_bytes) const {
        prepare("rm -f luks && qemu-img create -q -f qcow2 luks 1M");
        std::vector<std::byte> image = gaur::test::read_file(file("luks"));
        const std::uint64_t at = gaur::align_up(image.size(), 65536);
        image.resize(at + 65536);
        const auto u32 = [&](std::uint64_t where, std::uint64_t value) {
            gaur::store_be<std::uint32_t>(image.data() + where, static_cast<std::uint32_t>(value));
        };
        const auto text = [&](std::uint64_t where, const std::string& value) {
            std::memcpy(image.data() + where, value.data(), value.size());
        };
        u32(32, 2); // crypt_method
        u32(112, 0x0537be77), u32(116, 16);
        u32(120, 0), u32(124, at), u32(128, 0), u32(132, 2 << 20); // extension: its place
        std::memset(image.data() + 136, 0, 8); // the end marker

        text(at, std::string("LUKS\xba\xbe\0\1", 8));
        text(at + 8, "aes"), text(at + 40, mode), text(at + 72, "sha256");
        const std::uint32_t sectors = (key_bytes * 4000 + 4095) / 4096 * 8; // of a key, in stripes
        u32(at + 104, 8 + 8 * sectors), u32(at + 108, key_bytes), u32(at + 164, 12345);
        text(at + 168, "30f0e3ed-ff24-46c3-9f03-f85c89330b1c");
        for (std::uint32_t slot = 0; slot < 8; ++slot) {
            const std::uint64_t place = at + 208 + 48 * slot;
            u32(place, slot == 0 || slot == 5 ? 0x00ac71f3 : 0x0000dead), u32(place + 4, 9999);
            u32(place + 40, 8 + slot * sectors), u32(place + 44, 4000);
        }
        gaur::test::write_file(file("luks"), image);
    }
};

TEST_F(info, tells_each_feature_by_qemus_names) {
    prepare("truncate -s 1M base.raw");
    const std::vector<std::string> options{
        "compat=0.10", "compat=1.1", "compat=1.1,lazy_refcounts=on", "extended_l2=on",
        "compression_type=zstd", "refcount_bits=1", "refcount_bits=64", "cluster_size=512",
        "data_file=d.raw", "data_file=d.raw,data_file_raw=on",
        "extended_l2=on,compression_type=zstd,lazy_refcounts=on,data_file=d.raw",
        "backing_file=base.raw,backing_fmt=raw,extended_l2=on",
        "backing_file=base.raw,backing_fmt=raw,compat=0.10"};
    for (const std::string& option : options) {
        prepare("rm -f x d.raw; qemu-img create -q -f qcow2 -o " + option + " x 1M");
        SCOPED_TRACE(option);
        expect_same("x");
    }
}

TEST_F(info, tells_bitmaps_snapshots_and_marks) {
    prepare("qemu-img create -q -f qcow2 x 1M && qemu-img bitmap --add -g 64k x b0 && "
            "qemu-img bitmap --add --disable -g 2M x 'b 1' && qemu-img snapshot -c s1 x && "
            "qemu-img snapshot -c s2 x");
    expect_same("x");
    prepare("cp x dirty && printf '\\1' | dd of=dirty bs=1 seek=79 conv=notrunc status=none");
    prepare("cp x corrupt && printf '\\2' | dd of=corrupt bs=1 seek=79 conv=notrunc status=none");
    expect_same("dirty");
    expect_same("corrupt");
    const said s = ours("info x");
    EXPECT_NE(s.text.find("name: b 1"), s.text.npos) << s;
}

TEST_F(info, tells_how_an_image_is_encrypted) {
    const std::string secret = "--object secret,id=s,data=abcdefgh ";
    prepare("qemu-img create -q " + secret + "-f qcow2 -o encrypt.format=aes,encrypt.key-secret=s "
            "aes 1M");
    expect_same("aes");
    make_luks("xts-plain64", 64);
    expect_same("luks");
    make_luks("cbc-essiv:sha256", 16);
    expect_same("luks");
    const said s = ours("info --output=json luks");
    EXPECT_NE(s.text.find("\"cipher-alg\": \"aes-128\""), s.text.npos) << s;
    EXPECT_EQ(ours("map luks").exit_code, 1) << "which it cannot read";
}

/// Services decide by these keys whether they open an image.
TEST_F(info, names_the_data_file_that_cannot_be_opened) {
    prepare("qemu-img create -q -f qcow2 -o data_file=secret.raw,data_file_raw=on x 1M && "
            "rm secret.raw && truncate -s 1M base.raw && "
            "qemu-img create -q -u -f qcow2 -b x -F qcow2 top 1M");
    const std::string name = "\"data-file\": \"secret.raw\"";
    for (const std::string command :
         {"info --output=json x", "info --output=json --backing-chain top"}) {
        const said s = ours(command);
        EXPECT_EQ(s.exit_code, 0);
        EXPECT_NE(s.text.find(name), s.text.npos) << s;
        EXPECT_NE(s.text.find("\"data-file-raw\": true"), s.text.npos) << s;
    }
    EXPECT_NE(ours("info x").text.find("\n    data file: secret.raw\n    data file raw: true\n"),
              std::string::npos);
    EXPECT_EQ(ours("map x").exit_code, 1) << "which it cannot read";
}

/// qemu-img reports nothing about such an image.
TEST_F(info, names_unknown_features) {
    prepare("qemu-img create -q -f qcow2 x 1M && "
            "printf '\\100' | dd of=x bs=1 seek=79 conv=notrunc status=none");
    EXPECT_NE(qemu("info x").text.find("feature"), std::string::npos);
    const said human = ours("info x");
    EXPECT_EQ(human.exit_code, 0);
    const std::string told = "unknown incompatible features:\n        [0]: incompatible bit 6\n";
    EXPECT_NE(human.text.find(told), human.text.npos) << human;
    EXPECT_NE(ours("info --output=json x").text.find("\"unknown-incompatible-features\": ["),
              std::string::npos);
    EXPECT_EQ(ours("map x").exit_code, 1);
}

/// QEMU of 2009 padded the backing format with NULs.
TEST_F(info, names_end_at_a_nul) {
    prepare("truncate -s 1M base.raw && qemu-img create -q -f qcow2 -b base.raw -F raw x && "
            "qemu-img bitmap --add x bits && qemu-img snapshot -c snap x");
    // The backing format's extension comes first: 8 bytes, of which "raw" takes 3.
    prepare("printf '\\10' | dd of=x bs=1 seek=119 conv=notrunc status=none");
    expect_same("x");
    EXPECT_NE(ours("info x").text.find("backing file format: raw\n"), std::string::npos);
    EXPECT_EQ(ours("map x"), qemu("map x"));
}

} // namespace
