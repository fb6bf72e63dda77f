// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "load.hpp"
#include "spent.hpp"

#include <array>
#include <cstdio>
#include <optional>
#include <string>

namespace gaur::bench {

/// The standard output and standard error of a command line, and whether it succeeded.
struct said {
    bool ended_well = false;
    std::string text;
};

inline said run_command(const std::string& command) {
    said s;
    std::FILE* const out = ::popen((command + " 2>&1").c_str(), "r");
    if (out == nullptr) { return s; }
    std::array<char, 4096> piece{};
    for (std::size_t n = 0; (n = std::fread(piece.data(), 1, piece.size(), out)) != 0;) {
        s.text.append(piece.data(), n);
    }
    s.ended_well = ::pclose(out) == 0;
    return s;
}

inline bool has_program(const std::string& name) {
    return run_command("command -v " + name).ended_well;
}

/// The image on which `qemu-img bench` runs.
struct qemu_image {
    std::string path;
    std::string format = "qcow2";
    std::string aio = "io_uring";
    std::string options = ""; ///< of the driver, besides the file: "l2-cache-size=1M,…"
    bool direct = true;
};

inline std::string qemu_bench_command(const qemu_image& on, const pattern& how) {
    const auto number = [](const char* option, std::uint64_t value) {
        return ' ' + std::string(option) + ' ' + std::to_string(value);
    };
    std::string command = "qemu-img bench -t " + std::string(on.direct ? "none" : "writeback") +
                          " -i " + on.aio + number("-c", how.count) + number("-d", how.depth) +
                          number("-s", how.block) + number("-S", how.step) +
                          number("-o", how.offset);
    if (how.flush_every != 0) { command += number("--flush-interval", how.flush_every); }
    if (how.what == device::verb::write) { command += " -w"; }
    if (on.options.empty()) { return command + " -f " + on.format + " '" + on.path + '\''; }
    return command + " --image-opts 'driver=" + on.format + ',' + on.options +
           ",file.driver=file,file.filename=" + on.path + '\'';
}

/// One `qemu-img bench`: the seconds that it reports, and the processor time of the whole program.
/// Nothing if there are no figures; the reason is printed to standard error.
inline std::optional<spent> qemu_bench(const qemu_image& on, const pattern& how) {
    const double before = cpu_seconds(RUSAGE_CHILDREN);
    const said s = run_command(qemu_bench_command(on, how));
    double seconds = 0;
    const std::size_t at = s.text.find("Run completed in ");
    if (s.ended_well && at != std::string::npos &&
        std::sscanf(s.text.c_str() + at, "Run completed in %lf seconds.", &seconds) == 1) {
        return spent{seconds, cpu_seconds(RUSAGE_CHILDREN) - before};
    }
    std::fprintf(stderr, "no figures of qemu-img bench: %s\n", s.text.c_str());
    return std::nullopt;
}

} // namespace gaur::bench
