// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <string>

namespace gaur_img {

/// The path of a file that the command line names. A leading "file:" is removed. A name with
/// another protocol of QEMU ("nbd:…", "json:…", anything with "://") is refused: throws failure
/// with `exit_code`. Any other name is a path, whatever it contains. QEMU differs: it takes "a:b"
/// for the protocol "a" and refuses it.
std::string path_given(const std::string& name, int exit_code = 1);

/// A backing file's name from the command line, in the form in which it is written into an image,
/// so that QEMU and gaur resolve it to the same file. `unopened`: a name with a protocol is kept as
/// it is, since the file is not opened. Otherwise it is refused, as above.
std::string backing_name_given(const std::string& name, bool unopened);

} // namespace gaur_img
