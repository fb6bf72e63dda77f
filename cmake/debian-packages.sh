# SPDX-License-Identifier: BSL-1.0
# For scripts that build gaur on a fresh Debian: source it.

# What gaur and its programs need to be built.
build_packages=(g++ cmake ninja-build liburing-dev libcli11-dev nlohmann-json3-dev zlib1g-dev)
# Any Boost from 1.74 will do; asking for libboost-dev beside a newer one would be a conflict.
[[ -e /usr/include/boost/version.hpp ]] || build_packages+=(libboost-dev)

# install_missing <log> <package>...: as root or by sudo, and only if one is missing.
install_missing() {
    local log=$1 package missing=() as_root=()
    shift
    for package in "$@"; do
        dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed ||
            missing+=("$package")
    done
    [[ ${#missing[@]} -gt 0 ]] || return 0
    [[ $(id -u) -eq 0 ]] || as_root=(sudo)
    echo "Installing ${missing[*]}"
    if ! { "${as_root[@]}" apt-get update -q &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get install -q -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
        tail -n 5 "$log" >&2
        echo "${0##*/}: could not install ${missing[*]} (log: $log)." \
            "Install them by hand, or what your system calls them, and run this again." >&2
        return 1
    fi
}
