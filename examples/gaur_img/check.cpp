// SPDX-License-Identifier: BSL-1.0
#include "commands.hpp"
#include "failure.hpp"
#include "formats.hpp"
#include "host.hpp"
#include "progress.hpp"

#include <cinttypes>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace gaur_img {

namespace {

using gaur::qcow2::check_report;
using gaur::qcow2::repair_report;
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
    if (r.leaks_past_end != 0) {
        std::printf("\n%" PRIu64 " clusters behind the end of the file are counted as in use.\n"
                    "This does no harm; -r leaks lowers their refcounts.\n", r.leaks_past_end);
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

void print_json(const check_report& r, const repair_report& repaired, const std::string& path) {
    json j{{"filename", path}, {"format", "qcow2"}, {"check-errors", r.check_errors}};
    // The other members only if they are not 0.
    const auto add = [&j](const char* name, std::uint64_t value) {
        if (value != 0) { j[name] = value; }
    };
    add("image-end-offset", r.image_end_offset);
    add("corruptions", r.corruptions);
    add("leaks", r.leaks);
    add("corruptions-fixed", repaired.corruptions_fixed);
    add("leaks-fixed", repaired.leaks_fixed);
    add("total-clusters", r.total_clusters);
    add("allocated-clusters", r.allocated_clusters);
    add("fragmented-clusters", r.fragmented_clusters);
    add("compressed-clusters", r.compressed_clusters);
    std::printf("%s\n", j.dump(4, ' ', false, json::error_handler_t::replace).c_str());
}

/// Runs the check or the repair of a command. Shows its progress if asked to, but not with JSON.
template <class F>
auto shown_while(const check_command& asked, F run) {
    progress shown(asked.shows_progress && !asked.quiet && asked.output != "json");
    gaur::qcow2::check_options how;
    how.direct = parse_cache_mode(asked.cache, "source cache option").direct;
    how.locking = locking_of(asked.force_share);
    how.on_progress = [&shown](std::uint64_t done, std::uint64_t of) { shown.report(done, of); };
    auto report = run(how);
    if (report) { shown.report(1, 1); } // the rest holds no tables, or needs no second look
    shown.end();
    return report;
}

check_report look(host& on, const check_command& asked, const std::string& could_not) {
    check_report r = expect(shown_while(asked, [&](const gaur::qcow2::check_options& how) {
        return on.check(asked.path, how);
    }), could_not);
    print_findings(r);
    return r;
}

/// Repairs what can be repaired, and returns what is wrong afterwards. Prints the findings of the
/// check before the repair, and of the check after it.
check_report mend(host& on, const check_command& asked, repair_report& repaired) {
    using gaur::qcow2::repair_outcome;
    using gaur::qcow2::repair_scope;
    if (asked.repair != "leaks" && asked.repair != "all") {
        throw failure("Unknown option value for -r (expecting 'leaks' or 'all'): " + asked.repair);
    }
    const repair_scope scope = asked.repair == "all" ? repair_scope::all : repair_scope::leaks;
    const std::string could_not = "Could not repair '" + asked.path + "'";
    repaired = expect(shown_while(asked, [&](const gaur::qcow2::check_options& how) {
        return on.repair(asked.path, {scope, how});
    }), could_not);
    print_findings(repaired.found);
    if (repaired.outcome == repair_outcome::refused) {
        const auto* const why = repaired.obstacle();
        std::fprintf(stderr, "Nothing was repaired, and the image was not changed. %s\n",
                     why == nullptr ? "This takes -r all" : "What no repair can mend:");
        if (why != nullptr) { std::fprintf(stderr, "%s\n", why->text.c_str()); }
    }
    if (repaired.leaks_fixed + repaired.corruptions_fixed == 0) { return repaired.found; }
    if (!asked.quiet && asked.output != "json") {
        std::printf("The following inconsistencies were found and repaired:\n\n"
                    "    %" PRIu64 " leaked clusters\n"
                    "    %" PRIu64 " corruptions\n\n"
                    "Double checking the fixed image now...\n",
                    repaired.leaks_fixed, repaired.corruptions_fixed);
        std::fflush(stdout);
    }
    return look(on, asked, could_not);
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
    repair_report repaired;
    const check_report r = asked.repair.empty()
                               ? look(*on, asked, "Could not open '" + asked.path + "'")
                               : mend(*on, asked, repaired);
    if (!asked.quiet && asked.output == "json") { print_json(r, repaired, asked.path); }
    if (!asked.quiet && asked.output != "json") { print_human(r); }
    std::fflush(stdout);
    if (r.check_errors != 0) { throw failure("Check failed", could_not_check); }
    if (r.corruptions != 0) { return corrupt; }
    return r.leaks != 0 ? leaks : clean;
}

} // namespace gaur_img
