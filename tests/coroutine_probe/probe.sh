#!/bin/bash
# SPDX-License-Identifier: BSL-1.0
# probe.sh <compiler> <form.cpp> [flags]: compiles and runs the disciplined form, which must work,
# and the forbidden one, whose outcome is recorded in <form>.txt in the working directory. Each in a
# process of its own: forbidden forms crash, or crash the compiler.
set -u
compiler=$1
source=$2
shift 2
form=$(basename "$source" .cpp)
program=$PWD/$form.program
record=$form.txt
ulimit -c 0
ulimit -s 8192 # the same stack everywhere: one form is about its depth
trap 'rm -f "$program"' EXIT

# outcome <flags>...: prints what became of it; the codes are those of probe.hpp.
outcome() {
    rm -f "$program"
    timeout 120 "$compiler" -std=c++20 -w "$@" "$source" -o "$program" >"$form.log" 2>&1
    if [[ ! -x $program ]]; then
        grep -qE 'internal compiler error|PLEASE submit a bug report' "$form.log" &&
            echo 'the compiler crashes' || echo 'does not compile'
        return
    fi
    timeout 60 "$program" >>"$form.log" 2>&1
    case $? in
    0) echo works ;;
    10) echo 'gives a wrong value' ;;
    11) echo 'constructs and destroys unequal numbers of objects' ;;
    12) echo 'uses or destroys an object that is not alive' ;;
    124) echo 'does not end' ;;
    *) echo crashes ;;
    esac
}

status=0
: >"$record"
for level in -O0 -O2; do
    disciplined=$(outcome "$level" "$@" -DGAUR_DISCIPLINED)
    if [[ $disciplined != works ]]; then
        cat "$form.log"
        echo "the disciplined form of $form fails: $disciplined ($compiler $level $*)"
        status=1
    fi
    echo "$form: $("$compiler" -dumpversion) $level $*: $(outcome "$level" "$@")" | tee -a "$record"
done
rm -f "$form.log"
exit $status
