// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "failure.hpp"
#include "signals.hpp"

#include <gaur/io/backend.hpp>

#include <optional>
#include <string>
#include <sys/stat.h>

namespace gaur_img {

/// The file that a command creates, until it is whole. If the command fails, or SIGINT, SIGTERM or
/// SIGHUP comes, nothing stays that could be taken for a whole image:
///
///     no file before            it is removed
///     a file before             it is emptied; its owner and its mode stay
///     a block device            its first 4096 bytes are zeroes, also on the device
///
/// A target that is refused before it is changed stays as it was.
class unfinished_target {
  public:
    /// Changes nothing yet.
    explicit unfinished_target(std::string path);

    /// Runs `make`, which creates the file. Throws what `make` throws, extended by what became of
    /// the file, and failure if a signal has come. No image over the file may be open when `make`
    /// ends.
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

    /// Notes that the file has been created: its old content is gone.
    void note_made() noexcept { made_ = true; }
    /// Notes that the file will not become whole. If it did not exist before, removes it now, while
    /// an image over it is still open: closing may take long, and the program may be killed
    /// meanwhile.
    void give_up() noexcept;

  private:
    std::string discard() const;

    std::string path_;
    std::optional<struct stat> before_; ///< nothing: it did not exist
    std::string start_before_; ///< of a file that existed
    bool made_ = false;
    bool removed_ = false;
};

} // namespace gaur_img
