// SPDX-License-Identifier: BSL-1.0
// A local that requires more alignment than operator new gives a frame.
#include "../probe.hpp"

#include <cstdint>
#include <memory>

struct alignas(256) block {
    int number = 42;
};

// noinline: the compiler may assume the alignment otherwise.
[[gnu::noinline]] bool aligned(const volatile void* address) {
    return reinterpret_cast<std::uintptr_t>(address) % 256 == 0;
}

task<int> probe() {
#ifdef GAUR_DISCIPLINED
    auto owned = std::make_unique<block>();
    yield_once y;
    co_await y;
    co_return aligned(owned.get()) ? owned->number : 0;
#else
    bool right = true;
    for (int size = 1; size < 64; ++size) { // move on in the heap, to exclude chance
        auto keep = std::make_unique<char[]>(static_cast<unsigned>(size) * 16);
        auto nested = []() -> task<int> {
            block local;
            yield_once y;
            co_await y;
            co_return aligned(&local) ? local.number : 0;
        };
        task<int> one = nested();
        task<int> two = nested();
        int first = co_await one;
        int second = co_await two;
        right = right && first == 42 && second == 42;
    }
    co_return right ? 42 : 0;
#endif
}
