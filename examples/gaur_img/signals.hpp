// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>

namespace gaur_img {

/// How far a command is: what SIGUSR1 prints. `of` 0: no part of it can be told. Costs two stores.
void note_progress(std::uint64_t done, std::uint64_t of) noexcept;

/// Opens /dev/null for each of the descriptors 0, 1 and 2 that is closed, so that no image becomes
/// one of them and is written to by a message. The first thing that the program does.
void open_standard_descriptors() noexcept;

/// SIGUSR1 (and SIGINFO) prints how far the command is to standard error, and it goes on. A closed
/// pipe or a limit of file sizes is an error of the write, no signal that ends the program.
void handle_signals() noexcept;

/// While it lives, SIGINT, SIGTERM and SIGHUP end the command in an orderly way: it looks at
/// `came()`, removes what it has made, and ends. The second one ends it at once. Signals that were
/// ignored when the program began stay so.
class orderly_end {
  public:
    orderly_end() noexcept;
    orderly_end(const orderly_end&) = delete;
    orderly_end& operator=(const orderly_end&) = delete;
    ~orderly_end();

    /// Whether one of them has come. It stays so when the object is gone.
    static bool came() noexcept;
};

/// Ends the program by the signal that has come, so that the shell sees that; returns if none has.
void end_by_signal() noexcept;

} // namespace gaur_img
