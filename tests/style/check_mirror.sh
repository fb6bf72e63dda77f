#!/bin/bash
# SPDX-License-Identifier: BSL-1.0
# include/gaur/<floor>/<header>.hpp has tests/<floor>/<header>.cpp, and the other way round; the
# test's first include is that header, which so proves that it stands alone.
#   check_mirror.sh <root of the tree>
set -u
cd "$1" || exit 2
status=0
fault() {
    echo "$1"
    status=1
}

while read -r header; do
    name=${header#include/gaur/}
    test=tests/${name%.hpp}.cpp
    # Every test program includes these, through tests/odr.cpp.
    [[ $name == gaur.hpp || $name == version.hpp ]] && continue
    if [[ ! -f $test ]]; then
        fault "$header has no test: write $test"
        continue
    fi
    first=$(grep -m1 -E '^[[:space:]]*#[[:space:]]*include' "$test")
    if [[ $first != "#include <gaur/$name>"* ]]; then
        fault "$test: its first include must be <gaur/$name>, but is: ${first:-none}"
    fi
done < <(find include/gaur -name '*.hpp' | sort)

for folder in include/gaur/*/; do
    floor=$(basename "$folder")
    [[ -d tests/$floor ]] || continue
    while read -r test; do
        header=include/gaur/${test#tests/}
        if [[ ! -f ${header%.cpp}.hpp ]]; then
            fault "$test: there is no ${header%.cpp}.hpp that it could test: rename the test, or \
put it into a folder that is no floor, such as tests/simulation"
        fi
    done < <(find "tests/$floor" -name '*.cpp' | sort)
done
exit $status
