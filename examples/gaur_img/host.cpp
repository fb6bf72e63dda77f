// SPDX-License-Identifier: BSL-1.0
#include "host.hpp"

#include "backends.hpp"
#include "commands.hpp"
#include "failure.hpp"
#include "formats.hpp"
#include "printable.hpp"
#include "size.hpp"

#include <gaur/qcow2/file_name.hpp>

#include <array>

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
    std::string format;
    how.failed_format = &format;
    auto opened = on.open(how);
    if (opened || failed == how.path) { return expect(std::move(opened), what, exit_code); }
    const std::string below =
        what + ": Could not open backing file: Could not open '" + printable(failed) + "'";
    return expect(std::move(opened),
                  format.empty() ? below : below + ": Unknown driver '" + printable(format) + "'",
                  exit_code);
}

void set_references(image_options& how, const common_options& asked) {
    how.references = !asked.no_references;
    how.max_depth = static_cast<unsigned>(
        expect_number(asked.max_depth, "depth of the chain", 1, UINT32_MAX));
    how.backing_format = asked.lower_format;
}

bool is_direct(const std::string& cache_mode, const std::string& what) {
    if (cache_mode == "none" || cache_mode == "off") { return true; }
    if (cache_mode == "writeback" || cache_mode == "unsafe") { return false; }
    throw failure("Invalid " + what + ": " + cache_mode + " (it is none or writeback)");
}

std::string beside(const std::string& image, const std::string& name) {
    return gaur::qcow2::full_name(image, name);
}

} // namespace gaur_img
