// SPDX-License-Identifier: BSL-1.0
#pragma once

// The default: qcow2 and raw images, the synchronous backend, the inline executor. Needs Boost's
// headers and nothing else; gaur/io/uring.hpp, gaur/io/posix_aio.hpp, gaur/io/threads.hpp,
// gaur/exec/thread_pool.hpp, gaur/exec/asio.hpp and gaur/qcow2/zlib.hpp are included by whoever
// wants them, with the CMake component of the same name.

#include <gaur/async/sync_wait.hpp>     // gaur::sync_wait
#include <gaur/async/task.hpp>          // gaur::async::task
#include <gaur/async/when_all.hpp>      // gaur::async::when_all
#include <gaur/exec/inline.hpp>         // gaur::exec::inline_loop
#include <gaur/exec/run_loop.hpp>       // gaur::exec::run_loop
#include <gaur/io/memory.hpp>           // gaur::io::memory::backend
#include <gaur/io/sync.hpp>             // gaur::io::sync::backend
#include <gaur/qcow2/create.hpp>        // gaur::qcow2::create
#include <gaur/qcow2/image.hpp>         // gaur::qcow2::open, gaur::qcow2::image
#include <gaur/raw/image.hpp>           // gaur::raw::open, gaur::raw::image
#include <gaur/version.hpp>             // gaur::version, GAUR_VERSION

namespace gaur {

/// The policies of an image, each with its default: derive from it and name what differs. See
/// device::default_policies.
using default_policies = qcow2::default_policies;

} // namespace gaur
