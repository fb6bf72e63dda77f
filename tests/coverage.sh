#!/bin/bash
# SPDX-License-Identifier: BSL-1.0
# How much of include/ the tests run: builds them with g++'s --coverage in build/coverage, runs each
# program once, and prints lines and branches of each header and of all. On a fresh Debian 12 it
# installs by package name what is missing. Takes the better part of an hour: no part of CI.
#   tests/coverage.sh              build, run, print
#   tests/coverage.sh missing      print the lines that no test ran, of what was run last
#   GAUR_JOBS=1 tests/coverage.sh  compilers at once; one for each processor if not set
# A line counts as run where any program's any instance of its template ran it. Branches that only an
# exception takes are left out; those that g++ makes for co_await are not, so their figure is low.
set -euo pipefail
cd "$(dirname "$0")/.."
build=build/coverage
jobs=${GAUR_JOBS:-$(nproc)}
what=${1:-all}
case $what in
all | missing) ;;
*)
    echo "tests/coverage.sh: '$what' is none of: missing" >&2
    exit 2
    ;;
esac

mkdir -p "$build"
if [[ $what == all ]]; then
    . cmake/debian-packages.sh
    install_missing "$build/apt.log" "${build_packages[@]}" libgtest-dev qemu-utils python3
    # Without optimization each line of a template is one. Threads may lose a count, but hardly all
    # counts of a line, and exact ones make the simulation several times slower.
    cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-O0 \
        -DCMAKE_CXX_FLAGS=--coverage -DGAUR_BENCHMARKS=OFF -DGAUR_UNITE_TESTS=ON \
        >"$build/configure.log"
    echo "[$(date +%T)] build"
    mapfile -t programs < <(ninja -C "$build" -t targets all |
        sed -n 's/^\(test_[a-z0-9_]*\): phony$/\1/p' | sort -u)
    if ! ninja -C "$build" -j "$jobs" "${programs[@]}" >"$build/build.log"; then
        tail -n 40 "$build/build.log"
        exit 1
    fi
    find "$build" -name '*.gcda' -delete
    for program in "${programs[@]}"; do
        echo "[$(date +%T)] $program"
        # A whole TiB takes minutes like this, and runs no line that other images do not.
        if ! GAUR_SEEDS=${GAUR_SEEDS:-10} "$build/tests/$program" --gtest_brief=1 \
            --gtest_filter='-*check_of_a_tib*' >"$build/$program.log" 2>&1; then
            tail -n 40 "$build/$program.log"
            exit 1
        fi
    done
fi

python3 - "$build" "$what" <<'PYTHON'
import collections, json, pathlib, subprocess, sys

build, what = pathlib.Path(sys.argv[1]), sys.argv[2]
include = str(pathlib.Path("include").resolve()) + "/"
lines = collections.defaultdict(lambda: collections.defaultdict(bool))     # header: line: was run
branches = collections.defaultdict(lambda: collections.defaultdict(bool))  # header: (line, n): was
for data in sorted(build.rglob("*.gcda")):
    gcov = subprocess.run(["gcov", "--json-format", "--branch-probabilities", "--stdout", data],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    for unit in gcov.stdout.splitlines():
        report = json.loads(unit)
        at = pathlib.Path(report["current_working_directory"])
        for source in report["files"]:
            path = str((at / source["file"]).resolve())
            if not path.startswith(include):
                continue
            header = path[len(include):]
            for line in source["lines"]:
                number = line["line_number"]
                lines[header][number] |= line["count"] > 0
                known = [b for b in line["branches"] if not b["throw"]]
                for n, branch in enumerate(known):
                    branches[header][number, n] |= branch["count"] > 0
if not lines:
    sys.exit("tests/coverage.sh: there is nothing in " + str(build) + "; run it without arguments")

def percent(of):
    return f"{100 * sum(of.values()) / len(of):6.1f} {sum(of.values()):6}/{len(of):<6}" if of else ""

everything = {"lines": {}, "branches": {}}
for header in sorted(lines):
    everything["lines"].update({(header, k): v for k, v in lines[header].items()})
    everything["branches"].update({(header, k): v for k, v in branches[header].items()})
    if what == "missing":
        text = open(include + header, encoding="utf-8").read().split("\n")
        for number in sorted(n for n, run in lines[header].items() if not run):
            print(f"include/{header}:{number}: {text[number - 1].strip()}")
    else:
        print(f"{header:40} lines {percent(lines[header])}  branches {percent(branches[header])}")
print(f"{'all':40} lines {percent(everything['lines'])}  branches {percent(everything['branches'])}")
PYTHON
