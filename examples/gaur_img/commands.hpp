// SPDX-License-Identifier: BSL-1.0
#pragma once

// The commands: the options of each, and the function that runs it and returns the program's exit
// code. main.cpp fills in the options. Each command is in the file of its name.

#include "bench.hpp"
#include "host.hpp"

#include <optional>
#include <string>
#include <vector>

namespace gaur_img {

/// The options of every command.
struct common_options {
    std::string backend; ///< empty: the best one that works on this host
    bool no_references = false;
    std::string max_depth = "64";  ///< files in a chain, at most
    std::string lower_format;      ///< of backing files whose image does not name it
};

/// Puts the options about backing files into `how`. Throws failure.
void set_references(image_options& how, const common_options& asked);

struct bench_command : common_options {
    bool force_share = false;
    bool invalidate_bitmaps = false;
    bool write = false;
    std::string path;
    std::string format;
    std::string cache = "writeback";
    std::string count = "75000";
    std::string depth = "64";
    std::string size = "4k";
    std::string step = "0"; ///< 0: the size
    std::string offset = "0";
    std::string pattern = "0";
    std::string flush_interval = "0"; ///< 0: no flush
    std::string ordering = "join";
    bool quiet = false;
};
int bench(const bench_command& asked);

struct check_command : common_options {
    bool force_share = false;
    std::string repair; ///< "leaks" or "all"; empty: check only
    std::string path;
    std::string format;
    std::string output = "human";
    std::string cache = "writeback";
    bool shows_progress = false;
    bool quiet = false;
};
int check(const check_command& asked);

struct compare_command : common_options {
    bool force_share = false;
    std::string first;
    std::string first_format;
    std::string second;
    std::string second_format;
    std::string cache = "writeback";
    bool strict = false;
    bool shows_progress = false;
    bool quiet = false;
};
int compare(const compare_command& asked);

/// The options of `create` and `convert` for the image to be created.
struct target_options : common_options {
    std::string target;
    std::string target_format = "raw";
    std::optional<std::string> backing_file;
    std::string backing_format;
    std::vector<std::string> options; ///< each is a list name=value,name=value
    bool unsafe = false; ///< the backing file is not opened if a size is given
    bool quiet = false;
};

struct convert_command : target_options {
    bool force_share = false;
    bool invalidate_bitmaps = false;
    std::string source;
    std::string source_format;
    std::string source_cache = "writeback";
    std::string target_cache = "unsafe";
    std::string sparse = "4k";
    std::string in_flight = "16";
    bool no_create = false;
    bool target_is_zero = false;
    bool out_of_order = false;
    bool shows_progress = false;
};
int convert(const convert_command& asked);

struct create_command : target_options {
    std::optional<std::string> size; ///< not given: the backing file's size
};
int create(const create_command& asked);

struct info_command : common_options {
    bool force_share = false;
    std::string path;
    std::string format;
    std::string output = "human";
    bool backing_chain = false;
};
int info(const info_command& asked);

struct map_command : common_options {
    bool force_share = false;
    std::string path;
    std::string format;
    std::string output = "human";
    std::string start = "0";
    std::optional<std::string> length; ///< not given: to the end
};
int map(const map_command& asked);

} // namespace gaur_img
