// SPDX-License-Identifier: BSL-1.0
// gaur against raw and against QEMU, on a real disk and on simulated ones.
#include "counted_works.hpp"
#include "disk_works.hpp"
#include "options.hpp"
#include "report.hpp"
#include "site.hpp"

#include <CLI/CLI.hpp>

#include <cstdio>
#include <exception>
#include <fstream>
#include <stdexcept>
#include <string>
#include <sys/utsname.h>
#include <thread>

namespace {

using namespace gaur::bench;

constexpr const char* about = R"(Compares gaur's qcow2 with raw and with QEMU.

Each round runs, in turn: gaur on raw, gaur on qcow2 with the ordering join and with serialize, and
`qemu-img bench` on raw and on qcow2. Printed are ratios of the pairs, median, least and greatest,
as Markdown on standard output. On a disk, with O_DIRECT where the file system takes it. What QEMU
cannot be asked for is a dash; without QEMU its columns are.

All files are new and are removed at the very end, since removing one may slow the next work down:
with the defaults that takes about 35 GiB of disk. Take fewer rounds or a smaller --count where that
is too much.)";

void add_options(CLI::App& to, options& o) {
    to.add_option("--dir", o.dir, "a folder on the disk to measure")->capture_default_str();
    to.add_option("--backend", o.backend, "of gaur; where io_uring is forbidden: threads")
        ->check(CLI::IsMember({"uring", "posix_aio", "threads"}))
        ->capture_default_str();
    to.add_option("--rounds", o.rounds, "pairs a work")
        ->check(CLI::Range(1, 1000))
        ->capture_default_str();
    to.add_option("--count", o.count,
                  "operations of a run, a quarter to four times as many in some works; rounded "
                  "down to a power of two, at least 256")
        ->capture_default_str();
    to.add_option("--only", o.only, "works and figures with this in their name");
    to.add_option("--json", o.json, "write all figures to this file");
    to.add_option("--svg", o.svg, "write a chart to this file");
    to.add_flag("--no-qemu", o.no_qemu, "leave QEMU out");
    to.add_flag("--small", o.small, "everything tiny, one round: shows that it works, no figures");
    to.add_flag("--keep", o.keep, "leave the disks there");
}

std::string describe_machine() {
    utsname names{};
    ::uname(&names);
    return std::string(names.sysname) + ' ' + names.release + ", " +
           std::to_string(std::thread::hardware_concurrency()) + " processors";
}

std::string describe_qemu() {
    const std::string version = run_command("qemu-img --version").text;
    return version.substr(0, version.find('\n'));
}

void write_file(const std::string& path, const std::string& text) {
    std::ofstream out(path);
    out << text;
    out.close();
    if (!out) { throw std::runtime_error(path + ": cannot be written"); }
}

void run(const options& how) {
    if (how.dir.find('\'') != std::string::npos) { throw std::runtime_error("--dir has a quote"); }
    site at(how);
    report r{.backend = std::string(at.io().name()),
             .machine = describe_machine(),
             .qemu = at.has_qemu() ? describe_qemu() : "",
             .direct = at.direct(),
             .rounds = how.rounds,
             .load_before = load_average()};
    measure_works(at, r);
    measure_figures(at, r);
    r.load_after = load_average();
    std::fputs(to_markdown(r).c_str(), stdout);
    if (!how.json.empty()) { write_file(how.json, to_json(r)); }
    if (!how.svg.empty()) { write_file(how.svg, to_svg(r)); }
    std::fflush(stdout);
}

} // namespace

int main(int argc, char** argv) {
    options how;
    CLI::App program(about);
    add_options(program, how);
    CLI11_PARSE(program, argc, argv);
    if (how.small) { how.rounds = 1; }
    try {
        run(how);
        return 0;
    } catch (const std::exception& why) {
        std::fprintf(stderr, "versus_qemu: %s\n", why.what());
        return 1;
    }
}
