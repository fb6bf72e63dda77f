// SPDX-License-Identifier: BSL-1.0
// A complete custom backend: files in memory that serve their requests when they are polled. To
// write your own, copy it, replace `serve` with your device, and run
// tests/support/backend_conformance.hpp on it, as tests/io/sync.cpp does.
#include <gaur/io/backend.hpp>
#include <gaur/io/file_lock.hpp>
#include <gaur/io/operation_queue.hpp>
#include <gaur/io/system_call.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <exception>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

class ram_disk {
    struct content {
        std::vector<std::byte> bytes;
        std::uint64_t number;
        gaur::io::lock_table locks;
    };

  public:
    static constexpr std::string_view name = "ram_disk";

    ram_disk() = default;
    ram_disk(const ram_disk&) = delete;
    ram_disk& operator=(const ram_disk&) = delete;
    ~ram_disk() { gaur::io::drain(*this); } // ends what an image has left in flight (*drained*)

    /// The handle of an open file. It holds what a request needs, and is cheap to move.
    class file {
      public:
        gaur::io::limits limits() const noexcept { return {}; } // no alignment is required
        gaur::result<std::uint64_t> size() const noexcept { return content_->bytes.size(); }
        gaur::io::file_identity identity() const noexcept { return {0, content_->number}; }

      private:
        friend class ram_disk;
        file(std::shared_ptr<content> of, gaur::io::held_lock lock, bool writable)
            : content_(std::move(of)), lock_(std::move(lock)), writable_(writable) {}
        std::shared_ptr<content> content_;
        gaur::io::held_lock lock_;
        bool writable_;
    };

    /// The caller's memory. It holds what this backend needs for a request, so submit() allocates
    /// nothing.
    class operation : public gaur::io::operation {
      public:
        using gaur::io::operation::operation;

      private:
        friend class ram_disk;
        content* target_ = nullptr;
    };

    gaur::result<file> open(const std::string& path, gaur::io::open_mode mode) {
        std::shared_ptr<content>& found = files_[path];
        if (found == nullptr) {
            if (!mode.create) { return gaur::error::from_errno(ENOENT); }
            found = std::make_shared<content>(content{{}, files_.size(), {}});
        }
        // Take the lock before anything changes (*locked*).
        auto lock = gaur::io::held_lock::take({found, &found->locks}, mode.lock);
        if (!lock) { return lock.error(); }
        if (mode.truncate) { found->bytes.clear(); }
        return file(found, *std::move(lock), mode.write);
    }

    /// Takes every request (*never_full*): the queue links the operations themselves.
    gaur::io::submit_status submit(file& on, operation& op,
                                   const gaur::io::request& what) noexcept {
        using gaur::io::opcode;
        int refused = check_request(on.limits(), what);
        const bool changes = what.code != opcode::read && what.code != opcode::flush;
        if (refused == 0 && changes && !on.writable_) { refused = EBADF; }
        if (refused != 0) {
            op.set_outcome(refused);
            return gaur::io::submit_status::done; // already ended: no callback
        }
        op.begin(what);
        op.target_ = on.content_.get();
        queue_.push(op);
        ++in_flight_;
        return gaur::io::submit_status::pending; // the callback will run, from poll() or wait()
    }

    unsigned poll() noexcept {
        const unsigned now = in_flight_; // requests that callbacks submit wait for the next call
        for (unsigned i = 0; i < now; ++i) {
            operation& op = queue_.pop();
            --in_flight_;
            op.complete(serve(*op.target_, op.asked())); // op may be destroyed by now
        }
        return now;
    }

    unsigned wait() noexcept { return poll(); } // nothing to wait for
    unsigned in_flight() const noexcept { return in_flight_; }

  private:
    /// Serves one request to its end. Returns 0 or an errno.
    static int serve(content& target, gaur::io::request& what) noexcept {
        using gaur::io::opcode;
        std::vector<std::byte>& bytes = target.bytes;
        try {
            const std::uint64_t end = what.offset + what.size;
            switch (what.code) {
            case opcode::flush: return 0;
            case opcode::truncate: bytes.resize(what.offset); return 0;
            case opcode::extend: bytes.resize(std::max(bytes.size(), end)); return 0;
            case opcode::zero:
            case opcode::discard: return EOPNOTSUPP; // the caller then writes zeroes
            case opcode::write: bytes.resize(std::max(bytes.size(), end)); break;
            case opcode::read: break;
            }
        } catch (const std::exception&) { return ENOSPC; }
        while (what.size != 0) {
            const iovec part =
                what.vectors != nullptr ? *what.vectors : iovec{what.data, what.size};
            move_part(bytes, what, part);
            advance(what, part.iov_len); // to the next buffer, if there is one
        }
        return 0;
    }

    static void move_part(std::vector<std::byte>& bytes, const gaur::io::request& what,
                          const iovec& part) noexcept {
        const std::span to(static_cast<std::byte*>(part.iov_base), part.iov_len);
        const auto from = std::span(bytes).subspan(std::min(what.offset, bytes.size()));
        const std::size_t there = std::min(to.size(), from.size());
        if (what.code == gaur::io::opcode::write) {
            std::ranges::copy(to, from.begin());
        } else {
            std::ranges::copy(from.first(there), to.begin());
            std::ranges::fill(to.subspan(there), std::byte{0}); // past the end of the file
        }
    }

    std::map<std::string, std::shared_ptr<content>> files_;
    gaur::io::operation_queue<operation> queue_;
    unsigned in_flight_ = 0;
};

static_assert(gaur::io::check_backend<ram_disk>()); // says which piece is missing

int main() {
    ram_disk disk;
    auto file = disk.open("greeting", {.write = true, .create = true});
    if (!file) { return 1; }

    static int ended = 0;
    ram_disk::operation write([](gaur::io::operation&) noexcept { ++ended; });
    ram_disk::operation read([](gaur::io::operation&) noexcept { ++ended; });
    std::array<std::byte, 6> in{};
    const std::string_view out = "hello";
    disk.submit(*file, write, gaur::io::request::write(0, std::as_bytes(std::span(out))));
    while (disk.in_flight() != 0) { disk.wait(); }
    disk.submit(*file, read, gaur::io::request::read(0, in));
    while (disk.in_flight() != 0) { disk.wait(); }

    std::printf("%s, after %d requests\n", reinterpret_cast<const char*>(in.data()), ended);
    return write.status() && read.status() && ended == 2 ? 0 : 1;
}
