// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <limits>
#include <span>
#include <zlib.h>

namespace gaur::qcow2 {

/// Inflates a compressed cluster with zlib: raw deflate with a window of 4 KiB. For
/// `open_options::inflate`; link gaur::zlib. `from` may end in bytes of another cluster. A stream
/// that fills `to` without an end mark is accepted, as in QEMU. Never writes beyond `to`. False if
/// the data is malformed, or does not fill `to`.
inline bool zlib_inflate(std::span<const std::byte> from, std::span<std::byte> to) {
    constexpr std::size_t most = std::numeric_limits<uInt>::max();
    if (from.size() > most || to.size() > most) { return false; }
    z_stream stream{};
    // zlib's interface lacks const here; zlib does not write to its input.
    stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(from.data()));
    stream.avail_in = static_cast<uInt>(from.size());
    stream.next_out = reinterpret_cast<Bytef*>(to.data());
    stream.avail_out = static_cast<uInt>(to.size());
    constexpr int raw_deflate_4k = -12;
    if (inflateInit2(&stream, raw_deflate_4k) != Z_OK) { return false; }
    const int status = inflate(&stream, Z_FINISH);
    inflateEnd(&stream);
    return (status == Z_STREAM_END || status == Z_BUF_ERROR) && stream.avail_out == 0;
}

} // namespace gaur::qcow2
