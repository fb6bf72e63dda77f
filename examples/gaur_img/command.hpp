// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "host.hpp"

#include <CLI/CLI.hpp>

#include <memory>
#include <string>

namespace gaur_img {

// Each adds a command to the program, and leaves its exit code in `exit_code` when the command line
// names it. They stand in the files of their names.
void add_bench(CLI::App& program, int& exit_code);
void add_check(CLI::App& program, int& exit_code);
void add_compare(CLI::App& program, int& exit_code);
void add_convert(CLI::App& program, int& exit_code);
void add_create(CLI::App& program, int& exit_code);
void add_info(CLI::App& program, int& exit_code);
void add_map(CLI::App& program, int& exit_code);

/// What every command takes.
struct common_options {
    std::string backend;
    bool no_references = false;
};

void add_common(CLI::App& command, common_options& to);

/// Adds a command: `Options` has `add_to(CLI::App&)` and a member `common`, and `run` takes it.
template <class Options>
CLI::App& add_command(CLI::App& program, int& exit_code, const std::string& name,
                      const std::string& does, int (*run)(const Options&)) {
    auto options = std::make_shared<Options>();
    CLI::App& command = *program.add_subcommand(name, does);
    options->add_to(command);
    add_common(command, options->common);
    command.callback([options, run, &exit_code] { exit_code = run(*options); });
    return command;
}

/// The image opened, its format looked at where none is given. Throws failure with `exit_code`.
std::unique_ptr<disk> open_disk(host& on, image_options how, int exit_code = 1);

/// Whether a cache mode of qemu-img goes past the host's page cache. Throws failure where it is
/// none, or one that gaur does not have.
bool is_direct(const std::string& cache_mode, const std::string& what);

} // namespace gaur_img
