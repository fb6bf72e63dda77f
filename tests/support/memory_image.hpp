// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "support/reference_image.hpp"

#include <gaur/async/shard.hpp>
#include <gaur/async/sync_wait.hpp>
#include <gaur/exec/inline.hpp>
#include <gaur/io/fault.hpp>
#include <gaur/io/memory.hpp>
#include <gaur/qcow2/create.hpp>
#include <gaur/qcow2/layout/parse_header.hpp>
#include <gaur/qcow2/open.hpp>

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace gaur::test {

/// Images in memory, and what their parts need for inspection one by one. Requests end at once and
/// can be made to fail.
class memory_images {
  public:
    using backend = io::fault::backend<io::memory::backend>;
    using executor = exec::inline_loop::executor;
    using shard_type = async::shard<backend, executor>;
    using format_type = qcow2::format<shard_type>;

    explicit memory_images(const io::memory::options& how = {})
        : inner_(how), io(inner_), shard(io, loop.get_executor()) {}

  private:
    io::memory::backend inner_;

  public:
    backend io;
    exec::inline_loop loop;
    shard_type shard;

    executor get_executor() noexcept { return loop.get_executor(); }
    template <class T>
    result<T> wait(async::task<T> task) {
        return async::sync_wait(io, loop.get_executor(), std::move(task));
    }

    void create(const std::string& name, const qcow2::create_options& how) {
        const result<void> made = wait(qcow2::create(io, get_executor(), name, how));
        ASSERT_TRUE(made) << made.error().message();
    }
    result<std::unique_ptr<format_type>> load(const std::string& name,
                                              const qcow2::open_options& how = {.write = true}) {
        return wait(qcow2::load_format(shard, io, name, how));
    }

    bool contains(const std::string& name) const { return inner_.contains(name); }
    std::vector<std::byte> bytes(const std::string& name) { return inner_.content(name).bytes(); }
    void set_bytes(const std::string& name, std::span<const std::byte> bytes) {
        inner_.set_content(name, io::sparse_bytes(bytes));
    }
    qcow2::layout::header header(const std::string& name) {
        const std::vector<std::byte> all = bytes(name);
        return *qcow2::layout::parse(all, all.size());
    }
    /// The big-endian entry at a file offset.
    std::uint64_t get(const std::string& name, std::uint64_t at) {
        std::byte raw[8];
        inner_.content(name).read(at, raw, sizeof raw);
        return load_be<std::uint64_t>(raw);
    }
    template <class T = std::uint64_t>
    void set(const std::string& name, std::uint64_t at, std::type_identity_t<T> value) {
        std::byte raw[sizeof(T)];
        store_be<T>(raw, value);
        inner_.content(name).write(at, raw, sizeof raw);
    }
    reference_image::verdict check(const std::string& name) {
        return reference_image(bytes(name)).check();
    }
    const io::memory::counters& counters() const noexcept { return inner_.counters(); }
    void reset_counters() noexcept { inner_.reset_counters(); }

    /// Resolves what a format's answer reports as missing and asks again, until nothing is missing.
    template <class Ask>
    auto resolved(format_type& f, Ask ask) {
        auto answer = ask();
        while (first_of(answer)) {
            const result<void> r = wait(f.resolve(first_of(answer)));
            EXPECT_TRUE(r) << r.error().message();
            if (!r) { break; }
            answer = ask();
        }
        return answer;
    }

  private:
    static const device::missing& first_of(const device::located& l) { return l.missing; }
    static const device::missing& first_of(const device::write_plan& p) { return p.missing; }
    static const device::missing& first_of(const device::grant& g) { return g.missing; }
};

} // namespace gaur::test
