// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "support/qemu_img.hpp"
#include "support/reference_image.hpp"
#include "support/scenario.hpp"

#include <gaur/async/sync_wait.hpp>
#include <gaur/exec/inline.hpp>
#include <gaur/io/memory.hpp>
#include <gaur/qcow2/check.hpp>

#include <cstddef>
#include <span>
#include <string>

namespace gaur::test {

/// What qemu-img reports against the image "top" of a disk after a power cut, which should read as
/// `content`; or a disagreement between our check and qemu-img's. Empty if neither.
inline std::string judged_by_qemu(const memory_disk& files, std::span<const std::byte> content) {
    const scratch_folder folder;
    for (const auto& [name, file] : files) { write_file(folder.file(name), file.bytes()); }
    const std::string top = folder.file("top");
    qemu_verdict theirs = qemu_check(top);
    simulated_device io(*io::memory::backend::make({}, files));
    exec::inline_loop loop;
    const auto executor = loop.get_executor();
    const auto ours = sync_wait(io, executor, qcow2::check(io, executor, "top"));
    if (!ours) { return "our check: " + ours.error().message(); }
    if (ours->corruptions != theirs.corruptions || ours->leaks != theirs.leaks ||
        ours->check_errors != theirs.check_errors) {
        return "we find " + std::to_string(ours->corruptions) + " corruptions, " +
               std::to_string(ours->leaks) + " leaks, qemu-img: " + theirs.said;
    }
    // Stale refcounts must be rebuilt before the image can be sound.
    if (reference_image(files.at("top").bytes()).is_dirty()) {
        theirs = qemu_check(top, "-r all");
        if (theirs.exit_code != 0) { return "qemu-img check -r all: " + theirs.said; }
    } else if (theirs.corruptions + theirs.check_errors != 0) {
        return "qemu-img check: " + theirs.said;
    }
    write_file(folder.file("twin"), content);
    std::string said;
    const bool same =
        run("qemu-img compare -f qcow2 -F raw " + top + ' ' + folder.file("twin"), &said) == 0;
    return same ? "" : "qemu-img compare: " + said;
}

} // namespace gaur::test
