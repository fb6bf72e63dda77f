// SPDX-License-Identifier: BSL-1.0
// Does one kind of work a given number of times over the memory backend. count.sh counts its
// instructions.
#include "support/expect.hpp"

#include <gaur/gaur.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace gaur;
using bench::expect;
using backend = io::memory::backend;
using disk = qcow2::image<backend, exec::inline_loop::executor>;

constexpr std::uint64_t slice_reach = std::uint64_t{512} << 16; ///< bytes that a 4 KiB slice maps
constexpr std::uint64_t slices = 64;

void on_end(void*, result<void> status) noexcept {
    if (!status) { std::abort(); }
}

class machine {
  public:
    explicit machine(std::size_t cache_bytes) {
        wait(qcow2::create(io_, loop_.get_executor(), "i", {.size = slices * slice_reach}));
        open({.write = true});
        for (std::uint64_t i = 0; i < slices; ++i) { write(i * slice_reach); }
        wait(disk_->close());
        disk_.reset();
        open({.write = true, .cache_bytes = cache_bytes});
    }
    machine(const machine&) = delete;
    machine& operator=(const machine&) = delete;
    ~machine() { wait(disk_->close()); }

    void read(std::uint64_t at) {
        auto request = disk_->read({at}, block_);
        request.start(&on_end, nullptr);
    }
    void write(std::uint64_t at) {
        auto request = disk_->write({at}, block_);
        request.start(&on_end, nullptr);
    }

  private:
    template <class T>
    T wait(async::task<T> task) {
        return expect(sync_wait(io_, loop_.get_executor(), std::move(task)), "the image");
    }
    void open(const qcow2::open_options& how) {
        disk_.emplace(wait(qcow2::open(io_, loop_.get_executor(), "i", how)));
    }

    backend io_{{}};
    exec::inline_loop loop_;
    std::optional<disk> disk_;
    std::vector<std::byte> block_ = std::vector<std::byte>(4096, std::byte{2});
};

void run(const std::string& work, std::uint64_t count) {
    if (work == "read_hit") {
        machine m(std::size_t{1} << 20);
        for (std::uint64_t i = 0; i < count; ++i) { m.read(0); }
    } else if (work == "write_in_place") {
        machine m(std::size_t{1} << 20);
        for (std::uint64_t i = 0; i < count; ++i) { m.write(0); }
    } else if (work == "read_miss") {
        machine m(0); // each slice is evicted before its next read
        for (std::uint64_t i = 0; i < count; ++i) { m.read(i % slices * slice_reach); }
    } else {
        throw std::runtime_error("no work is called " + work);
    }
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 3) {
        std::fprintf(stderr, "%s read_hit|read_miss|write_in_place count\n", argv[0]);
        return 2;
    }
    try {
        run(argv[1], std::strtoull(argv[2], nullptr, 10));
        return 0;
    } catch (const std::exception& e) {
        std::fprintf(stderr, "%s: %s\n", argv[0], e.what());
        return 1;
    }
}
