// SPDX-License-Identifier: BSL-1.0
#include "formats.hpp"

#include "failure.hpp"

#include <gaur/base/bytes.hpp>

#include <algorithm>
#include <array>
#include <cctype>
#include <vector>

namespace gaur_img {

namespace {

using namespace std::string_view_literals;

/// Bytes at a fixed place that identify a format.
struct magic {
    std::string_view format;
    std::size_t at; ///< from the file's start, or back from its end
    std::string_view bytes;
};

constexpr std::array at_start{
    magic{"vmdk", 0, "KDMV"sv},
    magic{"vmdk", 0, "COWD"sv},
    magic{"vmdk", 0, "\xbe\xba\xfe\xca\0\0\0\0"sv}, // sparse, ESX
    magic{"vdi", 64, "\x7f\x10\xda\xbe"sv},
    magic{"vhdx", 0, "vhdxfile"sv},
    magic{"vpc", 0, "conectix"sv},
    magic{"qed", 0, "QED\0"sv},
    magic{"parallels", 0, "WithoutFreeSpace"sv},
    magic{"parallels", 0, "WithouFreSpacExt"sv},
    magic{"luks", 0, "LUKS\xba\xbe"sv},
    magic{"dmg", 0, "encrcdsa"sv},
    magic{"sparseimage", 0, "sprs"sv},
    magic{"bochs", 0, "Bochs Virtual HD Image"sv},
    magic{"cloop", 0, "#!/bin/sh\n#V2.0 Format\nmodprobe cloop"sv},
    magic{"cow", 0, "OOOM\0\0\0\2"sv},
    magic{"iso", 0x8001, "CD001"sv},
};
constexpr std::array at_end{
    magic{"vpc", 512, "conectix"sv},
    magic{"vpc", 511, "conectix"sv}, // Virtual PC before 2004
    magic{"dmg", 512, "koly"sv},
};

std::string_view text(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Whether it is a text that describes the extents of a VMDK image: "# Disk DescriptorFile", or
/// what QEMU accepts as one: comments and blanks, then a version.
bool is_vmdk_descriptor(std::string_view start) {
    constexpr std::string_view title = "# disk descriptorfile";
    const auto same = [](char a, char b) {
        return std::tolower(static_cast<unsigned char>(a)) == b;
    };
    if (std::ranges::equal(start.substr(0, title.size()), title, same)) { return true; }
    while (!start.empty()) {
        const std::size_t end = std::min(start.find('\n'), start.size());
        std::string_view line = start.substr(0, end);
        start.remove_prefix(std::min(end + 1, start.size()));
        if (line.ends_with('\r')) { line.remove_suffix(1); }
        if (line.starts_with('#')) { continue; }
        if (line.find_first_not_of(' ') == line.npos) { continue; }
        return line == "version=1" || line == "version=2" || line == "version=3";
    }
    return false;
}

/// The trailer of a DMG image may be followed by up to 511 bytes. Its version and size identify it
/// then.
bool has_moved_koly(std::string_view end) {
    return end.find("koly\0\0\0\4\0\0\2\0"sv) != end.npos;
}

/// Version 1 is another format, which QEMU calls qcow. An unknown version is refused when the image
/// is opened.
std::string_view qcow_of(std::string_view start) {
    constexpr std::string_view first = "\0\0\0\1"sv;
    return start.substr(4, 4) == first ? "qcow" : "qcow2";
}

} // namespace

std::string_view recognise_format(std::span<const std::byte> start,
                                  std::span<const std::byte> end) {
    const std::string_view begins = text(start);
    const std::string_view ends = text(end);
    if (begins.starts_with("QFI\xfb"sv)) { return qcow_of(begins); }
    for (const magic& m : at_start) {
        if (begins.size() > m.at && begins.substr(m.at).starts_with(m.bytes)) { return m.format; }
    }
    if (is_vmdk_descriptor(begins)) { return "vmdk"; }
    for (const magic& m : at_end) {
        if (ends.size() >= m.at && ends.substr(ends.size() - m.at).starts_with(m.bytes)) {
            return m.format;
        }
    }
    return has_moved_koly(ends) ? "dmg" : "raw";
}

std::string format_of(host& on, const std::string& path, bool force_share, int exit_code) {
    const std::string what = "Could not open '" + path + "'";
    image_options how;
    how.path = path;
    how.format = "raw";
    how.force_share = force_share;
    const auto file = expect(on.open(how), what, exit_code);
    const std::uint64_t size = file->size();
    const auto bytes_at = [&](std::uint64_t at, std::size_t most) {
        std::vector<std::byte> bytes(std::min<std::uint64_t>(most, size - at));
        expect(on.wait(file->read(at, bytes)), what, exit_code);
        return bytes;
    };
    const auto start = bytes_at(0, format_start_bytes);
    const auto end = bytes_at(size - std::min<std::uint64_t>(size, format_end_bytes),
                              format_end_bytes);
    const std::string found(recognise_format(start, end));
    if (found != "qcow2" && found != "raw") {
        throw failure(what + ": it is recognised as an image of the format '" + found +
                          "', which gaur does not read. If it is a raw disk all the same, name "
                          "its format: -f raw (-F raw for the second image of compare)",
                      exit_code);
    }
    return found;
}

} // namespace gaur_img
