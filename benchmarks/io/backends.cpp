// SPDX-License-Identifier: BSL-1.0
// What a backend costs: 4 KiB reads of a cached file, `depth` of them submitted together and waited
// for. Names are io/read/<backend>/<depth>. `pread` and `liburing` do the same by hand, without
// gaur. read_direct bypasses the page cache, with memory that the kernel maps each time, and with
// memory that is registered. Columns: time and the whole process's CPU time for all of `depth`,
// then per operation heap allocations (of C++) and time.
#include <gaur/base/buffer.hpp>
#include <gaur/io/posix_aio.hpp>
#include <gaur/io/sync.hpp>
#include <gaur/io/threads.hpp>
#include <gaur/io/uring.hpp>

#include <benchmark/benchmark.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <liburing.h>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <unistd.h>
#include <vector>

static std::atomic<std::uint64_t> allocations = 0;

// noinline: otherwise g++ 12 sees free() paired with operator new, and warns.
[[gnu::noinline]] void* operator new(std::size_t size) {
    allocations.fetch_add(1, std::memory_order_relaxed);
    if (void* const memory = std::malloc(size); memory != nullptr) { return memory; }
    throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace {

using namespace gaur;

constexpr std::size_t block = 4096;
constexpr std::uint64_t blocks = 4096; // 16 MiB: in the page cache, but not in the processor's

/// Offsets that read-ahead cannot predict; the same in every run.
class offsets {
  public:
    std::uint64_t next() {
        state_ = state_ * 6364136223846793005U + 1442695040888963407U;
        return (state_ >> 33) % blocks * block;
    }

  private:
    std::uint64_t state_ = 1;
};

/// A file of its own for each benchmark, written so that it is cached.
class cached_file {
  public:
    cached_file() {
        result file = io::host_file::open(path_, {.write = true, .create = true});
        const std::vector<std::byte> content(blocks * block, std::byte{1});
        io::request write = io::request::write(0, std::span(content));
        if (!file || io::run_request(file->fd(), {}, write) != 0) { std::abort(); }
    }
    cached_file(const cached_file&) = delete;
    cached_file& operator=(const cached_file&) = delete;
    ~cached_file() { ::unlink(path_.c_str()); }
    const std::string& path() const { return path_; }

  private:
    std::string path_ = "bench_io." + std::to_string(::getpid());
};

void report(benchmark::State& state, std::uint64_t allocated) {
    const auto ops = static_cast<double>(state.iterations()) * static_cast<double>(state.range(0));
    state.counters["per_op"] =
        benchmark::Counter(ops, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
    state.counters["allocs"] = static_cast<double>(allocated) / ops;
}

template <class Backend, bool Direct = false, bool Registered = false>
void read(benchmark::State& state) {
    const cached_file on;
    result io = Backend::make();
    if (!io) { return state.SkipWithError(io.error().message().c_str()); }
    result file = (*io)->open(on.path(), {.direct = Direct});
    if (!file) { return state.SkipWithError(file.error().message().c_str()); }

    buffer_pool pool;
    const auto depth = static_cast<std::size_t>(state.range(0));
    const buffer memory = pool.take(depth * block);
    std::optional<io::uring::backend::registration> mapped;
    if constexpr (Registered) {
        auto registered = (*io)->register_memory(memory.bytes());
        if (!registered) { return state.SkipWithError(registered.error().message().c_str()); }
        mapped.emplace(*std::move(registered));
    }
    std::deque<typename Backend::operation> ops;
    for (std::size_t i = 0; i < depth; ++i) { ops.emplace_back([](io::operation&) noexcept {}); }
    offsets at;
    const auto run = [&] {
        for (std::size_t i = 0; i < depth; ++i) {
            const auto to = memory.bytes().subspan(i * block, block);
            (*io)->submit(*file, ops[i], io::request::read(at.next(), to));
        }
        while ((*io)->in_flight() != 0) { (*io)->wait(); }
    };
    run(); // warm-up: starts the host's threads and queues
    const std::uint64_t before = allocations;
    for (auto _ : state) { run(); }
    report(state, allocations - before);
}

void read_by_pread(benchmark::State& state) {
    const cached_file on;
    const result file = io::host_file::open(on.path(), {});
    buffer_pool pool;
    const auto depth = static_cast<std::size_t>(state.range(0));
    const buffer memory = pool.take(depth * block);
    offsets at;
    for (auto _ : state) {
        for (std::size_t i = 0; i < depth; ++i) {
            const auto to = memory.data() + i * block;
            if (::pread(file->fd(), to, block, static_cast<off_t>(at.next())) != block) {
                return state.SkipWithError("pread");
            }
        }
    }
    report(state, 0);
}

void read_by_liburing(benchmark::State& state) {
    const cached_file on;
    const result file = io::host_file::open(on.path(), {});
    buffer_pool pool;
    const auto depth = static_cast<unsigned>(state.range(0));
    const buffer memory = pool.take(depth * block);
    io_uring ring{};
    if (::io_uring_queue_init(256, &ring,
                              IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN) != 0) {
        return state.SkipWithError("no io_uring here");
    }
    ::io_uring_register_ring_fd(&ring);
    offsets at;
    for (auto _ : state) {
        for (unsigned i = 0; i < depth; ++i) {
            io_uring_sqe* const entry = ::io_uring_get_sqe(&ring);
            ::io_uring_prep_read(entry, file->fd(), memory.data() + i * block, block, at.next());
            ::io_uring_sqe_set_data64(entry, i);
        }
        for (unsigned left = depth; left != 0;) {
            ::io_uring_submit_and_wait(&ring, 1);
            unsigned head = 0;
            unsigned ended = 0;
            io_uring_cqe* completion = nullptr;
            io_uring_for_each_cqe(&ring, head, completion) {
                if (completion->res != static_cast<int>(block)) { std::abort(); }
                ++ended;
            }
            ::io_uring_cq_advance(&ring, ended);
            left -= ended;
        }
    }
    report(state, 0);
    ::io_uring_queue_exit(&ring);
}

void depths(benchmark::internal::Benchmark* of) {
    of->Arg(1)->Arg(32)->MeasureProcessCPUTime()->UseRealTime();
}

BENCHMARK(read_by_pread)->Name("io/read/pread")->Apply(depths);
BENCHMARK(read<io::sync::backend>)->Name("io/read/sync")->Apply(depths);
BENCHMARK(read_by_liburing)->Name("io/read/liburing")->Apply(depths);
BENCHMARK(read<io::uring::backend>)->Name("io/read/uring")->Apply(depths);
BENCHMARK(read<io::uring::backend, true>)->Name("io/read_direct/uring")->Apply(depths);
BENCHMARK(read<io::uring::backend, true, true>)->Name("io/read_direct/registered")->Apply(depths);
BENCHMARK(read<io::threads::backend>)->Name("io/read/threads")->Apply(depths);
BENCHMARK(read<io::posix_aio::backend>)->Name("io/read/posix_aio")->Apply(depths);

} // namespace
