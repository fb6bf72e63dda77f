// SPDX-License-Identifier: BSL-1.0
// Compressed clusters, arbitrary ones and damaged ones: inflating in one call gives the same as
// inflating piece by piece, and nothing is written past the cluster.
#include "support/crafted_image.hpp"

#include <gaur/qcow2/zlib.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <vector>
#include <zlib.h>

namespace {

using bytes = std::vector<std::byte>;

struct inflated {
    bytes content;
    bool has_ended = false; ///< the stream has reached its end
};

/// Inflates a byte at a time, at most `most` bytes.
inflated inflated_slowly(bytes from, std::size_t most) {
    bytes out;
    z_stream stream{};
    inflateInit2(&stream, -12);
    stream.next_in = reinterpret_cast<Bytef*>(from.data());
    stream.avail_in = static_cast<uInt>(from.size());
    int status = Z_OK;
    while (status == Z_OK && out.size() < most) {
        Bytef next = 0;
        stream.next_out = &next;
        stream.avail_out = 1;
        status = inflate(&stream, Z_SYNC_FLUSH);
        if (stream.avail_out == 0) { out.push_back(std::byte{next}); }
    }
    if (status == Z_OK) { status = inflate(&stream, Z_SYNC_FLUSH); }
    inflateEnd(&stream);
    return {out, status == Z_STREAM_END};
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 4) { return 0; }
    const std::size_t cluster = std::size_t{512} << data[0] % 4;
    const auto all = std::as_bytes(std::span(data + 4, size - 4));
    bytes stream(all.begin(), all.end());
    if (data[1] % 2 == 0 && !stream.empty()) {
        bytes content;
        while (content.size() < cluster) {
            content.insert(content.end(), stream.begin(), stream.end());
        }
        content.resize(data[1] % 4 == 0 ? cluster : content.size());
        stream = gaur::test::crafted_image::deflated(content);
        stream[data[2] % stream.size()] ^= std::byte{data[3]};
    }
    bytes to(cluster); // of exactly this size, so that the sanitizer sees a byte too many
    const bool whole = gaur::qcow2::zlib_inflate(stream, to);
    const inflated expected = inflated_slowly(stream, cluster);
    // A stream that continues may be refused because of the rest.
    const bool fills = expected.content.size() == cluster;
    if ((whole && (!fills || to != expected.content)) ||
        (!whole && fills && expected.has_ended)) {
        std::fprintf(stderr, "inflated %zu of %zu bytes; whole: %d\n", expected.content.size(),
                     cluster, whole);
        std::abort();
    }
    return 0;
}
