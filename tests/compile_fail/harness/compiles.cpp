// SPDX-License-Identifier: BSL-1.0
// expect: nothing, for this compiles
int main() {}
