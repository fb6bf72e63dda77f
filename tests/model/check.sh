#!/bin/bash
# SPDX-License-Identifier: BSL-1.0
# Has spin try every order of events in the models here. As it is, a model must be clean; without
# any one of its rules, spin must find the fault that the rule is there for.
#   check.sh [model]...     all of them, unless named
# A run is a model, the switches for it, and what spin must find: a property's name, `deadlock`, or
# `clean`. The order in which spin looks is a matter of seconds, not of what it finds: `backwards`.
set -u
cd "$(dirname "$0")" || exit 2
for tool in spin cc timeout; do
    if ! command -v "$tool" >/dev/null; then
        echo "check.sh: skipped, there is no '$tool' (Debian: apt-get install spin gcc coreutils)"
        exit 77
    fi
done
models=("$@")
[[ ${#models[@]} -gt 0 ]] || models=(tracker epochs)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

runs() {
    cat <<'END'
tracker -                            clean
tracker SERIALIZE                    clean
tracker NO_TRACKER                   old_bytes_are_back
tracker SUSPEND_BETWEEN_ASK_AND_TRACK tracked_changes_overlap
tracker RETIRE_BEFORE_LINK           lost_update
tracker NO_LOOK_AGAIN                old_bytes_are_back
tracker UNMAP_PAST_TRACKER           old_bytes_are_back
tracker NO_WAKE_ON_ERROR             deadlock
tracker COMPANION_INHERITS_ERROR     fails_for_anothers_error
tracker COMPANION_ENDS_EARLY         bytes_are_gone
tracker JOIN_WITHOUT_DOOR            old_bytes_are_back
tracker DOOR_STAYS_OPEN              old_bytes_are_back
tracker NOT_LAID_OVER                old_bytes_are_back
tracker BARE_WITHOUT_PRISTINE        foreign_bytes
tracker LINK_WHAT_FAILED             bytes_are_gone
tracker NO_ALONE                     given_up_under_a_writer
tracker NO_GIVE_BACK                 clusters_leak
tracker NO_PINS                      foreign_bytes backwards
tracker NO_QUARANTINE                foreign_bytes backwards
epochs  -                            clean
epochs  NO_QUARANTINE                refcount_too_low
epochs  AHEAD_IN_MEMORY_ALONE        refcount_too_low
epochs  WINDOW_KEPT_AFTER_END        refcount_too_low
epochs  FREE_BEFORE_DURABLE          refcount_too_low backwards
epochs  REFCOUNT_AFTER_MAPPING       refcount_too_low
epochs  ONE_BARRIER                  refcount_too_low
epochs  MAPPINGS_NOT_FROZEN          refcount_too_low
epochs  NO_LAST_BARRIER              refcount_too_low
epochs  LINK_BEFORE_DATA             wrong_content backwards
epochs  MAPPINGS_BEFORE_DATA         wrong_content backwards
epochs  PRISTINE_AFTER_USE           wrong_content
epochs  PRISTINE_PAST_END            entry_past_end
epochs  TABLE_AFTER_POINTER          refcount_too_low
epochs  IN_PLACE_NOT_NOTED           wrong_content
epochs  DATA_WRITTEN_FORGOTTEN_LATE  wrong_content
epochs  FLUSH_SHARES_RUNNING_EPOCH   wrong_content
epochs  FAILED_BARRIER_FORGIVEN      wrong_content
epochs  FAILED_WRITES_FORGOTTEN      refcount_too_low
epochs  DURABLE_TABLE_FRESH_AGAIN    entry_past_end
epochs  FAILED_COMMIT_RELEASES       refcount_too_low
END
}

fault() { # <run> <what is wrong>; the way there follows, in words, where spin has one
    printf 'FAULT %-44s %s\n' "$1" "$2"
    failed=$((failed + 1))
}

# A rule that nobody removes is a rule that nobody tests.
failed=0
count=0
good=0
for model in "${models[@]}"; do
    while read -r switch; do
        runs | grep -qE "^$model +$switch " ||
            fault "$model $switch" "is in the model, but not in the list of runs"
    done < <(grep -E '^#(el)?if' "$model.pml" | grep -oE '[A-Z_]{4,}' | sort -u)
done

while read -r model switch expected order; do
    [[ " ${models[*]} " == *" $model "* ]] || continue
    count=$((count + 1))
    name="$model"
    options=()
    if [[ $switch != - ]]; then
        name+=" $switch"
        options=("-D$switch")
    fi
    # Only the long runs are worth an optimiser.
    [[ $expected == clean ]] && flags=(-O2) || flags=(-O0)
    [[ -n $order ]] && flags+=(-DT_REVERSE)
    rm -rf "${work:?}"/*
    cp "$model.pml" "$work"
    if ! (cd "$work" && timeout 60 spin -a "${options[@]}" "$model.pml" >log 2>&1 &&
        timeout 120 cc -w -DSAFETY -DCOLLAPSE -DVECTORSZ=2048 "${flags[@]}" -o pan pan.c >log 2>&1)
    then
        fault "$name" "cannot be compiled: $(head -n 3 "$work/log")"
        continue
    fi
    (cd "$work" && timeout 600 ./pan -m100000 -w22 >report 2>&1)
    states=$(sed -nE 's/^ *([0-9]+) states, stored.*/\1/p' "$work/report")
    if grep -qE 'error: max search depth|out of memory' "$work/report" || [[ -z $states ]]; then
        found="no end: $(tail -n 1 "$work/report")"
    elif grep -q 'invalid end state' <(grep '^pan:' "$work/report"); then
        found=deadlock
    elif grep -q '^pan:.*assertion violated' "$work/report"; then
        found=$(sed -nE 's/^pan:.*assertion violated +!?\(*([^()]*)\)* \(at.*/\1/p' "$work/report")
    elif grep -q 'errors: 0' "$work/report"; then
        found=clean
    else
        found=$(grep -m1 '^pan:' "$work/report")
    fi
    if [[ $found == "$expected" ]]; then
        good=$((good + 1))
        printf 'ok    %-44s %-26s %8d states\n' "$name" "$found" "$states"
        continue
    fi
    fault "$name" "expected $expected, found $found"
    [[ -f $work/$model.pml.trail ]] &&
        (cd "$work" && timeout 60 spin -t "${options[@]}" "$model.pml" | sed '/^#processes/,$d')
done < <(runs)

echo "$good of $count runs as expected"
[[ $failed -eq 0 && $count -gt 0 ]]
