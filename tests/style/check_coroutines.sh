#!/bin/bash
# SPDX-License-Identifier: BSL-1.0
# Forms of coroutine code that compilers get wrong; tests/coroutine_probe shows which, and that the
# rewritten forms work. This finds those that can be told from the text alone. Not among them:
# aggregate awaiters and over-aligned locals.
#   check_coroutines.sh <root of the tree>
set -u
cd "$1" || exit 2
folders=()
for folder in include examples; do
    [[ -d $folder ]] && folders+=("$folder")
done

find "${folders[@]}" -name '*.[hc]pp' | sort | while read -r file; do
    awk -v file="$file" '
    { text = text $0 "\n" }

    # Blanks for comments and for what is quoted, so that offsets and line numbers stay.
    function strip(s,    out, i, n, c, two, end) {
        n = length(s)
        for (i = 1; i <= n; i++) {
            c = substr(s, i, 1); two = substr(s, i, 2)
            if (two == "//") { while (i <= n && substr(s, i, 1) != "\n") i++; out = out "\n" }
            else if (two == "/*") {
                for (i += 2; i <= n && substr(s, i, 2) != "*/"; i++)
                    if (substr(s, i, 1) == "\n") out = out "\n"
                i++
            } else if (c == "\"" || (c == "\x27" && substr(s, i - 1, 1) !~ /[0-9a-fA-F]/)) {
                for (end = c; ++i <= n && substr(s, i, 1) != end;)
                    if (substr(s, i, 1) == "\\") i++
                out = out "Q"
            } else out = out c
        }
        return out
    }
    function fault(place, what,    before, line) {
        before = substr(code, 1, place)
        line = gsub(/\n/, "", before) + 1
        printf "%s:%d: %s\n", file, line, what
        bad = 1
    }
    # The awaited expression and what follows it, to the end of the statement.
    function look_forward(start,    i, c, depth, inside) {
        inside = 1
        for (i = start; i <= length(code); i++) {
            c = substr(code, i, 1)
            if (c == ";") return
            if (c == "?") {
                fault(start, "`?:` round co_await: write an if, or await into a name first")
                return
            }
            if (c == "{") {
                if (inside) fault(start, "a braced temporary or a lambda in the expression of a " \
                    "co_await: name the object first, then co_await")
                return
            }
            if (c == "}") {
                fault(start, "braces initialised from co_await: await into a name first")
                return
            }
            if (c == "(" || c == "[") depth++
            if ((c == ")" || c == "]") && --depth < 0) inside = 0
        }
    }
    # What stands before it in the same statement.
    function look_back(start,    i, c, before) {
        for (i = start; i > 0 && start - i < 400; i--) {
            c = substr(code, i, 1)
            if (c == ";" || c == "{") break
            if (c == "}" && before !~ /^[ \n]*[,)]/) break
            before = c before
        }
        if (before ~ /(^|[^A-Za-z0-9_])new[^A-Za-z0-9_]/)
            fault(start, "`new` initialised from co_await: await into a name first")
        else if (before ~ /\?/)
            fault(start, "`?:` round co_await: write an if, or await into a name first")
        else if (before ~ /}[ \n]*[,)]/)
            fault(start, "a braced temporary or a lambda before co_await in one expression: " \
                "name the object first")
    }
    END {
        code = strip(text)
        for (place = 1; (hit = match(substr(code, place), /co_await[^A-Za-z0-9_]/)) > 0;) {
            place += hit - 1
            if (substr(code, place - 9, 9) !~ /operator[ ]?$/) {
                look_back(place - 1)
                look_forward(place + 8)
                if (substr(code, place + 8, 40) ~ /^[ \n]*(\*|static_cast|std::(move|forward))/)
                    fault(place, "co_await of what a `*` or a cast gives: g++ 12 may await a " \
                        "copy; name a reference to it first")
            }
            place += 8
        }
        # await_suspend must return void or bool: handing back a handle is symmetric transfer.
        for (place = 1; (hit = match(substr(code, place), /await_suspend[ \n]*\(/)) > 0;) {
            place += hit - 1
            for (i = place - 1; i > 0 && substr(code, i, 1) !~ /[;{}]/; i--) {}
            declared = substr(code, i + 1, place - i - 1)
            rest = substr(code, place)
            match(rest, /[{;]/)
            rest = substr(rest, 1, RSTART)
            if (declared ~ /coroutine_handle/ || rest ~ /->[^;{]*coroutine_handle/)
                fault(place, "symmetric transfer overflows the stack with g++ 12 below -O2 and " \
                    "under the sanitizers: return bool, or resume through the executor")
            else if (declared ~ /(^|[^A-Za-z0-9_])auto[ \n]+$/ && rest !~ /->[ ]*(bool|void)/)
                fault(place, "await_suspend returns `auto`: say bool or void")
            place += 13
        }
        for (place = 1; (hit = match(substr(code, place), /\([ \n]*\{[^{}]*;/)) > 0;) {
            place += hit - 1
            fault(place, "a statement expression: g++ 12 fails on it in a coroutine")
            place += RLENGTH
        }
        exit bad
    }' "$file" || echo fault
done | { status=0; while read -r line; do
    if [[ $line == fault ]]; then status=1; else echo "$line"; fi
done; exit $status; }
