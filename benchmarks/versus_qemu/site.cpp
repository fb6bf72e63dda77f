// SPDX-License-Identifier: BSL-1.0
#include "site.hpp"

#include <cstdio>
#include <stdexcept>
#include <utility>

namespace gaur::bench {

namespace {

constexpr unsigned most_in_flight = 256;

std::unique_ptr<host> make_host(const options& how) {
    if (how.backend == "uring") {
        auto io = make_uring(most_in_flight);
        if (io) { return *std::move(io); }
        std::fprintf(stderr, "no io_uring here (%s): threads instead\n",
                     io.error().message().c_str());
    }
    if (how.backend == "posix_aio") {
        return expect(make_posix_aio(most_in_flight), "backend posix_aio");
    }
    return expect(make_threads(most_in_flight), "backend threads");
}

} // namespace

site::site(const options& how)
    : how_(how), io_(make_host(how)), files_(how.dir, "versus_qemu", how.keep),
      has_qemu_(!how.no_qemu && has_program("qemu-img")) {
    direct_ = takes_direct(files_.add(".probe"));
}

image site::fresh(kind k, std::uint64_t size) {
    image on = existing(k, add(k == kind::raw ? ".raw" : ".qcow2"));
    on.create = size;
    return on;
}

image site::existing(kind k, const std::string& path) const {
    return {.path = path, .kind = k, .direct = direct_};
}

qemu_image site::for_qemu(const std::string& path, const std::string& format) const {
    return {.path = path,
            .format = format,
            .aio = io_->name() == "uring" ? "io_uring" : "threads",
            .direct = direct_};
}

qemu_image site::fresh_for_qemu(const std::string& format, std::uint64_t size,
                                const std::string& raw_backing) {
    const std::string path = add(".qemu." + format);
    // A bare name: an image finds its backing file beside itself.
    const std::string name = raw_backing.substr(raw_backing.rfind('/') + 1);
    const std::string backing = name.empty() ? "" : " -F raw -b '" + name + '\'';
    const said made = run_command("qemu-img create -q -f " + format + backing + " '" + path +
                                  "' " + std::to_string(size));
    if (!made.ended_well) { throw std::runtime_error("qemu-img create: " + made.text); }
    return for_qemu(path, format);
}

const site::full_disks& site::full(std::uint64_t size, unsigned round) {
    full_disks& pair = full_[round % full_.size()];
    if (!pair.raw.empty()) { return pair; }
    pair = {add(".full.raw"), add(".full.qcow2")};
    if (round % 2 == 0) { fill(kind::raw, pair.raw, size); }
    fill(kind::join, pair.qcow2, size);
    if (round % 2 == 1) { fill(kind::raw, pair.raw, size); }
    return pair;
}

void site::fill(kind k, const std::string& path, std::uint64_t size) {
    constexpr std::size_t piece = std::size_t{1} << 20;
    image on = existing(k, path);
    on.create = size;
    io_->run(on, {.what = device::verb::write,
                  .block = piece,
                  .step = piece,
                  .depth = 4,
                  .count = size / piece});
}

} // namespace gaur::bench
