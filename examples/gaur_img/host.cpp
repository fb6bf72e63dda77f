// SPDX-License-Identifier: BSL-1.0
#include "host.hpp"

#include "backends.hpp"
#include "failure.hpp"
#include "printable.hpp"

#include <algorithm>
#include <array>
#include <filesystem>

namespace gaur_img {

namespace {

struct named_backend {
    std::string_view name;
    gaur::result<std::unique_ptr<host>> (*make)(unsigned depth);
};
constexpr std::array<named_backend, 4> backends{{
    {"uring", &make_uring},
    {"posix_aio", &make_posix_aio},
    {"sync", &make_sync},
    {"threads", &make_threads},
}};

} // namespace

std::unique_ptr<host> make_host(const std::string& backend, unsigned depth) {
    if (backend.empty()) {
        auto fastest = make_uring(depth);
        if (fastest) { return *std::move(fastest); }
        return expect(make_threads(depth), "Could not start the backend 'threads'");
    }
    for (const named_backend& b : backends) {
        if (b.name != backend) { continue; }
        return expect(b.make(depth), "Could not start the backend '" + backend + "'");
    }
    throw failure("Unknown backend '" + backend + "': it is uring, posix_aio, sync or threads");
}

std::unique_ptr<disk> open_disk(host& on, image_options how, int exit_code) {
    const std::string what = "Could not open '" + how.path + "'";
    if (how.format.empty()) {
        how.format = format_of(on, how.path, how.force_share, exit_code);
    }
    if (how.format != "raw" && how.format != "qcow2") {
        throw failure(what + ": Unknown driver '" + how.format + "'", exit_code);
    }
    std::string failed = how.path;
    how.failed_path = &failed;
    auto opened = on.open(how);
    if (opened || failed == how.path) { return expect(std::move(opened), what, exit_code); }
    return expect(std::move(opened),
                  what + ": Could not open backing file: Could not open '" + printable(failed) +
                      "'", exit_code);
}

bool is_direct(const std::string& cache_mode, const std::string& what) {
    if (cache_mode == "none" || cache_mode == "off") { return true; }
    if (cache_mode == "writeback" || cache_mode == "unsafe") { return false; }
    throw failure("Invalid " + what + ": " + cache_mode + " (it is none or writeback)");
}

std::string beside(const std::string& image, const std::string& name) {
    return (std::filesystem::path(image).parent_path() / name).string();
}

std::string format_of(host& on, const std::string& path, bool force_share, int exit_code) {
    const auto start = expect(on.read_file(path, 0, 4, force_share),
                              "Could not open '" + path + "'", exit_code);
    constexpr std::array magic{std::byte{'Q'}, std::byte{'F'}, std::byte{'I'}, std::byte{0xfb}};
    return std::ranges::equal(start, magic) ? "qcow2" : "raw";
}

} // namespace gaur_img
