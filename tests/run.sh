#!/bin/bash
# SPDX-License-Identifier: BSL-1.0
# Builds gaur and runs its tests on Debian 12, also on a fresh system: installs missing packages,
# then runs the named stages. Default: release, asan, tsan.
#   tests/run.sh [release] [asan] [tsan] [clang]
# asan (with ubsan) is built by clang, which takes half of g++'s time; release and tsan by g++. The
# stage clang is a quick build by clang without a sanitizer, to be started by hand.
#   GAUR_JOBS=4 tests/run.sh        parallel compilers; default: one for each processor
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
stages=("$@")
[[ ${#stages[@]} -gt 0 ]] || stages=(release asan tsan)
jobs=${GAUR_JOBS:-$(nproc)}
logs=build/logs
mkdir -p "$logs"

. cmake/debian-packages.sh
packages=("${build_packages[@]}" libgtest-dev libbenchmark-dev qemu-utils e2fsprogs spin strace)
for stage in "${stages[@]}"; do
    case $stage in
    release | tsan) ;;
    asan | clang) packages+=(clang-19 libclang-rt-19-dev) ;;
    *)
        echo "tests/run.sh: '$stage' is no stage; they are: release asan tsan clang" >&2
        exit 2
        ;;
    esac
done

# step <stage> <name> <command>...: shows the output of a failure, and logs the rest.
step() {
    local stage=$1 name=$2 log=$logs/$1-$2.log
    shift 2
    echo "[$(date +%T)] $stage: $name"
    if ! "$@" >"$log" 2>&1; then
        tail -n 60 "$log"
        echo "tests/run.sh: $name of $stage failed: $* (log: $log)"
        return 1
    fi
}

run_stage() {
    rm -f "$logs/$1"-*.log # an old log must not be taken for this run's
    local stage=$1 prefix=()
    if [[ $stage == tsan ]] && setarch "$(uname -m)" -R true 2>/dev/null; then
        # g++ 12's thread sanitizer cannot start if the kernel randomizes addresses widely.
        prefix=(setarch "$(uname -m)" -R)
    fi
    step "$stage" configure cmake --preset "$stage" -DGAUR_UNITE_TESTS=ON &&
        step "$stage" build "${prefix[@]}" cmake --build --preset "$stage" -j "$jobs" || return 1
    if [[ $stage == release ]]; then
        step release headers cmake --build --preset headers -j "$jobs" || return 1
    fi
    step "$stage" test "${prefix[@]}" ctest --preset "$stage" -j "$jobs"
}

install_missing "$logs/apt.log" "${packages[@]}" || exit 1
failed=()
for stage in "${stages[@]}"; do
    run_stage "$stage" || failed+=("$stage")
done

echo
for stage in "${stages[@]}"; do
    echo "== $stage"
    sed -n '/tests passed, .* failed out of/,$p' "$logs/$stage-test.log" 2>/dev/null |
        grep -E 'tests passed|Total Test time|Failed|Not Run|Skipped|^\s+[0-9]+ - ' || echo "no test ran"
done
if [[ ${#failed[@]} -gt 0 ]]; then
    echo "FAILED: ${failed[*]}"
    exit 1
fi
echo "PASSED: ${stages[*]}"
