// SPDX-License-Identifier: BSL-1.0
#include "commands.hpp"
#include "failure.hpp"
#include "host.hpp"

#include <cinttypes>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace gaur_img {

namespace {

using gaur::qcow2::check_report;
using json = nlohmann::ordered_json;

// qemu-img's exit codes.
constexpr int clean = 0;
constexpr int could_not_check = 1;
constexpr int corrupt = 2;
constexpr int leaks = 3;
constexpr int no_such_check = 63;

void print_findings(const check_report& r) {
    for (const auto& finding : r.findings) { std::fprintf(stderr, "%s\n", finding.text.c_str()); }
    const std::uint64_t all = r.corruptions + r.leaks + r.check_errors;
    if (r.findings.size() >= r.max_findings && all > r.findings.size()) {
        std::fprintf(stderr, "… and more of them\n");
    }
}

double percent(std::uint64_t part, std::uint64_t of) {
    return of == 0 ? 0 : 100 * static_cast<double>(part) / static_cast<double>(of);
}

void print_human(const check_report& r) {
    if (r.is_clean()) { std::printf("No errors were found on the image.\n"); }
    if (r.corruptions != 0) {
        std::printf("\n%" PRIu64 " errors were found on the image.\n"
                    "Data may be corrupted, or further writes to the image may corrupt it.\n",
                    r.corruptions);
    }
    if (r.leaks != 0) {
        std::printf("\n%" PRIu64 " leaked clusters were found on the image.\n"
                    "This means waste of disk space, but no harm to data.\n", r.leaks);
    }
    if (r.check_errors != 0) {
        std::printf("\n%" PRIu64 " internal errors have occurred during the check.\n",
                    r.check_errors);
    }
    if (r.total_clusters != 0 && r.allocated_clusters != 0) {
        std::printf("%" PRIu64 "/%" PRIu64 " = %0.2f%% allocated, %0.2f%% fragmented, %0.2f%% "
                    "compressed clusters\n",
                    r.allocated_clusters, r.total_clusters,
                    percent(r.allocated_clusters, r.total_clusters),
                    percent(r.fragmented_clusters, r.allocated_clusters),
                    percent(r.compressed_clusters, r.allocated_clusters));
    }
    if (r.image_end_offset != 0) {
        std::printf("Image end offset: %" PRIu64 "\n", r.image_end_offset);
    }
}

void print_json(const check_report& r, const std::string& path) {
    json j{{"filename", path}, {"format", "qcow2"}, {"check-errors", r.check_errors}};
    // The others only where there are any.
    const auto add = [&j](const char* name, std::uint64_t value) {
        if (value != 0) { j[name] = value; }
    };
    add("image-end-offset", r.image_end_offset);
    add("corruptions", r.corruptions);
    add("leaks", r.leaks);
    add("total-clusters", r.total_clusters);
    add("allocated-clusters", r.allocated_clusters);
    add("fragmented-clusters", r.fragmented_clusters);
    add("compressed-clusters", r.compressed_clusters);
    std::printf("%s\n", j.dump(4, ' ', false, json::error_handler_t::replace).c_str());
}

} // namespace

int check(const check_command& asked) {
    const auto on = make_host(asked.backend);
    const std::string format = asked.format.empty()
                                   ? format_of(*on, asked.path, asked.force_share)
                                   : asked.format;
    if (format != "qcow2") {
        throw failure("This image format does not support checks", no_such_check);
    }
    const bool direct = is_direct(asked.cache, "source cache option");
    const check_report r =
        expect(on->check(asked.path, direct, asked.force_share),
               "Could not open '" + asked.path + "'");
    print_findings(r);
    if (asked.output == "json") {
        print_json(r, asked.path);
    } else if (!asked.quiet) {
        print_human(r);
    }
    std::fflush(stdout);
    if (r.check_errors != 0) { throw failure("Check failed", could_not_check); }
    if (r.corruptions != 0) { return corrupt; }
    return r.leaks != 0 ? leaks : clean;
}

} // namespace gaur_img
