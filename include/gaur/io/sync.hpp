// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/error.hpp>
#include <gaur/io/backend.hpp>
#include <gaur/io/host_file.hpp>
#include <gaur/io/system_call.hpp>

#include <cerrno>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <utility>

namespace gaur::io::sync {

/// Empty. make() takes options in every backend, so that one backend can replace another.
struct options {};

/// System calls in the caller's thread: every submit() returns `done`, so code on this backend runs
/// straight through and never suspends. The default backend, and the fastest for one request at a
/// time on cached files.
class backend {
  public:
    static constexpr std::string_view name = "sync";

    using operation = io::operation;

    class file {
      public:
        io::limits limits() const noexcept { return host_.limits(); }
        result<std::uint64_t> size() const noexcept { return host_.size(); }
        file_identity identity() const noexcept { return host_.identity(); }
        file_run run_at(std::uint64_t offset) const noexcept { return host_.run_at(offset); }

      private:
        friend class backend;
        explicit file(host_file&& host) noexcept : host_(std::move(host)) {}
        host_file host_;
    };

    /// Fails only with ENOMEM. A `backend` may also be a plain variable.
    static result<std::unique_ptr<backend>> make(options = {}) noexcept {
        std::unique_ptr<backend> made(new (std::nothrow) backend);
        if (made == nullptr) { return error::from_errno(ENOMEM); }
        return made;
    }

    backend() = default;
    backend(const backend&) = delete;
    backend& operator=(const backend&) = delete;

    /// Errors are open(2)'s; EISDIR for a directory.
    result<file> open(const std::string& path, open_mode mode) {
        result<host_file> host = host_file::open(path, mode);
        if (!host) { return host.error(); }
        return file(*std::move(host));
    }

    submit_status submit(file& on, operation& op, const request& what) noexcept {
        op.begin(what);
        const io::limits asks = on.host_.limits();
        const int refused = check_request(asks, what);
        op.set_outcome(refused != 0 ? refused : run_request(on.host_.fd(), asks, op.asked()));
        return submit_status::done;
    }

    unsigned poll() noexcept { return 0; }
    unsigned wait() noexcept { return 0; }
    unsigned in_flight() const noexcept { return 0; }
};

static_assert(check_backend<backend>());

} // namespace gaur::io::sync
