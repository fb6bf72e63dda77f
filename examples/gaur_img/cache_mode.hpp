// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <string>

namespace gaur_img {

/// QEMU's cache modes:
///
///                     page cache   each write durable   flushes
///     none, off       no           no                   yes
///     directsync      no           yes                  yes
///     writeback       yes          no                   yes
///     writethrough    yes          yes                  yes
///     unsafe          yes          no                   no
struct cache_mode {
    bool direct = false;         ///< past the host's page cache (O_DIRECT)
    bool writes_through = false; ///< a write ends when it is durable
    bool flushes = true;         ///< the host is asked to make things durable
};

/// The mode of that name. Throws failure, "Invalid <what>: <name> …", if it is none.
cache_mode parse_cache_mode(const std::string& name, const std::string& what, int exit_code = 1);

} // namespace gaur_img
