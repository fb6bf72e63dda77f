// SPDX-License-Identifier: BSL-1.0
// gaur-img: qemu-img's everyday commands, over gaur.
#include "command.hpp"
#include "failure.hpp"

#include <cstdio>
#include <exception>

int main(int argc, char** argv) {
    CLI::App program("Makes, inspects, converts and measures disk images, with qemu-img's syntax.",
                     "gaur-img");
    program.require_subcommand(1);
    int exit_code = 0;
    gaur_img::add_bench(program, exit_code);
    gaur_img::add_compare(program, exit_code);
    gaur_img::add_convert(program, exit_code);
    gaur_img::add_create(program, exit_code);
    gaur_img::add_info(program, exit_code);
    gaur_img::add_map(program, exit_code);
    try {
        program.parse(argc, argv);
    } catch (const CLI::ParseError& why) {
        // Help is no failure; CLI11's own codes would clash with the commands'.
        return program.exit(why) == 0 ? 0 : 1;
    } catch (const gaur_img::failure& why) {
        std::fflush(stdout);
        std::fprintf(stderr, "gaur-img: %s\n", why.what());
        return why.exit_code();
    } catch (const std::exception& why) {
        std::fprintf(stderr, "gaur-img: %s\n", why.what());
        return 1;
    }
    return exit_code;
}
