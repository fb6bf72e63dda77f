// SPDX-License-Identifier: BSL-1.0
// One engine. The command line picks the backend it runs over, from those compiled in.
//
//   swap_backend [--backend uring|posix_aio|sync|threads]      all of them if none is named
#include <gaur/gaur.hpp>
#include <gaur/io/posix_aio.hpp>
#include <gaur/io/threads.hpp>
#include <gaur/io/uring.hpp>

#include <cerrno>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr std::size_t mebibyte = std::size_t{1} << 20;

/// What the program does with an image. It depends on neither backend nor executor.
template <class Image>
gaur::async::task<void> work(Image& disk) {
    std::vector<std::byte> data(4 * mebibyte, std::byte{0x5a});
    auto write = disk.write({12345}, data);
    gaur::result<void> status = co_await write;
    if (!status) { co_return status; }
    std::vector<std::byte> back(data.size());
    auto read = disk.read({12345}, back);
    status = co_await read;
    if (status && back != data) { status = gaur::error::from_errno(EIO); }
    co_return status;
}

/// The same program over the backend `B`.
template <gaur::io::IoBackend B>
gaur::result<void> run(const std::string& path) {
    auto io = B::make();
    if (!io) { return io.error(); }
    gaur::exec::run_loop<B> loop(**io);
    const auto executor = loop.get_executor();
    const auto made = gaur::sync_wait(
        **io, executor, gaur::qcow2::create(**io, executor, path, {.size = 64 * mebibyte}));
    if (!made) { return made; }
    auto opened = gaur::sync_wait(
        **io, executor, gaur::qcow2::open(**io, executor, path, {.write = true}));
    if (!opened) { return opened.error(); }
    const auto worked = gaur::sync_wait(**io, executor, work(*opened));
    if (!worked) { return worked; }
    return gaur::sync_wait(**io, executor, opened->close());
}

// A backend is a type. To swap it, name another type.
struct choice {
    std::string_view name;
    gaur::result<void> (*run)(const std::string& path);
};
constexpr choice choices[] = {
    {"uring", &run<gaur::io::uring::backend>},
    {"posix_aio", &run<gaur::io::posix_aio::backend>},
    {"sync", &run<gaur::io::sync::backend>},
    {"threads", &run<gaur::io::threads::backend>},
};

} // namespace

int main(int argc, char** argv) {
    const bool names_one = argc == 3 && argv[1] == std::string_view("--backend");
    unsigned tried = 0;
    unsigned failed = 0;
    for (const choice& c : choices) {
        if (argc != 1 && !(names_one && c.name == argv[2])) { continue; }
        ++tried;
        const gaur::result<void> outcome = c.run("swap_backend.qcow2");
        std::printf("%-10s %s\n", c.name.data(),
                    outcome ? "wrote, read back and compared 4 MiB"
                            : outcome.error().message().c_str());
        // Many containers forbid io_uring, which is not an error of this program.
        const bool forbidden = !outcome && c.name == "uring" &&
                               (outcome.error().host_errno() == EPERM ||
                                outcome.error().host_errno() == ENOSYS);
        if (!outcome && !forbidden) { ++failed; }
    }
    if (tried == 0) {
        std::fprintf(stderr, "usage: swap_backend [--backend uring|posix_aio|sync|threads]\n");
    }
    return tried != 0 && failed == 0 ? 0 : 1;
}
