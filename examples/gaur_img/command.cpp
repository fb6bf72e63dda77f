// SPDX-License-Identifier: BSL-1.0
#include "command.hpp"

#include "failure.hpp"

namespace gaur_img {

void add_common(CLI::App& command, common_options& to) {
    command
        .add_option("--backend", to.backend,
                    "uring, posix_aio, sync or threads (default: uring where the kernel allows it, "
                    "else threads)")
        ->check(CLI::IsMember({"uring", "posix_aio", "sync", "threads"}));
    command.add_flag("--no-references", to.no_references,
                     "refuse images that name a backing file; without this they are followed, as "
                     "you named the image and are taken to trust it");
}

std::unique_ptr<disk> open_disk(host& on, image_options how, int exit_code) {
    const std::string what = "Could not open '" + how.path + "'";
    if (how.format.empty()) {
        try {
            how.format = format_of(on, how.path);
        } catch (const failure& why) { throw failure(why.what(), exit_code); }
    }
    if (how.format != "raw" && how.format != "qcow2") {
        throw failure(what + ": Unknown driver '" + how.format + "'", exit_code);
    }
    return expect(on.open(how), what, exit_code);
}

bool is_direct(const std::string& cache_mode, const std::string& what) {
    if (cache_mode == "none" || cache_mode == "off") { return true; }
    if (cache_mode == "writeback" || cache_mode == "unsafe") { return false; }
    throw failure("Invalid " + what + ": " + cache_mode + " (it is none or writeback)");
}

} // namespace gaur_img
