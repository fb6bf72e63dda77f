// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>

namespace gaur_img {

/// Notes the progress of the command, which SIGUSR1 prints. `of` 0: it is unknown. Costs two
/// stores.
void note_progress(std::uint64_t done, std::uint64_t of) noexcept;

/// Opens /dev/null for each of the descriptors 0, 1 and 2 that is closed, so that no image gets one
/// of them and no message is written into an image. Must be the first call of the program.
void open_standard_descriptors() noexcept;

/// SIGUSR1 (and SIGINFO) prints the progress to standard error, and the command continues. A closed
/// pipe or a limit of file sizes is an error of the write, not a signal that ends the program.
void handle_signals() noexcept;

/// During its lifetime SIGINT, SIGTERM and SIGHUP end the command in an orderly way: it checks
/// `came()`, removes what it has created, and ends. A second signal of the same number ends it at
/// once. Signals that were ignored when the program began stay ignored.
class orderly_end {
  public:
    orderly_end() noexcept;
    orderly_end(const orderly_end&) = delete;
    orderly_end& operator=(const orderly_end&) = delete;
    ~orderly_end();

    /// Whether one of them has come. It stays true after the object is destroyed.
    static bool came() noexcept;
};

/// Ends the program by the signal that has come, so that the shell sees it. Returns if none has.
void end_by_signal() noexcept;

} // namespace gaur_img
