// SPDX-License-Identifier: BSL-1.0
// gaur-img on block devices: loop devices, which require root. Their old content is not zero.
#include "support/backends.hpp"
#include "support/gaur_img.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace {

using gaur::test::said;

/// A loop device over a file, detached in the destructor.
class loop_device {
  public:
    explicit loop_device(const std::string& file, unsigned sector = 512) {
        const std::string ask = "losetup -f --show --sector-size " + std::to_string(sector) + ' ' +
                                file;
        std::string said;
        if (gaur::test::run(ask, &said) == 0) { path_ = said.substr(0, said.find('\n')); }
    }
    loop_device(const loop_device&) = delete;
    loop_device& operator=(const loop_device&) = delete;
    ~loop_device() {
        if (!path_.empty()) { gaur::test::run("losetup -d " + path_); }
    }
    /// Empty if no loop device is available.
    const std::string& path() const noexcept { return path_; }

  private:
    std::string path_;
};

#define GAUR_NEEDS_DEVICE(device)                                                                  \
    if ((device).path().empty()) { GTEST_SKIP() << "no loop device can be made here"; }            \
    static_assert(true)

class block_devices : public gaur::test::gaur_img {
  protected:
    void SetUp() override {
        gaur_img::SetUp();
        if (IsSkipped()) { return; }
        prepare("truncate -s 16M under && head -c 3M /dev/urandom > r.raw && "
                "truncate -s 8M r.raw && qemu-img convert -O qcow2 r.raw r.q");
    }
    /// Makes every byte of the device nonzero.
    void fill(const loop_device& device) const {
        prepare("tr '\\000' '\\377' < /dev/zero | dd of=" + device.path() +
                " bs=1M count=16 iflag=fullblock status=none");
    }
    std::string start_of(const loop_device& device) const {
        return shell("head -c 4096 " + device.path() + " | sha1sum").text;
    }
    void expect_works(const std::string& arguments) const {
        const said s = ours(arguments);
        EXPECT_EQ(s.exit_code, 0) << arguments << '\n' << s;
    }
};

TEST_F(block_devices, are_read_as_files_are) {
    const loop_device device(file("under"));
    GAUR_NEEDS_DEVICE(device);
    const std::string d = device.path();
    fill(device);
    prepare("qemu-img convert -n -O raw r.raw " + d + " && qemu-img convert -O qcow2 r.raw x.q");
    expect_works("compare -f raw -F qcow2 " + d + " x.q >/dev/null; test $? = 1");
    prepare("qemu-img create -q -f qcow2 " + d + " 8M && qemu-img convert -n -O qcow2 r.raw " + d);
    for (const std::string backend : {"uring", "posix_aio", "sync", "threads"}) {
        SCOPED_TRACE(backend);
        const std::string with = " --backend " + backend + ' ';
        if (ours("info" + with + "r.q").exit_code != 0) { continue; } // not available here
        expect_works("info" + with + d);
        expect_works("info -f qcow2" + with + d);
        expect_works("check -f qcow2" + with + d);
        expect_works("map -f qcow2" + with + d);
        expect_works("compare -f raw -F qcow2" + with + "r.raw " + d);
        expect_works("compare -T none -f raw -F qcow2" + with + "r.raw " + d);
        expect_works("bench -f qcow2 -t none -c 100" + with + d);
        expect_works("convert -f qcow2 -O raw" + with + d + " y && cmp y r.raw");
    }
    const said map = ours("map --output=json " + d);
    EXPECT_EQ(map, qemu("map --output=json " + d));
    EXPECT_EQ(ours("info " + d + " | grep -v 'disk size'"),
              qemu("info " + d + " | grep -v 'disk size'"));
}

TEST_F(block_devices, convert_writes_what_must_read_as_zeroes) {
    for (const unsigned sector : {512U, 4096U}) {
        const loop_device device(file("under"), sector);
        GAUR_NEEDS_DEVICE(device);
        const std::string& d = device.path();
        for (const std::string how : {"", "-t none ", "-t directsync ", "-S 0 ",
                                      "--backend sync ", "--backend threads -t none "}) {
            SCOPED_TRACE(how + std::to_string(sector));
            for (const std::string source : {"r.raw", "r.q"}) {
                fill(device);
                expect_works("convert " + how + "-O raw " + source + ' ' + d);
                prepare("cmp -n 8388608 r.raw " + d);
                prepare("tail -c +8388609 " + d + " | tr -d '\\377' | wc -c | grep -qx 0");
                fill(device);
                expect_works("convert " + how + "-O qcow2 " + source + ' ' + d);
                prepare("qemu-img compare -f raw -F qcow2 r.raw " + d + " && qemu-img check " + d);
                expect_works("compare -f raw -F qcow2 r.raw " + d);
                fill(device);
                prepare("qemu-img create -q -f qcow2 " + d + " 8M");
                expect_works("convert -n " + how + "-O qcow2 " + source + ' ' + d);
                prepare("qemu-img compare -f raw -F qcow2 r.raw " + d + " && qemu-img check " + d);
            }
        }
    }
}

/// Requests of odd sizes, so that clusters are written in part. Their other bytes read as zeroes.
TEST_F(block_devices, hold_images_that_grow_over_old_bytes) {
    for (const unsigned sector : {512U, 4096U}) {
        const loop_device device(file("under"), sector);
        GAUR_NEEDS_DEVICE(device);
        const std::string& d = device.path();
        for (const std::string cluster : {"512", "4k", "64k"}) {
            for (const std::string cache : {"writeback", "none"}) {
                SCOPED_TRACE(cluster + ' ' + cache + ' ' + std::to_string(sector));
                fill(device);
                const std::string options = "create -q -f qcow2 -o cluster_size=" + cluster + ' ';
                const std::string bench = "bench -w -f qcow2 --pattern 7 -d 8 -c 300 -s 3000 -S "
                                          "50003 -t " + cache + ' ';
                prepare(program() + ' ' + options + "twin 8M");
                expect_works(options + d + " 8M");
                for (int round = 0; round < 2; ++round) {
                    expect_works(bench + "twin");
                    expect_works(bench + d);
                    prepare("qemu-img compare -f qcow2 -F qcow2 twin " + d);
                    prepare("qemu-img check " + d);
                    expect_works("check " + d);
                }
            }
        }
    }
}

TEST_F(block_devices, may_be_too_small) {
    const loop_device device(file("under"));
    GAUR_NEEDS_DEVICE(device);
    const std::string& d = device.path();
    fill(device);
    const std::string before = start_of(device);
    expect_works("create -q -f qcow2 x 1M");
    for (const std::string& arguments :
         {"create -q -f raw " + d + " 32M", "create -q -f raw " + d + " 16777217",
          "create -q -f qcow2 -o cluster_size=512 " + d + " 100G",
          "convert -O raw -o size=20M r.raw " + d}) {
        SCOPED_TRACE(arguments);
        const said s = ours(arguments);
        EXPECT_EQ(s.exit_code, 1) << s;
        EXPECT_NE(s.text.find("No space left on device"), s.text.npos) << s;
        EXPECT_EQ(start_of(device), before);
    }
    // A conversion that runs out of space midway leaves nothing that looks complete.
    prepare("head -c 17M /dev/urandom > large.raw");
    const said s = ours("convert -O qcow2 large.raw " + d);
    EXPECT_EQ(s.exit_code, 1) << s;
    EXPECT_NE(s.text.find("No space left on device"), s.text.npos) << s;
    EXPECT_NE(ours("info -f qcow2 " + d).exit_code, 0);
    EXPECT_EQ(ours("convert -n -O raw large.raw " + d).exit_code, 1);
    // An image smaller than the device is allowed, and replaces the old image.
    prepare("qemu-img create -q -f qcow2 " + d + " 1G");
    expect_works("create -q -f raw " + d + " 8M");
    EXPECT_NE(ours("info -f qcow2 " + d).exit_code, 0);
    expect_works("create -q -f qcow2 " + d + " 1T");
    prepare("qemu-img check " + d);
}

/// The file under a loop device is the same as the device that is read or replaced.
TEST_F(block_devices, are_no_other_name_for_their_file) {
    prepare("qemu-img create -q -f qcow2 base.q 1M && truncate -s 2M base.q");
    const loop_device device(file("base.q"));
    GAUR_NEEDS_DEVICE(device);
    const std::string& d = device.path();
    const auto before = gaur::test::read_file(file("base.q"));
    for (const std::string& arguments :
         {"convert -O raw base.q " + d, "convert -n -O raw base.q " + d,
          "convert -O raw " + d + " base.q",
          "create -f qcow2 -F qcow2 -b " + file("base.q") + ' ' + d,
          "create -f qcow2 -F qcow2 -b " + d + " base.q"}) {
        const said s = ours(arguments);
        EXPECT_EQ(s.exit_code, 1) << arguments << '\n' << s;
        EXPECT_NE(s.text.find("name another file"), s.text.npos) << arguments << '\n' << s;
        EXPECT_TRUE(gaur::test::read_file(file("base.q")) == before) << arguments;
    }
}

/// One device, two nodes.
TEST_F(block_devices, are_known_by_their_number) {
    const loop_device device(file("under"));
    GAUR_NEEDS_DEVICE(device);
    const std::string& d = device.path();
    prepare("qemu-img create -q -f qcow2 " + d + " 8M && qemu-img convert -n -O qcow2 r.raw " + d);
    if (shell("mknod other b $((0x$(stat -c %t " + d + "))) $((0x$(stat -c %T " + d + ")))")
            .exit_code != 0) {
        GTEST_SKIP() << "no device node can be made here";
    }
    const std::string before = start_of(device);
    for (const std::string& arguments :
         {"create -f qcow2 -F qcow2 -b " + d + " other", "convert -U -O raw " + d + " other",
          "convert -n -U -O qcow2 " + d + " other", "convert -O qcow2 -F qcow2 -B " + d +
                                                        " r.raw other"}) {
        const said s = ours(arguments);
        EXPECT_EQ(s.exit_code, 1) << arguments << '\n' << s;
        EXPECT_EQ(start_of(device), before);
    }
}

template <class B>
class devices_of_backends : public block_devices {};
TYPED_TEST_SUITE(devices_of_backends, gaur::test::host_backends, gaur::test::backend_names);

TYPED_TEST(devices_of_backends, have_one_size) {
    using gaur::io::opcode;
    using gaur::io::request;
    GAUR_NEEDS_BACKEND(TypeParam, io);
    for (const unsigned sector : {512U, 4096U}) {
        const loop_device device(this->file("under"), sector);
        GAUR_NEEDS_DEVICE(device);
        for (const bool direct : {false, true}) {
            SCOPED_TRACE(std::to_string(sector) + (direct ? " direct" : ""));
            auto opened = io->open(device.path(), {.write = true, .create = true, .truncate = true,
                                                   .direct = direct});
            ASSERT_TRUE(opened) << opened.error().message();
            constexpr std::uint64_t size = 16 << 20;
            EXPECT_EQ(*opened->size(), size);
            EXPECT_TRUE(opened->limits().fixed_size);
            EXPECT_EQ(opened->limits().offset_alignment, direct ? sector : 1U);
            const auto outcome = [&](const request& what) {
                typename TypeParam::operation op([](gaur::io::operation&) noexcept {});
                if (io->submit(*opened, op, what) == gaur::io::submit_status::pending) {
                    while (io->in_flight() != 0) { io->wait(); }
                }
                return op.outcome();
            };
            EXPECT_EQ(outcome(request::truncate(0)), 0);
            EXPECT_EQ(outcome(request::truncate(size)), 0);
            EXPECT_EQ(outcome(request::truncate(size + 1)), ENOSPC);
            EXPECT_EQ(outcome(request::range(opcode::extend, size - 4096, 4096)), 0);
            EXPECT_EQ(outcome(request::range(opcode::extend, size - 4096, 8192)), ENOSPC);
            EXPECT_EQ(outcome(request::range(opcode::extend, size, 4096)), ENOSPC);
            EXPECT_EQ(outcome(request::flush()), 0);
            EXPECT_EQ(*opened->size(), size);
        }
    }
}

} // namespace
