// SPDX-License-Identifier: BSL-1.0
#include "image_facts.hpp"

#include "failure.hpp"
#include "formats.hpp"

#include <gaur/base/bytes.hpp>
#include <gaur/qcow2/layout/parse_header.hpp>

#include <algorithm>
#include <cerrno>
#include <sys/stat.h>

namespace gaur_img {

namespace {

namespace layout = gaur::qcow2::layout;

std::vector<layout::bitmap> read_bitmaps(host& on, const std::string& path, bool force_share,
                                         const layout::header& h, std::uint64_t file_size) {
    const layout::bitmaps_extension named = h.bitmaps();
    if (named.count == 0) { return {}; }
    // Take no memory for what the header claims beyond the file's end.
    const std::uint64_t at = std::min(named.directory.value, file_size);
    const auto directory =
        expect(on.read_file(path, at, std::min(named.directory_bytes, file_size - at),
                            force_share),
               "Could not open '" + path + "'");
    auto bitmaps =
        layout::parse_bitmaps(directory, named.count).value_or(std::vector<layout::bitmap>());
    std::erase_if(bitmaps, [&](const auto& b) { return !layout::is_sound(b, h.cluster_bits); });
    return bitmaps;
}

/// The header of the encryption, at the place that an extension names.
std::optional<luks_header> read_luks(host& on, const std::string& path, bool force_share,
                                     const layout::header& h) {
    const auto place = h.extension_data(layout::extension_magic::crypto);
    if (h.crypt_method != layout::encryption::luks || place.size() != 16) { return {}; }
    const auto bytes = expect(on.read_file(path, gaur::load_be<std::uint64_t>(place.data()),
                                           luks_header::stored_bytes, force_share),
                              "Could not open '" + path + "'");
    return parse_luks_header(bytes);
}

} // namespace

image_facts look_at(host& on, const std::string& path, std::string format, bool force_share) {
    const std::string what = "Could not open '" + path + "'";
    if (format.empty()) { format = format_of(on, path, force_share); }
    image_facts found{path, format, 0, 0, {}, {}, {}, {}};
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) {
        throw failure(what + ": " + gaur::error::from_errno(errno).message());
    }
    found.disk_size = static_cast<std::uint64_t>(status.st_blocks) * 512;
    if (format == "raw") {
        image_options how;
        how.path = path;
        how.format = format;
        how.force_share = force_share;
        found.virtual_size = gaur::align_up(expect(on.open(how), what)->size(), 512);
        return found;
    }
    if (format != "qcow2") { throw failure(what + ": Unknown driver '" + format + "'"); }

    const auto start = expect(on.read_file(path, 0, 512, force_share), what);
    const std::uint64_t cluster = expect(layout::bytes_needed(start), what);
    const auto bytes = expect(on.read_file(path, 0, cluster, force_share), what);
    const std::uint64_t file_size = gaur_img::file_size(path);
    found.header = expect(layout::parse(bytes, file_size), what);
    const layout::header& h = *found.header;
    found.virtual_size = h.size;
    found.bitmaps = read_bitmaps(on, path, force_share, h, file_size);
    found.luks = read_luks(on, path, force_share, h);
    if (h.nb_snapshots != 0) {
        const auto size = std::min(layout::max_table_bytes(h.nb_snapshots),
                                   file_size - h.snapshots_offset); // no underflow: `parse` checks
        const auto table = expect(on.read_file(path, h.snapshots_offset, size, force_share), what);
        found.snapshots = expect(
            layout::parse_snapshots(table, h.nb_snapshots, {h.snapshots_offset}), what);
    }
    return found;
}

} // namespace gaur_img
