// SPDX-License-Identifier: BSL-1.0
#include "qemu_io.hpp"

#include <cinttypes>
#include <cstdio>
#include <fstream>
#include <stdexcept>

namespace gaur::bench {

namespace {

void print_step(std::FILE* to, const trace::line& l) {
    switch (l.what) {
    case trace::verb::write:
        std::fprintf(to, "aio_write -q -P 90 %" PRIu64 " %" PRIu64 "\n", l.offset, l.size);
        break;
    case trace::verb::zero: // as our own side does it: bytes, not a request to zero
        std::fprintf(to, "aio_write -q -P 0 %" PRIu64 " %" PRIu64 "\n", l.offset, l.size);
        break;
    case trace::verb::read:
        std::fprintf(to, "aio_read -q %" PRIu64 " %" PRIu64 "\n", l.offset, l.size);
        break;
    case trace::verb::flush: std::fputs("aio_flush\nflush\n", to); break;
    case trace::verb::discard:
    case trace::verb::mapping: break;
    }
}

/// The first line that is more than prompts; empty if there is none.
std::string complaint(const std::string& log) {
    std::ifstream in(log);
    const std::string prompt = "qemu-io> ";
    for (std::string line; std::getline(in, line);) {
        while (line.starts_with(prompt)) { line.erase(0, prompt.size()); }
        if (!line.empty()) { return line; }
    }
    return {};
}

} // namespace

spent run_qemu_io(const std::string& path, const std::string& format, const std::string& aio,
                  bool direct, const std::vector<trace::line>& steps) {
    const std::string log = path + ".log";
    const std::string command = "qemu-io -t " + std::string(direct ? "none" : "writeback") +
                                " -i " + aio + " -f " + format + " '" + path + "' >'" + log +
                                "' 2>&1";
    const spent before = {spent_so_far().seconds, cpu_seconds(RUSAGE_CHILDREN)};
    std::FILE* const to = ::popen(command.c_str(), "w");
    if (to == nullptr) { throw std::runtime_error("qemu-io cannot be started"); }
    for (const trace::line& l : steps) { print_step(to, l); }
    std::fputs("aio_flush\nflush\n", to);
    const bool ended_well = ::pclose(to) == 0;
    const spent after = {spent_so_far().seconds, cpu_seconds(RUSAGE_CHILDREN)};
    const std::string said = complaint(log);
    std::remove(log.c_str());
    if (!ended_well || !said.empty()) {
        throw std::runtime_error("qemu-io: " + (said.empty() ? "failed" : said));
    }
    return after - before;
}

} // namespace gaur::bench
