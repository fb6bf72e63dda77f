// SPDX-License-Identifier: BSL-1.0
static_assert(false, "refused, but nobody said why");
