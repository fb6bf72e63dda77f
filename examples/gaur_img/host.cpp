// SPDX-License-Identifier: BSL-1.0
#include "host.hpp"

#include "backends.hpp"
#include "commands.hpp"
#include "failure.hpp"
#include "formats.hpp"
#include "printable.hpp"
#include "size.hpp"

#include <gaur/qcow2/file_name.hpp>

#include <gaur/io/host_file.hpp>
#include <gaur/qcow2/layout/parse_header.hpp>

#include <algorithm>
#include <array>
#include <optional>
#include <sys/stat.h>

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

std::string beside(const std::string& image, const std::string& name) {
    return gaur::qcow2::full_name(image, name);
}

std::uint64_t file_size(const std::string& path) {
    const auto file = gaur::io::host_file::open(path, {});
    const gaur::result<std::uint64_t> size =
        file ? file->size() : gaur::result<std::uint64_t>(file.error());
    return expect(size, "Could not open '" + path + "'");
}

namespace {

/// The header of the qcow2 image at `path`; nothing if it is no such image.
std::optional<gaur::qcow2::layout::header> read_header(host& on, const std::string& path) {
    namespace layout = gaur::qcow2::layout;
    constexpr std::size_t largest_cluster = std::size_t{1} << layout::max_cluster_bits;
    // Only the name matters here, not whether the tables are within the file.
    constexpr std::uint64_t longest_file = std::uint64_t{1} << 62;
    const auto start = on.read_file(path, 0, 512, true);
    if (!start) { return {}; }
    const auto needed = layout::bytes_needed(*start);
    if (!needed) { return {}; }
    const auto bytes =
        on.read_file(path, 0, static_cast<std::size_t>(std::min<std::uint64_t>(
                                  *needed, largest_cluster)), true);
    if (!bytes) { return {}; }
    auto parsed = layout::parse(*bytes, longest_file);
    if (!parsed) { return {}; }
    return *std::move(parsed);
}

} // namespace

std::vector<gaur::io::file_identity> files_of_chain(host& on, std::string path,
                                                    std::string format) {
    std::vector<gaur::io::file_identity> files;
    while (!path.empty()) {
        struct stat status {};
        if (::stat(path.c_str(), &status) != 0) { break; }
        const gaur::io::file_identity file = gaur::io::identity_of(status);
        if (std::ranges::find(files, file) != files.end()) { break; }
        files.push_back(file);
        if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) { break; }
        if (!format.empty() && format != "qcow2") { break; }
        const auto header = read_header(on, path);
        if (!header || header->backing_file.empty()) { break; }
        path = beside(path, header->backing_file);
        format = header->backing_format();
    }
    return files;
}

} // namespace gaur_img
