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
    bool direct = false;         ///< bypasses the host's page cache (O_DIRECT)
    bool writes_through = false; ///< a write ends once it is durable
    bool flushes = true;         ///< the host is asked to make data durable
};

/// Parses the name of a mode. Throws failure, "Invalid <what>: <name> …", if there is no such mode.
cache_mode parse_cache_mode(const std::string& name, const std::string& what, int exit_code = 1);

} // namespace gaur_img
