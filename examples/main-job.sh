#!/bin/bash
# SPDX-License-Identifier: BSL-1.0
# The main job, on real input. Makes a raw disk image out of this machine's own files. Over each
# backend, converts it to qcow2, compares the two, and writes into the image with many requests that
# overlap in shared clusters; then checks that every byte is what it should be. Installs missing
# packages, builds what it needs, and prints a table. QEMU is not needed.
#   examples/main-job.sh
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
export LC_ALL=C.UTF-8 PATH=$PATH:/usr/sbin:/sbin # for mke2fs
build=build/main-job
images=$build/images
mkdir -p "$images"
trap 'rm -rf "$images"' EXIT
log=$build/log
gaur_img=$build/examples/gaur-img

fail() {
    echo "main-job.sh: $*" >&2
    exit 1
}
# Runs a command. If it fails, prints the end of its output and ends the script.
quietly() {
    "$@" >"$log" 2>&1 || {
        tail -n 30 "$log"
        fail "failed: $*"
    }
}

build() {
    . cmake/debian-packages.sh
    install_missing "$log" "${build_packages[@]}" e2fsprogs || exit 1
    echo "Building gaur-img (a minute or two)"
    quietly cmake --preset release -B "$build" -DBUILD_TESTING=OFF -DGAUR_BENCHMARKS=OFF
    quietly cmake --build "$build" --target gaur-img -j "$(nproc)"
}

# Makes a file system of 1 GiB or more with the largest of these folders that is not too large. A
# folder with files that only root may read is skipped.
make_raw_image() {
    local folder used files
    while read -r used folder; do
        [[ -z $(find "$folder" ! -type l \( ! -readable -o -type d ! -executable \) -print -quit \
            2>/dev/null) ]] || continue
        files=$(find "$folder" 2>/dev/null | wc -l)
        raw_mib=$((used * 11 / 10 + 128))
        [[ $raw_mib -ge 1024 ]] || raw_mib=1024
        rm -f "$images/disk.raw"
        if mke2fs -q -F -t ext4 -m 0 -N $((files + files / 10 + 1000)) -d "$folder" \
            "$images/disk.raw" "${raw_mib}M" >"$log" 2>&1; then
            echo "disk.raw: an ext4 file system of $raw_mib MiB with $files files of $folder"
            return
        fi
    done < <(du -sm /usr/lib /usr/share /usr/bin 2>/dev/null | awk '$1 < 1500' | sort -rn)
    tail -n 5 "$log"
    fail "mke2fs could make a file system of none of the folders"
}

# The writes of every run: 4 KiB each, 16 of them in a cluster, 64 in flight, past the end of the
# file system, where nothing is allocated yet.
write_behind() { # <backend> <format> <image>
    "$gaur_img" bench -w -c "$writes" -d 64 -s 4k -o "${raw_mib}M" --pattern 90 -t writeback \
        --backend "$1" -f "$2" "$3"
}
writes=32768

# Makes the expected final content of the image, without an image format in between.
make_twin() {
    cp --sparse=always "$images/disk.raw" "$images/twin.raw"
    truncate -s $((raw_mib + 256))M "$images/twin.raw"
    quietly write_behind sync raw "$images/twin.raw"
    cat "$images/disk.raw" >/dev/null # warm: so that no run reads from a colder disk
}

seconds_of() { # <command>...
    local begin=$EPOCHREALTIME
    "$@" >"$log" 2>&1 || return 1
    awk -v begin="$begin" -v end="$EPOCHREALTIME" 'BEGIN { printf "%.2f", end - begin }'
}

job() { # <backend>
    local backend=$1 image=$images/disk.qcow2 convert_seconds mib waited joined said
    mib=$(du -m "$images/disk.raw" | cut -f1)
    sync # no run waits for the writes of another
    convert_seconds=$(seconds_of "$gaur_img" convert --backend "$backend" -f raw -O qcow2 \
        -o size=$((raw_mib + 256))M "$images/disk.raw" "$image") || {
        if grep -q 'Could not start the backend' "$log"; then
            printf '%-10s skipped: %s\n' "$backend" "$(tail -n 1 "$log")"
            return 0
        fi
        tail -n 5 "$log"
        fail "$backend could not convert the image"
    }
    quietly "$gaur_img" compare --backend "$backend" -f raw -F qcow2 "$images/disk.raw" "$image"
    said=$(write_behind "$backend" qcow2 "$image") || fail "$backend could not write"
    joined=$(sed -n 's/^Tracker.* \([0-9]*\) joined.*/\1/p' <<<"$said")
    waited=$(sed -n 's/^Tracker.* \([0-9]*\) waited.*/\1/p' <<<"$said")
    write_seconds=$(sed -n 's/^Run completed in \(.*\) seconds.$/\1/p' <<<"$said")
    quietly "$gaur_img" compare --backend "$backend" -f raw -F qcow2 "$images/twin.raw" "$image"
    quietly "$gaur_img" check --backend "$backend" "$image"
    printf '%-10s %8s %8.0f %10s %8s %10s %10s   %s\n' "$backend" "$convert_seconds" \
        "$(awk -v m="$mib" -v s="$convert_seconds" 'BEGIN { print m * 1.048576 / s }')" \
        "$write_seconds" "$(awk -v n="$writes" -v s="$write_seconds" \
            'BEGIN { printf "%.0f", n * 0.004096 / s }')" \
        "$joined" "$waited" "$(head -n 1 "$log")"
    rm -f "$image"
}

build
make_raw_image
make_twin
echo "Each backend converts it, writes $writes times 4 KiB into new clusters, 64 in flight, and" \
    "compares"
echo "every byte before and after with what it should be:"
printf '\n%-10s %8s %8s %10s %8s %10s %10s   %s\n' backend convert MB/s writes MB/s joined \
    'had to' "check's verdict"
printf '%-10s %8s %8s %10s %8s %10s %10s\n' '' seconds '' seconds '' '' wait
for backend in sync posix_aio uring threads; do job "$backend"; done
