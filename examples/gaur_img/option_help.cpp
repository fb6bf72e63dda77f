// SPDX-License-Identifier: BSL-1.0
#include "option_help.hpp"

#include "failure.hpp"
#include "option_list.hpp"

#include <cstdio>

namespace gaur_img {

namespace {

struct described_option {
    const char* name;
    const char* says;
};
constexpr described_option of_qcow2[] = {
    {"backing_file=<str>", "name of the backing file"},
    {"backing_fmt=<str>", "format of the backing file: qcow2 or raw"},
    {"cluster_size=<size>", "512 to 2M, a power of two (default 64k)"},
    {"compat=<str>", "1.1 (default) or 0.10; v3 and v2 are the same"},
    {"compression_type=<str>", "zlib"},
    {"encryption=<str>", "off"},
    {"extended_l2=<bool (on/off)>", "off"},
    {"lazy_refcounts=<bool (on/off)>", "refcounts may be out of date after a crash (default off)"},
    {"preallocation=<str>", "off"},
    {"refcount_bits=<num>", "1, 2, 4, 8, 16 (default), 32 or 64"},
    {"size=<size>", "of the disk"},
};
constexpr described_option of_raw[] = {
    {"preallocation=<str>", "off"},
    {"size=<size>", "of the disk"},
};

} // namespace

bool print_option_help(const target_options& asked) {
    if (!asks_for_help(asked.options)) { return false; }
    const auto print = [&](const auto& options) {
        std::printf("Supported %s options:\n", asked.target_format.c_str());
        for (const described_option& o : options) {
            std::printf("  %-31s - %s\n", o.name, o.says);
        }
    };
    if (asked.target_format == "qcow2") {
        print(of_qcow2);
    } else if (asked.target_format == "raw") {
        print(of_raw);
    } else {
        throw failure("Unknown file format '" + asked.target_format + "'");
    }
    return true;
}

} // namespace gaur_img
