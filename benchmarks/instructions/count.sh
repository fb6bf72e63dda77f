#!/bin/bash
# SPDX-License-Identifier: BSL-1.0
# Instructions of one 4 KiB request, the engine and the memory backend together, as callgrind counts
# them: the same on every run, whatever else the machine does. The difference of two runs of
# different length, so that neither opening nor closing is in it. Copying 4 KiB from or to the
# backend's memory takes some 410 of them.
#   benchmarks/instructions/count.sh build/release/benchmarks/bench_instructions
set -euo pipefail
program=$1
counts() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" "$1" "$2" 2>&1 |
        sed -n 's/.*Collected : //p'
}
printf '| 4 KiB | instructions |\n|---|---|\n'
for work in read_hit write_in_place read_miss; do
    few=$(counts "$work" 400)
    many=$(counts "$work" 500)
    printf '| %s | %d |\n' "$work" $(((many - few) / 100))
done
