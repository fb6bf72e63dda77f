// SPDX-License-Identifier: BSL-1.0
// expect: a trivial file is refused
static_assert(sizeof(char) == 2, "a trivial file is refused");
