// SPDX-License-Identifier: BSL-1.0
// expect: a sentence that no compiler says
static_assert(false, "another sentence"); // a sentence that no compiler says
