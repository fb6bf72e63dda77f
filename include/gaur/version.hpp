// SPDX-License-Identifier: BSL-1.0
#pragma once

// The version of these headers. CMake and pkg-config read it from here, so it is said once.
//
// gaur follows semantic versioning. Before 1.0 a new minor version may change any name; a new patch
// version changes no public name and no behaviour that a test of this project asserts. README.md,
// "Versions", says what is public.

#define GAUR_VERSION_MAJOR 0
#define GAUR_VERSION_MINOR 2
#define GAUR_VERSION_PATCH 0

/// For comparisons in the preprocessor: 0.2.0 is 200.
#define GAUR_VERSION (GAUR_VERSION_MAJOR * 10000 + GAUR_VERSION_MINOR * 100 + GAUR_VERSION_PATCH)

#define GAUR_VERSION_JOIN(major, minor, patch) #major "." #minor "." #patch
#define GAUR_VERSION_EXPAND(major, minor, patch) GAUR_VERSION_JOIN(major, minor, patch)
#define GAUR_VERSION_TEXT                                                                          \
    GAUR_VERSION_EXPAND(GAUR_VERSION_MAJOR, GAUR_VERSION_MINOR, GAUR_VERSION_PATCH)

namespace gaur {

/// The version of the headers that a program was compiled with.
struct version_number {
    int major;
    int minor;
    int patch;
};

inline constexpr version_number version{GAUR_VERSION_MAJOR, GAUR_VERSION_MINOR,
                                        GAUR_VERSION_PATCH};

/// The same as text, for `--version`.
inline constexpr const char* version_text = GAUR_VERSION_TEXT;

} // namespace gaur
