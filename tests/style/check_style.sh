#!/bin/bash
# SPDX-License-Identifier: BSL-1.0
# What a reader would stumble over: lines past 100 columns, tabs and trailing blanks, names that
# say nothing, things at the top level that do not belong there.
#   check_style.sh <root of the tree>
set -u
export LC_ALL=C.UTF-8 # columns are characters, not bytes
cd "$1" || exit 2
status=0
fault() {
    echo "$1"
    status=1
}

top=' CMakeLists.txt CMakePresets.json LICENSE README.md include examples tests benchmarks cmake build '
for entry in *; do
    [[ $top == *" $entry "* ]] || fault "$entry: the top level holds only$top"
done

folders=()
for folder in include examples tests benchmarks cmake; do
    [[ -d $folder ]] && folders+=("$folder")
done
lines() { # <pattern> <what is wrong>
    local hit
    while read -r hit; do
        fault "${hit:0:120} <- $2"
    done < <(grep -rnE --include='*.hpp' --include='*.cpp' "$1" "${folders[@]}")
}
lines '^.{101,}' 'longer than 100 columns'
lines $'\t' 'a tab'
lines '[[:space:]]+$' 'blanks at the end of the line'

while read -r name; do
    fault "$name: the name says nothing: name it after what it holds, or put it where it is used"
done < <(find "${folders[@]}" -regextype posix-extended -iregex \
    '.*/_*(details?|impls?|utils?|utilit(y|ies)|commons?|helpers?|misc|types)(\.[a-z]+)?')
exit $status
