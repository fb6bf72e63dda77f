// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "failure.hpp"
#include "signals.hpp"

#include <gaur/io/backend.hpp>

#include <optional>
#include <string>
#include <sys/stat.h>

namespace gaur_img {

/// The file that a command makes, until it is whole. If the command fails, or SIGINT, SIGTERM or
/// SIGHUP comes, nothing stays that could be taken for a whole image:
///
///     it was not there          it is removed
///     a file was there          it is empty; its owner and its mode stay
///     a block device            its first 4096 bytes are zeroes, on the disk too
///
/// A target that was refused before anything of it was changed stays as it was.
class unfinished_target {
  public:
    /// Nothing is changed yet.
    explicit unfinished_target(std::string path);

    /// Runs `make`, which makes the file. Throws what it throws, with what became of the file, and
    /// failure if a signal has come. No image over the file may be open when `make` ends.
    template <class Make>
    void make_whole(Make make) {
        const orderly_end ending;
        try {
            make();
            if (orderly_end::came()) { throw failure(path_ + ": interrupted"); }
        } catch (const failure& why) {
            throw failure(why.what() + discard(), why.exit_code());
        }
    }

    /// The file has been made: what it held before is gone.
    void note_made() noexcept { made_ = true; }
    /// It will not become whole. If it was not there before, removes it already, while an image
    /// over it is still open: closing may take long, and the program may be killed meanwhile.
    void give_up() noexcept;

  private:
    std::string discard() const;

    std::string path_;
    std::optional<struct stat> before_; ///< nothing: it was not there
    std::string start_before_; ///< of a file that was there
    bool made_ = false;
    bool removed_ = false;
};

} // namespace gaur_img
