// SPDX-License-Identifier: BSL-1.0
// gaur-img: qemu-img's everyday commands, over gaur.
#include "commands.hpp"
#include "failure.hpp"
#include "names.hpp"
#include "option_help.hpp"
#include "printable.hpp"
#include "signals.hpp"

#include <gaur/version.hpp>

#include <CLI/CLI.hpp>

#include <cstdio>
#include <exception>
#include <memory>
#include <string>

namespace {

using namespace gaur_img;

constexpr int compare_cannot_open = 2; // 1 means that the disks differ

const auto is_backend = CLI::IsMember({"uring", "posix_aio", "sync", "threads"});
const auto is_output = CLI::IsMember({"human", "json"});
constexpr const char* format_help = "format of the image: qcow2 or raw; looked at if not given";
constexpr const char* share_help =
    "read it even while another process writes to it: what is read may not fit together";
constexpr const char* cache_help =
    "cache mode: none, directsync (both O_DIRECT), writeback (default), writethrough or unsafe";
constexpr const char* bitmaps_help =
    "write even into an image with persistent bitmaps, which are marked as not up to date";

void add_options(CLI::App& to, bench_command& c) {
    to.add_option("-c", c.count, "requests (default 75000)");
    to.add_option("-d", c.depth, "in flight at a time (default 64)");
    to.add_option("-f", c.format, format_help);
    to.add_flag("-w", c.write, "write, not read: changes the image");
    to.add_option("-s", c.size, "size of a request (default 4k)");
    to.add_option("-S", c.step, "from one request's offset to the next (default: the size)");
    to.add_option("-o", c.offset, "of the first request (default 0)");
    to.add_option("-t", c.cache, cache_help);
    to.add_option("--flush-interval", c.flush_interval,
                  "with -w: after so many requests, let those in flight end and flush");
    to.add_option("--pattern", c.pattern, "byte to write (default 0)");
    to.add_option("-i", c.backend, "the same as --backend")->check(is_backend);
    to.add_option("--ordering", c.ordering,
                  "what a write does that meets another's allocation: join it (default), or "
                  "serialize: wait for it")
        ->check(CLI::IsMember({"join", "serialize"}));
    to.add_flag("-q", c.quiet, "leave out the figures");
    to.add_flag("--invalidate-bitmaps", c.invalidate_bitmaps, bitmaps_help);
    to.add_flag("-U,--force-share", c.force_share, share_help);
    to.add_option("filename", c.path)->required();
}

void add_options(CLI::App& to, check_command& c) {
    to.add_option("-f", c.format, format_help);
    to.add_option("--output", c.output, "human (default) or json")->check(is_output);
    to.add_option("-r,--repair", c.repair,
                  "mend what is wrong: leaks, or all; what no repair can mend stays untouched");
    to.add_option("-T", c.cache, cache_help);
    to.add_flag("-p", c.shows_progress, "show how far it is");
    to.add_flag("-q", c.quiet, "print nothing but errors: the exit code says it");
    to.add_flag("-U,--force-share", c.force_share, share_help);
    to.add_option("filename", c.path)->required();
}

void add_options(CLI::App& to, compare_command& c) {
    to.add_option("-f", c.first_format, "format of the first image; looked at if not given");
    to.add_option("-F", c.second_format, "format of the second one");
    to.add_option("-T", c.cache, cache_help);
    to.add_flag("-s", c.strict, "their sizes, and what is stored how, must be the same as well");
    to.add_flag("-p", c.shows_progress, "show how far it is");
    to.add_flag("-q", c.quiet, "print nothing: the exit code says it");
    to.add_flag("-U,--force-share", c.force_share, share_help);
    to.add_option("first", c.first)->required();
    to.add_option("second", c.second)->required();
}

void add_target_options(CLI::App& to, target_options& c) {
    to.add_option("-o", c.options, "name=value,…: cluster_size, refcount_bits, compat, "
                                   "backing_file, backing_fmt, lazy_refcounts, size; help tells of "
                                   "each")
        ->allow_extra_args(false); // one list after each -o
    to.add_option("-F", c.backing_format, "format of the backing file");
    to.add_flag("-q", c.quiet, "print nothing");
}

void add_options(CLI::App& to, convert_command& c) {
    add_target_options(to, c);
    to.add_option("-f", c.source_format, "format of the source; looked at if not given");
    to.add_option("-O", c.target_format, "format of the target: raw (default) or qcow2");
    to.add_option("-b,-B", c.backing_file,
                  "backing file of the target, with the content of the source's own: only what the "
                  "source itself holds is copied");
    to.add_flag("-n", c.no_create, "the target is there: write into it");
    to.add_flag("--target-is-zero", c.target_is_zero, "with -n: it reads as zeroes");
    to.add_flag("--invalidate-bitmaps", c.invalidate_bitmaps, bitmaps_help);
    to.add_option("-S", c.sparse, "zeroes in a row that become a hole (default 4k; 0: write all)");
    to.add_option("-m", c.in_flight, "pieces in flight, 1 to 64 (default 16)");
    to.add_flag("-W", c.out_of_order, "write out of order: always so");
    to.add_option("-T", c.source_cache, cache_help);
    to.add_option("-t", c.target_cache,
                  "cache mode of the target: none, directsync, writeback, writethrough or unsafe "
                  "(default: nothing is flushed, so a power cut soon after may lose it)");
    to.add_flag("-p", c.shows_progress, "show how far it is");
    to.add_flag("-U,--force-share", c.force_share, share_help);
    to.add_option("source", c.source);
    to.add_option("target", c.target);
    to.footer("If it fails, or SIGINT, SIGTERM or SIGHUP ends it, a target that was not there is "
              "removed, a file that was there is left empty, and the first 4096 bytes of a block "
              "device are zeroed. With -n the target keeps what has been written to it. The second "
              "such signal ends it at once. SIGUSR1 prints how far it is.");
}

void add_options(CLI::App& to, create_command& c) {
    add_target_options(to, c);
    to.add_option("-f", c.target_format, "format: raw (default) or qcow2");
    to.add_option("-b", c.backing_file, "backing file");
    to.add_flag("-u", c.unsafe, "do not look whether the backing file is there");
    to.add_option("filename", c.target);
    to.add_option("size", c.size, "of the disk; the backing file's if not given");
}

void add_options(CLI::App& to, info_command& c) {
    to.add_option("-f", c.format, format_help);
    to.add_option("--output", c.output, "human (default) or json")->check(is_output);
    to.add_flag("--backing-chain", c.backing_chain, "the backing files as well");
    to.add_flag("-U,--force-share", c.force_share, share_help);
    to.add_option("filename", c.path)->required();
}

void add_options(CLI::App& to, map_command& c) {
    to.add_option("-f", c.format, format_help);
    to.add_option("--output", c.output, "human (default) or json")->check(is_output);
    to.add_option("-s,--start-offset", c.start, "where to begin (default 0)");
    to.add_option("-l,--max-length", c.length, "how many bytes (default: to the end)");
    to.add_flag("-U,--force-share", c.force_share, share_help);
    to.add_option("filename", c.path)->required();
}

// Checks before a command runs: the files that it names, and `-o help`.

template <class Command>
bool prints_help(const Command&) {
    return false;
}

bool prints_help(const create_command& c) { return print_option_help(c); }
bool prints_help(const convert_command& c) { return print_option_help(c); }

template <class Command>
    requires requires(Command& c) { c.path; }
void check_names(Command& c) {
    c.path = path_given(c.path);
}

void check_names(compare_command& c) {
    c.first = path_given(c.first, compare_cannot_open);
    c.second = path_given(c.second, compare_cannot_open);
}

void check_names(convert_command& c) {
    if (c.source.empty() || c.target.empty()) {
        throw failure("Must specify image file name: of the source, and of the target");
    }
    c.source = path_given(c.source);
    c.target = path_given(c.target);
}

void check_names(create_command& c) {
    if (c.target.empty()) { throw failure("Expecting image file name"); }
    c.target = path_given(c.target);
}

template <class Command>
void add_command(CLI::App& program, int& exit_code, const std::string& name,
                 const std::string& does, int (*run)(const Command&), int on_failure = 1) {
    auto asked = std::make_shared<Command>();
    CLI::App& command = *program.add_subcommand(name, does);
    add_options(command, *asked);
    command
        .add_option("--backend", asked->backend,
                    "uring, posix_aio, sync or threads (default: uring where the kernel allows it, "
                    "else threads)")
        ->check(is_backend);
    command.add_flag("--no-references", asked->no_references,
                     "refuse images that name a backing file. Without this it is followed: you "
                     "named the image, so you are taken to trust what it names");
    command.add_option("--max-depth", asked->max_depth,
                       "files that a chain of backing files may have (default 64)");
    command.add_option("--backing-format", asked->lower_format,
                       "format of backing files whose image does not say it: it is never guessed");
    command.callback([asked, run, on_failure, &exit_code] {
        if (prints_help(*asked)) { return; }
        check_names(*asked);
        try {
            exit_code = run(*asked);
        } catch (const failure& why) {
            throw failure(why.what(), why.exit_code() == 1 ? on_failure : why.exit_code());
        }
    });
}

/// Reports a command that gaur-img does not have, in qemu-img's words.
void check_command_name(CLI::App& program, int argc, char** argv) {
    if (argc < 2) { throw failure("Not enough arguments\nTry 'gaur-img --help'"); }
    const std::string name = argv[1];
    const auto has_that_name = [&](const CLI::App* a) { return a->get_name() == name; };
    if (name.starts_with('-') || !program.get_subcommands(has_that_name).empty()) { return; }
    throw failure("Command not found: " + printable(name) + "\nTry 'gaur-img --help'");
}

int parse_and_run(int argc, char** argv) {
    CLI::App program("Makes, inspects, checks, converts and measures disk images, with qemu-img's "
                     "syntax.", "gaur-img");
    program.require_subcommand(1);
    program.set_version_flag("-V,--version", "gaur-img " + std::string(gaur::version_text));
    int exit_code = 0;
    add_command(program, exit_code, "bench", "Measures reads or writes of an image", &bench);
    add_command(program, exit_code, "check", "Looks whether an image is consistent", &check);
    add_command(program, exit_code, "compare", "Tells whether two disks hold the same", &compare,
                compare_cannot_open);
    add_command(program, exit_code, "convert", "Copies an image into another format", &convert);
    add_command(program, exit_code, "create", "Makes an empty image", &create);
    add_command(program, exit_code, "info", "Tells what an image is", &info);
    add_command(program, exit_code, "map", "Tells where an image's bytes are stored", &map);
    check_command_name(program, argc, argv);
    try {
        program.parse(argc, argv);
    } catch (const CLI::ParseError& why) {
        // Help is no failure. CLI11's own exit codes would clash with those of the commands.
        return program.exit(why) == 0 ? 0 : 1;
    }
    return exit_code;
}

} // namespace

int main(int argc, char** argv) {
    open_standard_descriptors();
    handle_signals();
    int exit_code = 1;
    try {
        exit_code = parse_and_run(argc, argv);
    } catch (const failure& why) {
        std::fflush(stdout);
        std::fprintf(stderr, "gaur-img: %s\n", why.what());
        exit_code = why.exit_code();
    } catch (const std::exception& why) {
        std::fprintf(stderr, "gaur-img: %s\n", why.what());
    }
    end_by_signal();
    return exit_code;
}
