#!/bin/bash
# SPDX-License-Identifier: BSL-1.0
# Every file that can hold a comment begins with its licence (a script: after its #! line).
#   check_spdx.sh <root of the tree>
set -u
cd "$1" || exit 2
status=0
while read -r file; do
    grep -Iq . "$file" || continue # empty, or not text
    if ! head -n 2 "$file" | grep -q 'SPDX-License-Identifier: BSL-1.0'; then
        echo "$file: begin it with the comment: SPDX-License-Identifier: BSL-1.0"
        status=1
    fi
done < <(find . \( -name .git -o -path ./build -o -name corpus \) -prune -o -type f \
    ! -name '*.json' ! -name '*.md' ! -name '*.svg' ! -name LICENSE -print | sort)
exit $status
