#!/bin/bash
# SPDX-License-Identifier: BSL-1.0
# Shows that a check can fail: gives it one good tree, then bad trees one after another, each of
# which it must refuse with the words given.
#   self_test.sh layers|mirror|spdx|style|coroutines
set -u
check=$1
here=$(cd "$(dirname "$0")" && pwd)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
status=0

good_tree() {
    rm -rf "${tree:?}"/*
    mkdir -p "$tree"/{cmake,include/gaur/{base,io,qcow2/layout},tests/{base,io,qcow2/layout}}
    cp "$here/../../cmake/gaur-components.cmake" "$tree/cmake/"
    local name
    for name in base/one io/two qcow2/layout/three; do
        write "include/gaur/$name.hpp" '#include <gaur/base/one.hpp>'
        write "tests/$name.cpp" "#include <gaur/$name.hpp>"
    done
}
write() { # <file> <text>
    mkdir -p "$(dirname "$tree/$1")"
    printf '%s\n' '// SPDX-License-Identifier: BSL-1.0' "$2" >"$tree/$1"
}
# refuses <words> <file> <text>: the good tree with this file in it is refused with these words.
refuses() {
    good_tree
    write "$2" "$3"
    expect_refusal "$1"
}
expect_refusal() {
    local output
    if output=$("$here/check_$check.sh" "$tree"); then
        echo "check_$check let this pass, where it should say \"$1\""
        status=1
    elif [[ $output != *"$1"* ]]; then
        printf 'check_%s should say "%s", but says:\n%s\n' "$check" "$1" "$output"
        status=1
    fi
}
accepts() { # <file> <text>
    good_tree
    write "$1" "$2"
    local output
    if ! output=$("$here/check_$check.sh" "$tree"); then
        printf 'check_%s refuses a good tree (%s):\n%s\n' "$check" "$2" "$output"
        status=1
    fi
}

in_body() { printf 'task<int> f() {\n    %s\n}' "$1"; }
await_refused() { refuses "$1" include/gaur/io/two.hpp "$(in_body "$2")"; }
await_accepted() { accepts include/gaur/io/two.hpp "$(in_body "$1")"; }

accepts include/gaur/base/one.hpp '#include <cstdint>'
case $check in
layers)
    refuses 'base may not include' include/gaur/base/one.hpp '#include <gaur/io/two.hpp>'
    refuses 'exec may not include' include/gaur/exec/e.hpp '# include <gaur/io/two.hpp>'
    refuses 'qcow2/layout may not' include/gaur/qcow2/layout/three.hpp '#include <gaur/io/two.hpp>'
    refuses 'raw may not include' include/gaur/raw/r.hpp '#include <gaur/qcow2/layout/three.hpp>'
    refuses 'the umbrella' include/gaur/io/two.hpp '#include <gaur/gaur.hpp>'
    refuses 'no floor' include/gaur/attic/a.hpp '#include <gaur/base/one.hpp>'
    refuses 'write <gaur/' include/gaur/io/two.hpp '#include "../base/one.hpp"'
    refuses 'includes <liburing.h>' include/gaur/io/two.hpp '#include <liburing.h>'
    refuses 'starts a thread' include/gaur/io/two.hpp 'std::thread t(f);'
    accepts include/gaur/io/two.hpp 'std::thread::id owner;'
    refuses 'needs another library' include/gaur/gaur.hpp '#include <gaur/io/uring.hpp>'
    accepts include/gaur/gaur.hpp '#include <gaur/qcow2/layout/three.hpp>'
    accepts include/gaur/io/uring.hpp '#include <liburing.h>'
    accepts include/gaur/qcow2/q.hpp '#include <gaur/qcow2/layout/three.hpp>'
    ;;
mirror)
    refuses 'has no test' include/gaur/base/lonely.hpp ''
    refuses 'its first include' tests/base/one.cpp '#include <vector>'
    refuses 'its first include' tests/io/two.cpp ''
    refuses 'that it could test' tests/io/orphan.cpp '#include <gaur/io/orphan.hpp>'
    accepts tests/simulation/anything.cpp '#include <vector>'
    ;;
spdx)
    good_tree
    echo 'int x;' >"$tree/include/gaur/base/bare.hpp"
    expect_refusal 'bare.hpp: begin it'
    good_tree
    printf '#!/bin/sh\nexit 0\n' >"$tree/cmake/tool"
    expect_refusal 'tool: begin it'
    accepts tests/io/two.cpp 'int x;'
    ;;
style)
    long=$(printf 'x%.0s' {1..101})
    refuses '100 columns' tests/io/two.cpp "// $long"
    refuses 'a tab' tests/io/two.cpp $'\tint x;'
    refuses 'blanks at the end' tests/io/two.cpp 'int x; '
    refuses 'says nothing' include/gaur/detail/x.hpp ''
    refuses 'says nothing' include/gaur/io/utils.hpp ''
    refuses 'says nothing' tests/support/helpers.hpp ''
    refuses 'top level holds only' notes.txt ''
    accepts tests/io/two.cpp "// ${long:0:96}é"
    ;;
coroutines)
    await_refused '`?:` round' 'auto x = c ? co_await a : co_await b;'
    await_refused '`?:` round' 'auto x = co_await (c ? f() : g());'
    await_refused 'braced temporary or a lambda' 'co_await f(S{1, 2});'
    await_refused 'braced temporary or a lambda' 'co_await f([x]() -> task<int> { co_return x; });'
    await_refused 'braced temporary or a lambda' 'co_await aw{};'
    await_refused 'braced temporary or a lambda' 'f(S{1}, co_await g);'
    await_refused 'braces initialised' 'S x{co_await a(), 3};'
    await_refused 'braces initialised' 'co_return {3, co_await m()};'
    await_refused 'braces initialised' 'S x{.a = f(co_await a())};'
    await_refused '`new` initialised' 'auto* x = new T(co_await a());'
    await_refused 'statement expression' 'auto x = ({ auto r = f(); r; });'
    await_refused 'may await a copy' 'auto x = co_await *pointer;'
    await_refused 'may await a copy' 'auto x = co_await std::move(operation);'
    await_refused 'symmetric transfer' \
        'std::coroutine_handle<> await_suspend(std::coroutine_handle<> h) { return h; }'
    await_refused 'symmetric transfer' \
        'auto await_suspend(handle h) -> std::coroutine_handle<> { return h; }'
    await_refused 'returns `auto`' 'auto await_suspend(std::coroutine_handle<> h) { return h; }'
    await_accepted 'bool await_suspend(std::coroutine_handle<> h) noexcept { return true; }'
    await_accepted 'if (co_await a()) { f(); } // co_await x ? y : z'
    await_accepted 'for (auto& x : co_await a()) { S y{1}; } co_await b(x, f(2));'
    await_accepted 'S named{1, 2}; auto r = co_await f(named); f({r, 2}); S t{r};'
    await_accepted 'while (auto r = co_await f()) { if (r) { g(); } else { co_await h; } }'
    await_accepted 'puts("co_await x ? y : z"); auto n = 1'"'"'000; co_await a;'
    await_accepted 'auto operator co_await() const noexcept { return awaiter{*this}; }'
    ;;
*)
    echo "self_test.sh: there is no check_$check.sh; see tests/style/"
    exit 2
    ;;
esac
exit $status
