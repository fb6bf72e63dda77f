// SPDX-License-Identifier: BSL-1.0
#include "names.hpp"

#include "failure.hpp"
#include "printable.hpp"

#include <gaur/qcow2/file_name.hpp>

#include <algorithm>
#include <optional>
#include <string_view>

namespace gaur_img {

namespace {

/// QEMU's block drivers that a name can begin with, except "file".
constexpr std::string_view protocols[] = {
    "json",        "nbd",         "nbd+tcp",      "nbd+unix",   "http",     "https",
    "ftp",         "ftps",        "tftp",         "ssh",        "iscsi",    "iser",
    "nfs",         "rbd",         "gluster",      "gluster+tcp", "gluster+unix", "gluster+rdma",
    "vxhs",        "sheepdog",    "fat",          "nvme",       "null-co",  "null-aio",
    "blkdebug",    "blkverify",   "blklogwrites", "quorum",     "replication", "host_device",
    "host_cdrom"};

/// The protocol of a name if gaur does not serve it; nothing for a path.
std::optional<std::string_view> foreign_protocol(std::string_view name) {
    const auto protocol = gaur::qcow2::protocol_of(name);
    if (!protocol || *protocol == "file") { return {}; }
    const bool known = std::ranges::find(protocols, *protocol) != std::end(protocols);
    const bool is_url = name.substr(protocol->size()).starts_with("://");
    return known || is_url ? protocol : std::nullopt;
}

[[noreturn]] void refuse(const std::string& name, const std::string& why, int exit_code) {
    throw failure("Could not open '" + printable(name) + "': " + why, exit_code);
}

} // namespace

std::string path_given(const std::string& name, int exit_code) {
    if (const auto protocol = foreign_protocol(name)) {
        refuse(name, "the protocol '" + std::string(*protocol) + "' is not supported; a file of "
                     "that name is ./" + printable(name), exit_code);
    }
    if (gaur::qcow2::protocol_of(name) != "file") { return name; }
    const auto path = gaur::qcow2::local_path(name);
    if (!path) { refuse(name, "the protocol 'file' needs the path of a file", exit_code); }
    return std::string(*path);
}

std::string backing_name_given(const std::string& name, bool unopened) {
    if (unopened && foreign_protocol(name)) { return name; }
    return gaur::qcow2::name_of_path(path_given(name));
}

} // namespace gaur_img
