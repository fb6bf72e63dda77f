// SPDX-License-Identifier: BSL-1.0
// expect: policies need `using ordering`: derive them from gaur::default_policies
#include <gaur/gaur.hpp>

struct bare {};

void open_with_bare_policies(gaur::io::sync::backend& io, gaur::exec::inline_loop& loop) {
    gaur::qcow2::open<bare>(io, loop.get_executor(), "disk.qcow2");
}
