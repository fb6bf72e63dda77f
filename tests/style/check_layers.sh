#!/bin/bash
# SPDX-License-Identifier: BSL-1.0
# Folders are layers: fails where an include points up, or sideways, between floors, and where a
# header that belongs to no component includes a component's library.
#   check_layers.sh <root of the tree>
set -u
root=$(cd "$1" && pwd) || exit 2
cd "$root/include/gaur" || exit 2

# What each floor may include, beside itself. gaur.hpp may include any core header.
declare -A allowed=(
    [base]=""
    [io]="base"
    [exec]="base"
    [async]="base io exec"
    [track]="base"
    [cache]="base io exec async"
    [device]="base io exec async track cache"
    [raw]="base io exec async track cache device"
    [qcow2]="base io exec async track cache device raw qcow2/layout qcow2/alloc"
    [qcow2/layout]="base"
    [qcow2/alloc]="base qcow2/layout"
    [conformance]="base io exec async track cache device raw qcow2 qcow2/layout qcow2/alloc"
    [benchmark]="base io exec async track cache device raw qcow2 qcow2/layout qcow2/alloc"
)
# The headers of components, by the one table that the build and the package use.
components=$(sed -nE 's/^set\(gaur_[a-z0-9_]+_headers (.*)\)$/\1/p' "$root/cmake/gaur-components.cmake")
libraries='liburing\.h|liburing/.*|aio\.h|zlib\.h|zstd\.h|lib(deflate|isal).*|openssl/.*|gcrypt\.h'
libraries+='|gtest/.*|benchmark/benchmark\.h|boost/asio\.hpp|boost/asio/.*'

floor_of() {
    case $1 in
    qcow2/layout/* | qcow2/alloc/*) echo "${1%/*}" ;;
    */*) echo "${1%%/*}" ;;
    esac
}
is_component() { [[ " ${components//$'\n'/ } " == *" $1 "* ]]; }

status=0
fault() {
    echo "include/gaur/$1: $2"
    status=1
}
while IFS=: read -r file line text; do
    [[ $text =~ \#[[:space:]]*include[[:space:]]*([\<\"])([^\>\"]+) ]] || continue
    included=${BASH_REMATCH[2]}
    if [[ ${BASH_REMATCH[1]} == '"' ]]; then
        fault "$file:$line" "includes \"$included\": write <gaur/…>, so that the floor is seen"
    elif [[ $included == gaur/* ]]; then
        included=${included#gaur/}
        if is_component "$included" && ! is_component "$file"; then
            fault "$file:$line" "includes <gaur/$included>, which needs another library: only a \
header of a component may (cmake/gaur-components.cmake)"
        fi
        [[ $file == gaur.hpp ]] && continue
        from=$(floor_of "$file") to=$(floor_of "$included")
        if [[ ! -v allowed[$from] ]]; then
            fault "$file:$line" "stands on no floor that this check knows: add its row here"
        elif [[ $from != "$to" && " ${allowed[$from]} " != *" $to "* ]]; then
            fault "$file:$line" "$from may not include <gaur/$included> (${to:-the umbrella}): \
$from includes only itself, ${allowed[$from]:-nothing else}"
        fi
    elif [[ $included =~ ^($libraries)$ ]] && ! is_component "$file"; then
        fault "$file:$line" "includes <$included>: only a header of a component may \
(cmake/gaur-components.cmake)"
    fi
done < <(grep -rnE --include='*.hpp' '^[[:space:]]*#[[:space:]]*include' . | sed 's|^\./||')

# <thread> is the C++ library's, but to start a thread a program must link Threads::Threads.
while IFS=: read -r file line text; do
    is_component "$file" ||
        fault "$file:$line" "starts a thread: only a header of a component that links Threads may"
done < <(grep -rnE --include='*.hpp' 'std::j?thread([^:A-Za-z0-9_]|$)' . | sed 's|^\./||' |
    grep -vE ':[0-9]+:[[:space:]]*//')
exit $status
