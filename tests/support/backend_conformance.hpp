// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/buffer.hpp>
#include <gaur/io/backend.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <limits>
#include <malloc.h>
#include <memory>
#include <poll.h>
#include <sched.h>
#include <span>
#include <string>
#include <sys/mman.h>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <vector>

/// One test for each line of the contract in gaur/io/backend.hpp, named after that line, and one
/// for each opcode. A backend is added with a few lines:
///
///     struct sync_traits : gaur::test::host_traits {
///         using backend = gaur::io::sync::backend;
///         static auto make(unsigned depth) { return backend::make(); }
///     };
///     using sync_backends = ::testing::Types<sync_traits, gaur::test::direct<sync_traits>>;
///     INSTANTIATE_TYPED_TEST_SUITE_P(sync, backend_conformance, sync_backends);
///
/// `make(depth)` gives a result<std::unique_ptr<backend>>. At most `depth` operations are at the
/// host at once, if the backend has such an option. If it fails, the tests are skipped if
/// `may_be_missing` allows that error; otherwise they fail.
namespace gaur::test {

/// For backends whose files are the host's.
struct host_traits {
    /// O_DIRECT. Skipped if the file system of the working directory does not support it.
    static constexpr bool is_direct = false;
    /// The kernel checks buffers and files: bad memory gives EFAULT, and directories exist.
    static constexpr bool is_host = true;
    /// A thread may take over operations from another thread.
    static constexpr bool any_thread = true;
    static bool may_be_missing(error) { return false; }
};

/// For backends without the host.
struct memory_traits : host_traits {
    static constexpr bool is_host = false;
};

template <class Traits>
struct direct : Traits {
    static constexpr bool is_direct = true;
};

/// The alignment that O_DIRECT accepts on every host.
inline constexpr std::size_t block = 4096;

/// An operation that records how it ended and can run a continuation.
template <class Backend>
class tracked : public Backend::operation {
  public:
    tracked() : Backend::operation(&tracked::on_end) {}

    unsigned ends = 0; ///< calls of `done` and of the callback
    bool in_submit = false;
    bool called_in_submit = false;
    std::function<void()> then; ///< runs last in the callback: may destroy this

  private:
    static void on_end(io::operation& ended) noexcept {
        auto& self = static_cast<tracked&>(ended);
        ++self.ends;
        self.called_in_submit |= self.in_submit;
        if (const auto go_on = std::move(self.then)) { go_on(); }
    }
};

template <class Traits>
class backend_conformance : public ::testing::Test {
  public: // for callbacks too
    using backend = typename Traits::backend;
    using file = typename backend::file;
    void SetUp() override {
        const std::string test = ::testing::UnitTest::GetInstance()->current_test_info()->name();
        path_ = "conformance." + std::string(backend::name) +
                (Traits::is_direct ? ".direct." : ".") + test + "." + std::to_string(::getpid());
        make(8);
        if (io_ == nullptr || IsSkipped()) { return; }
        result<file> opened = io_->open(path_, mode(true));
        if (!opened && Traits::is_direct && opened.error().host_errno() == EINVAL) {
            GTEST_SKIP() << "no O_DIRECT in this directory";
        }
        ASSERT_TRUE(opened) << opened.error().message();
        file_ = std::make_unique<file>(*std::move(opened));
    }

    void TearDown() override {
        if (io_ != nullptr) {
            drain();
            EXPECT_EQ(io_->in_flight(), 0U);
        }
        if constexpr (Traits::is_host) { ::unlink(path_.c_str()); }
    }

    static io::open_mode mode(bool create) {
        return {.write = true, .create = create, .truncate = create, .direct = Traits::is_direct};
    }

    /// A new backend. The files of the previous backend are closed first.
    void make(unsigned depth) {
        file_.reset();
        io_.reset();
        auto made = Traits::make(depth);
        if (!made && Traits::may_be_missing(made.error())) {
            GTEST_SKIP() << backend::name << " is not to be had here: " << made.error().message();
        }
        ASSERT_TRUE(made) << made.error().message();
        io_ = *std::move(made);
    }

    void remake(unsigned depth) {
        make(depth);
        result<file> opened = io_->open(path_, mode(!Traits::is_host));
        ASSERT_TRUE(opened) << opened.error().message();
        file_ = std::make_unique<file>(*std::move(opened));
    }

    io::submit_status submit(tracked<backend>& op, const io::request& what) {
        op.in_submit = true;
        const io::submit_status status = io_->submit(*file_, op, what);
        op.in_submit = false;
        if (status == io::submit_status::done) { ++op.ends; }
        return status;
    }

    /// Waits until everything in flight has ended. Returns the number of operations that ended.
    unsigned drain() {
        unsigned ended = 0;
        while (io_->in_flight() != 0) { ended += io_->wait(); }
        return ended;
    }

    /// One request from start to end. Returns 0 or its errno.
    int run(const io::request& what) {
        tracked<backend> op;
        submit(op, what);
        while (op.ends == 0) { io_->wait(); }
        return op.outcome();
    }

    /// Memory for I/O, in whole blocks; each byte is `fill`.
    std::span<std::byte> memory(std::size_t size, int fill = 0xee) {
        buffers_.push_back(pool_.take(size));
        std::memset(buffers_.back().data(), fill, size);
        return buffers_.back().bytes();
    }
    /// The same, but each block has its own content: `seed` plus the block's number.
    std::span<std::byte> pattern(std::size_t size, int seed) {
        const std::span<std::byte> bytes = memory(size);
        for (std::size_t i = 0; i < size; ++i) {
            bytes[i] = static_cast<std::byte>(seed + static_cast<int>(i / block) * 7 +
                                              static_cast<int>(i % 251));
        }
        return bytes;
    }
    static bool all_are(std::span<const std::byte> bytes, int value) {
        return std::ranges::all_of(bytes, [&](std::byte b) { return b == std::byte(value); });
    }

    std::string path_;
    buffer_pool pool_;
    std::deque<buffer> buffers_;
    std::unique_ptr<backend> io_;
    std::unique_ptr<file> file_;
};

TYPED_TEST_SUITE_P(backend_conformance);

TYPED_TEST_P(backend_conformance, once) {
    using tracked_op = tracked<typename TypeParam::backend>;
    std::deque<tracked_op> ops(70);
    const auto data = this->pattern(block * ops.size(), 1);
    unsigned pending = 0;
    for (std::size_t i = 0; i < ops.size(); ++i) {
        const std::uint64_t at = i * block;
        const std::array requests = {
            io::request::write(at, data.subspan(at, block)),
            io::request::read(at, data.subspan(at, block)),
            io::request::flush(),
            io::request::range(io::opcode::zero, at, block),
            io::request::range(io::opcode::discard, at, block),
            io::request::range(io::opcode::extend, at, block),
            io::request::truncate(block * ops.size()),
        };
        const io::submit_status status = this->submit(ops[i], requests[i % requests.size()]);
        pending += status == io::submit_status::pending ? 1U : 0U;
        ASSERT_EQ(this->io_->in_flight(), pending);
    }
    EXPECT_EQ(this->drain(), pending);
    EXPECT_EQ(this->io_->poll() + this->io_->wait(), 0U);
    for (tracked_op& op : ops) {
        EXPECT_EQ(op.ends, 1U);
        EXPECT_TRUE(op.outcome() == 0 || op.outcome() == EOPNOTSUPP) << op.outcome();
    }
}

TYPED_TEST_P(backend_conformance, not_in_submit) {
    using tracked_op = tracked<typename TypeParam::backend>;
    const auto data = this->pattern(block, 1);
    std::deque<tracked_op> ops(100); // more than the depth; some of them are refused
    for (std::size_t i = 0; i < ops.size(); ++i) {
        const std::uint64_t at = i % 10 == 9 ? ~std::uint64_t{0} - 100 : i * block;
        this->submit(ops[i], io::request::write(at, data));
    }
    this->drain();
    for (tracked_op& op : ops) {
        EXPECT_EQ(op.ends, 1U);
        EXPECT_FALSE(op.called_in_submit);
    }
}

TYPED_TEST_P(backend_conformance, reentrant) {
    using tracked_op = tracked<typename TypeParam::backend>;
    // Each callback destroys its operation and submits the next one of its chain.
    struct chain {
        TestFixture& test;
        std::span<std::byte> data;
        unsigned left;
        std::unique_ptr<tracked_op> op;

        void go_on() {
            while (left != 0) {
                --left;
                op = std::make_unique<tracked_op>();
                op->then = [this] { go_on(); };
                const io::request what =
                    left % 50 == 0 ? io::request::flush() : io::request::read(0, data);
                if (test.submit(*op, what) == io::submit_status::pending) { return; }
            }
            op.reset();
        }
    };
    std::deque<chain> chains;
    for (int i = 0; i < 20; ++i) { chains.push_back({*this, this->memory(block), 200, nullptr}); }
    for (chain& c : chains) { c.go_on(); }
    this->drain();
    for (const chain& c : chains) {
        EXPECT_EQ(c.left, 0U);
        EXPECT_EQ(c.op, nullptr);
    }
}

TYPED_TEST_P(backend_conformance, borrowed) {
    using tracked_op = tracked<typename TypeParam::backend>;
    constexpr std::size_t count = 40;
    const auto out = this->pattern(count * block, 3);
    const auto in = this->memory(count * block);
    ASSERT_EQ(this->run(io::request::write(0, out)), 0);
    // The request belongs to the caller again at once. Only operation, buffers and vector are lent.
    std::array<std::unique_ptr<tracked_op>, count> ops;
    std::array<iovec, count> vectors;
    io::request what;
    std::size_t given_back = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const auto part = in.subspan(i * block, block);
        vectors[i] = {part.data(), part.size()};
        what = i % 2 == 0 ? io::request::read(i * block, part)
                          : io::request::read(i * block, std::span(&vectors[i], 1), part.size());
        // At its end everything belongs to the caller again: the content is there, and does not
        // change.
        const auto check_and_reuse = [&, i, part] {
            EXPECT_EQ(std::memcmp(part.data(), out.data() + i * block, block), 0) << i;
            std::memset(part.data(), 0x5a, block);
            ops[i].reset();
            ++given_back;
        };
        ops[i] = std::make_unique<tracked_op>();
        ops[i]->then = check_and_reuse;
        if (this->submit(*ops[i], what) == io::submit_status::done) { check_and_reuse(); }
        what = io::request::write(0, in);
    }
    this->drain();
    EXPECT_EQ(given_back, count);
    EXPECT_TRUE(this->all_are(in, 0x5a));
}

TYPED_TEST_P(backend_conformance, whole) {
    const std::size_t parts = std::min(this->file_->limits().max_vectors, 1024U);
    const auto out = this->pattern(parts * block * 2, 5);
    const auto in = this->memory(out.size());
    // Buffers of one and three blocks alternate, from the end of the memory to its start.
    std::vector<std::size_t> sizes;
    for (std::size_t i = 0; i < parts; ++i) { sizes.push_back((i % 2 == 0 ? 1 : 3) * block); }
    const auto vectors_of = [&](std::span<std::byte> bytes) {
        std::vector<iovec> vectors;
        std::size_t at = bytes.size();
        for (const std::size_t size : sizes) {
            at -= size;
            vectors.push_back({bytes.data() + at, size});
        }
        EXPECT_EQ(at, 0U);
        return vectors; // for one request: a backend may advance it
    };
    std::vector<iovec> vectors = vectors_of(out);
    EXPECT_EQ(this->run(io::request::write(block, std::span(vectors), out.size())), 0);
    EXPECT_EQ(this->run(io::request::read(block, in)), 0);
    std::size_t at = 0;
    for (const iovec& part : vectors_of(out)) {
        ASSERT_EQ(std::memcmp(in.data() + at, part.iov_base, part.iov_len), 0);
        at += part.iov_len;
    }
    std::memset(in.data(), 0, in.size());
    vectors = vectors_of(in);
    EXPECT_EQ(this->run(io::request::read(block, std::span(vectors), in.size())), 0);
    EXPECT_EQ(std::memcmp(in.data(), out.data(), out.size()), 0);
    EXPECT_EQ(this->run(io::request::read(block, in.first(0))), 0);

    if constexpr (TypeParam::is_host) {
        // The host stops in the middle, where the mapping ends: an error, never a short success.
        void* const memory = ::mmap(nullptr, 2 * block, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        ASSERT_NE(memory, MAP_FAILED);
        std::memset(memory, 1, block);
        ASSERT_EQ(::mprotect(static_cast<std::byte*>(memory) + block, block, PROT_NONE), 0);
        const std::span half(static_cast<std::byte*>(memory), 2 * block);
        EXPECT_EQ(this->run(io::request::write(0, half)), EFAULT);
        EXPECT_EQ(this->run(io::request::read(0, half)), EFAULT);
        ::munmap(memory, 2 * block);
    }
}

TYPED_TEST_P(backend_conformance, never_full) {
    using tracked_op = tracked<typename TypeParam::backend>;
    std::deque<tracked_op> ops(10'000); // the depth is 8
    const auto data = this->memory(ops.size() * block);
    const auto submit_all = [&](std::deque<tracked_op>& all) {
        for (std::size_t i = 0; i < all.size(); ++i) {
            this->submit(all[i], io::request::read(0, data.subspan(i * block, block)));
        }
    };
    std::deque<tracked_op> first(100); // the host's own queues may grow once
    submit_all(first);
    this->drain();
    // Less than a byte for each operation: the host's own threads may allocate a little. (mallinfo2
    // reports 0 under sanitizers.)
    const std::size_t before = ::mallinfo2().uordblks;
    submit_all(ops);
    const std::size_t after = ::mallinfo2().uordblks;
    EXPECT_LT(after, before + ops.size());
    this->drain();
    for (const tracked_op& op : ops) { ASSERT_EQ(op.ends, 1U); }

    // In order of submission: with one operation at a time at the host they end in that order.
    this->remake(1);
    std::vector<std::size_t> order;
    std::deque<tracked_op> one_by_one(50);
    for (std::size_t i = 0; i < one_by_one.size(); ++i) {
        const auto note = [&order, i] { order.push_back(i); };
        one_by_one[i].then = note;
        const auto to = data.subspan(i * block, block);
        if (this->submit(one_by_one[i], io::request::read(0, to)) == io::submit_status::done) {
            note();
        }
    }
    this->drain();
    EXPECT_EQ(order.size(), one_by_one.size());
    EXPECT_TRUE(std::ranges::is_sorted(order));
}

TYPED_TEST_P(backend_conformance, past_end) {
    const auto out = this->pattern(2 * block, 9);
    const auto in = this->memory(8 * block);
    ASSERT_EQ(this->run(io::request::write(0, out)), 0);
    constexpr std::size_t end = block + 1000; // in the middle of a block
    ASSERT_EQ(this->run(io::request::truncate(end)), 0);

    // One buffer; a vector whose second buffer contains the end of the file; a range entirely past
    // the end.
    EXPECT_EQ(this->run(io::request::read(0, in)), 0);
    EXPECT_EQ(std::memcmp(in.data(), out.data(), end), 0);
    EXPECT_TRUE(this->all_are(in.subspan(end), 0));
    std::memset(in.data(), 0xee, in.size());
    std::array<iovec, 3> vectors = {iovec{in.data(), block}, iovec{in.data() + block, 3 * block},
                                    iovec{in.data() + 4 * block, 4 * block}};
    EXPECT_EQ(this->run(io::request::read(0, std::span(vectors), in.size())), 0);
    EXPECT_EQ(std::memcmp(in.data(), out.data(), end), 0);
    EXPECT_TRUE(this->all_are(in.subspan(end), 0));
    std::memset(in.data(), 0xee, in.size());
    EXPECT_EQ(this->run(io::request::read(64 * block, in)), 0);
    EXPECT_TRUE(this->all_are(in, 0));
    EXPECT_EQ(*this->file_->size(), end) << "reads do not grow a file";

    EXPECT_EQ(this->run(io::request::write(16 * block, out)), 0);
    EXPECT_EQ(*this->file_->size(), 18 * block);
    EXPECT_EQ(this->run(io::request::read(10 * block, in)), 0);
    EXPECT_TRUE(this->all_are(in.first(6 * block), 0));
    EXPECT_EQ(std::memcmp(in.data() + 6 * block, out.data(), 2 * block), 0);
}

/// No power cut here: the tests of recovery cut the power over the fault backend. This test sees
/// that a flush ends without error: before any write, beside writes in flight, and after them.
TYPED_TEST_P(backend_conformance, flushed) {
    using tracked_op = tracked<typename TypeParam::backend>;
    const auto data = this->pattern(20 * block, 1);
    EXPECT_EQ(this->run(io::request::flush()), 0) << "nothing written yet";
    std::deque<tracked_op> ops(20);
    for (std::size_t i = 0; i < ops.size(); ++i) {
        this->submit(ops[i], io::request::write(i * block, data.subspan(i * block, block)));
    }
    EXPECT_EQ(this->run(io::request::flush()), 0);
    this->drain();
    EXPECT_EQ(this->run(io::request::flush()), 0);
    for (const tracked_op& op : ops) { EXPECT_EQ(op.outcome(), 0); }
}

TYPED_TEST_P(backend_conformance, idle) {
    EXPECT_EQ(this->io_->poll(), 0U);
    EXPECT_EQ(this->io_->wait(), 0U);
    EXPECT_EQ(this->run(io::request::write(0, this->memory(block))), 0);
    this->drain();
    EXPECT_EQ(this->io_->in_flight(), 0U);
    EXPECT_EQ(this->io_->wait(), 0U);
    EXPECT_EQ(this->io_->poll(), 0U);
}

TYPED_TEST_P(backend_conformance, progress) {
    using tracked_op = tracked<typename TypeParam::backend>;
    using clock = std::chrono::steady_clock;
    const auto data = this->memory(60 * block);
    const auto read_to = [&](std::size_t i) {
        return io::request::read(0, data.subspan(i * block, block));
    };
    const auto submit_all = [&](std::deque<tracked_op>& ops) {
        unsigned pending = 0;
        for (std::size_t i = 0; i < ops.size(); ++i) {
            const io::submit_status status = this->submit(ops[i], read_to(i));
            pending += status == io::submit_status::pending ? 1U : 0U;
        }
        return pending;
    };
    // wait() ends at least one operation, and returns how many it ended.
    std::deque<tracked_op> waited(30);
    for (unsigned left = submit_all(waited); left != 0;) {
        const unsigned ended = this->io_->wait();
        ASSERT_GE(ended, 1U);
        ASSERT_LE(ended, left);
        left -= ended;
        ASSERT_EQ(this->io_->in_flight(), left);
    }
    // poll() alone ends all of them too.
    const auto late = clock::now() + std::chrono::seconds(60);
    std::deque<tracked_op> polled(30);
    for (unsigned left = submit_all(polled); left != 0;) {
        left -= this->io_->poll();
        ASSERT_LT(clock::now(), late);
        ::sched_yield();
    }
    // A foreign loop sleeps until the descriptor becomes readable. It does so for every operation:
    // also for those from the backlog (the depth is 8) and for those that callbacks submit.
    if constexpr (io::PollableBackend<typename TypeParam::backend>) {
        const int descriptor = this->io_->descriptor();
        std::deque<tracked_op> more(30);
        std::deque<tracked_op> driven(30);
        for (std::size_t i = 0; i < driven.size(); ++i) {
            driven[i].then = [&, i] { this->submit(more[i], read_to(30 + i)); };
        }
        const auto drive = [&] {
            this->io_->poll();
            while (this->io_->in_flight() != 0) {
                pollfd ready{descriptor, POLLIN, 0};
                ASSERT_EQ(::poll(&ready, 1, 60'000), 1) << "the descriptor does not call";
                this->io_->poll();
            }
        };
        submit_all(driven);
        drive();
        for (const tracked_op& op : more) { EXPECT_EQ(op.ends, 1U); }
        // Also for an operation that ends on a kernel worker, long after it was submitted.
        ASSERT_EQ(this->run(io::request::write(0, this->pattern(256 * block, 3))), 0);
        tracked_op durable;
        this->submit(durable, io::request::flush());
        drive();
        EXPECT_EQ(durable.ends, 1U);
    }
}

TYPED_TEST_P(backend_conformance, unordered) {
    using tracked_op = tracked<typename TypeParam::backend>;
    constexpr std::size_t count = 64;
    // In any order: each block gets what was written to it, each read gets what was there.
    const auto old_content = this->pattern(count * block, 1);
    const auto new_content = this->pattern(count * block, 77);
    const auto in = this->memory(count * block);
    ASSERT_EQ(this->run(io::request::write(0, old_content)), 0);
    std::deque<tracked_op> ops(count);
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t at = i * block;
        this->submit(ops[i], i % 2 == 0
                                 ? io::request::write(at, new_content.subspan(at, block))
                                 : io::request::read(at, in.subspan(at, block)));
    }
    this->drain();
    const auto after = this->memory(count * block);
    ASSERT_EQ(this->run(io::request::read(0, after)), 0);
    for (std::size_t i = 0; i < count; ++i) {
        EXPECT_EQ(ops[i].outcome(), 0);
        const std::size_t at = i * block;
        const auto& expected = i % 2 == 0 ? new_content : old_content;
        EXPECT_EQ(std::memcmp(after.data() + at, expected.data() + at, block), 0) << i;
        if (i % 2 != 0) {
            EXPECT_EQ(std::memcmp(in.data() + at, old_content.data() + at, block), 0) << i;
        }
    }
}

TYPED_TEST_P(backend_conformance, refused) {
    const auto data = this->memory(2 * block);
    const io::limits asks = this->file_->limits();
    if (TypeParam::is_direct) { EXPECT_GT(asks.offset_alignment, 1U); }
    if (asks.offset_alignment > 1) {
        EXPECT_EQ(this->run(io::request::read(1, data.first(block))), EINVAL);
        EXPECT_EQ(this->run(io::request::write(1, data.first(block))), EINVAL);
        EXPECT_EQ(this->run(io::request::read(0, data.first(block - 1))), EINVAL);
        std::array<iovec, 2> odd = {iovec{data.data(), block - 1}, iovec{data.data() + block, 1}};
        EXPECT_EQ(this->run(io::request::write(0, std::span(odd), block)), EINVAL);
    }
    if (asks.memory_alignment > 1) {
        EXPECT_EQ(this->run(io::request::read(0, data.subspan(1, block))), EINVAL);
        std::array<iovec, 1> odd = {iovec{data.data() + 1, block}};
        EXPECT_EQ(this->run(io::request::write(0, std::span(odd), block)), EINVAL);
    }
    std::vector<iovec> many(asks.max_vectors + 1, iovec{data.data(), 0});
    EXPECT_EQ(this->run(io::request::read(0, std::span(many), 0)), EINVAL);
    EXPECT_EQ(this->run(io::request::write(std::uint64_t{1} << 63, data)), EINVAL);
    EXPECT_EQ(this->run(io::request::range(io::opcode::discard, ~std::uint64_t{0}, 2)), EINVAL);

    // A file that is open for reading only.
    auto writable = std::move(this->file_);
    auto reading = this->io_->open(this->path_, {.direct = TypeParam::is_direct});
    ASSERT_TRUE(reading);
    this->file_ = std::make_unique<typename TestFixture::file>(*std::move(reading));
    EXPECT_EQ(this->run(io::request::write(0, data)), EBADF);
    EXPECT_EQ(this->run(io::request::read(0, data)), 0);
    EXPECT_EQ(this->run(io::request::flush()), 0);

    if constexpr (TypeParam::is_host) {
        // A device that cannot return blocks.
        auto device = this->io_->open("/dev/null", {.write = true});
        ASSERT_TRUE(device);
        this->file_ = std::make_unique<typename TestFixture::file>(*std::move(device));
        for (const io::opcode code : {io::opcode::zero, io::opcode::discard}) {
            EXPECT_EQ(this->run(io::request::range(code, 0, block)), EOPNOTSUPP);
        }
    }
}

/// Callers that break this line cannot be tested. For callers that keep it the backend guarantees
/// this: a thread may take over operations that another thread submitted.
TYPED_TEST_P(backend_conformance, one_thread) {
    if (!TypeParam::any_thread) { GTEST_SKIP() << "this one is bound to the thread that made it"; }
    using tracked_op = tracked<typename TypeParam::backend>;
    const auto data = this->memory(20 * block);
    std::deque<tracked_op> ops(40);
    for (std::size_t i = 0; i < 20; ++i) {
        const auto part = data.subspan(i * block, block);
        ops[i].then = [&, i, part] {
            this->submit(ops[20 + i], io::request::write(i * block, part));
        };
        if (this->submit(ops[i], io::request::read(i * block, part)) == io::submit_status::done) {
            ops[i].then();
        }
    }
    this->io_->poll();
    std::thread([&] { this->drain(); }).join();
    for (const tracked_op& op : ops) { EXPECT_EQ(op.ends, 1U); }
}

TYPED_TEST_P(backend_conformance, drained) {
    using tracked_op = tracked<typename TypeParam::backend>;
    const auto data = this->memory(40 * block);
    std::deque<tracked_op> ops(40); // the depth is 8
    std::size_t left = ops.size();
    auto& io = *this->io_; // the pointer is null while its object is destroyed
    const auto read_to = [&](std::size_t i) {
        return gaur::io::request::read(0, data.subspan(i * block, block));
    };
    const auto end_one = [&] {
        if (--left == 0) { this->file_.reset(); } // as an engine closes its files with its last I/O
    };
    const auto begin = [&](std::size_t i) {
        const auto status = io.submit(*this->file_, ops[i], read_to(i));
        if (status == gaur::io::submit_status::pending) { return; }
        ++ops[i].ends;
        if (const auto then = std::move(ops[i].then)) { then(); }
    };
    for (std::size_t i = 0; i < 20; ++i) {
        ops[i].then = [&, i] {
            begin(20 + i);
            end_one();
        };
        ops[20 + i].then = end_one;
    }
    for (std::size_t i = 0; i < 20; ++i) { begin(i); }
    this->io_.reset();
    EXPECT_EQ(left, 0U);
    EXPECT_EQ(this->file_, nullptr);
    for (const tracked_op& op : ops) { EXPECT_EQ(op.ends, 1U); }
}

TYPED_TEST_P(backend_conformance, locked) {
    using tracked_op = tracked<typename TypeParam::backend>;
    using io::file_lock;
    auto& io = *this->io_;
    const auto open = [&](file_lock lock, bool truncate = false) {
        return io.open(this->path_, {.write = lock == file_lock::writer(), .truncate = truncate,
                                     .direct = TypeParam::is_direct, .lock = lock,
                                     .lock_wait = {}});
    };
    const auto why = [](const auto& opened) {
        return opened ? errc{} : static_cast<errc>(std::error_code(opened.error()).value());
    };
    ASSERT_EQ(this->run(io::request::write(0, this->memory(block))), 0);
    {
        const auto first = open(file_lock::reader());
        EXPECT_TRUE(first && open(file_lock::reader()) && open(file_lock::forced_reader()));
        EXPECT_EQ(why(open(file_lock::writer())), errc::writers_excluded);
        EXPECT_EQ(why(open(file_lock::writer(), true)), errc::writers_excluded);
        EXPECT_EQ(*this->file_->size(), block) << "a file was cut that somebody held";
    }
    auto writer = open(file_lock::writer());
    ASSERT_TRUE(writer) << "readers that are gone hold nothing";
    for (const file_lock lock : {file_lock::reader(), file_lock::writer()}) {
        EXPECT_EQ(why(open(lock)), errc::held_for_writing);
    }
    EXPECT_TRUE(open(file_lock::forced_reader()) && open({}));
    // The lock holds as long as the file is open, also after a move. It is gone at once after the
    // close, whatever was in flight.
    this->file_ = std::make_unique<typename TestFixture::file>(*std::move(writer));
    writer = error::from_errno(EBADF);
    const auto data = this->memory(20 * block);
    std::deque<tracked_op> ops(20);
    for (std::size_t i = 0; i < ops.size(); ++i) {
        this->submit(ops[i], io::request::read(0, data.subspan(i * block, block)));
    }
    this->drain();
    EXPECT_EQ(why(open(file_lock::reader())), errc::held_for_writing);
    this->file_.reset();
    const auto next = open(file_lock::writer(), true);
    ASSERT_TRUE(next) << next.error().message();
    EXPECT_EQ(*next->size(), 0U);
}

TYPED_TEST_P(backend_conformance, opens) {
    auto& io = *this->io_;
    constexpr bool is_direct = TypeParam::is_direct;
    auto missing = io.open(this->path_ + ".missing", {.direct = is_direct});
    ASSERT_FALSE(missing);
    EXPECT_EQ(missing.error().host_errno(), ENOENT);
    ASSERT_EQ(this->run(io::request::write(0, this->memory(block))), 0);

    auto again = io.open(this->path_, {.direct = is_direct});
    ASSERT_TRUE(again);
    EXPECT_EQ(again->identity(), this->file_->identity());
    EXPECT_EQ(*again->size(), block);
    auto created = io.open(this->path_, {.write = true, .create = true, .direct = is_direct});
    ASSERT_TRUE(created);
    EXPECT_EQ(*created->size(), block) << "`create` keeps what is there";
    auto cut = io.open(this->path_, {.write = true, .truncate = true, .direct = is_direct});
    ASSERT_TRUE(cut);
    EXPECT_EQ(*cut->size(), 0U);
    if constexpr (TypeParam::is_host) {
        auto folder = io.open(".", {});
        ASSERT_FALSE(folder);
        EXPECT_EQ(folder.error().host_errno(), EISDIR);
    }
}

TYPED_TEST_P(backend_conformance, ranges) {
    const auto out = this->pattern(16 * block, 1);
    const auto in = this->memory(16 * block);
    const auto same = [&](std::size_t first, std::size_t count) {
        return std::memcmp(in.data() + first * block, out.data() + first * block,
                           count * block) == 0;
    };
    const auto read_back = [&] { return this->run(io::request::read(0, in)); };
    ASSERT_EQ(this->run(io::request::write(0, out)), 0);

    for (const io::opcode code : {io::opcode::zero, io::opcode::discard}) {
        const std::size_t at = code == io::opcode::zero ? 2 : 8;
        const int outcome = this->run(io::request::range(code, at * block, 4 * block));
        if (outcome == EOPNOTSUPP) { continue; } // the file system may
        EXPECT_EQ(outcome, 0);
        ASSERT_EQ(read_back(), 0);
        EXPECT_TRUE(this->all_are(in.subspan(at * block, 4 * block), 0));
        EXPECT_TRUE(same(0, 2) && same(6, 2) && same(12, 4));
        EXPECT_EQ(this->run(io::request::range(code, 14 * block, 10 * block)), 0);
        EXPECT_EQ(*this->file_->size(), 16 * block) << "the size stays";
        EXPECT_EQ(this->run(io::request::range(code, 0, 0)), 0);
        ASSERT_EQ(this->run(io::request::write(0, out)), 0);
    }
    EXPECT_EQ(this->run(io::request::range(io::opcode::extend, 8 * block, 4 * block)), 0);
    EXPECT_EQ(*this->file_->size(), 16 * block) << "extend does not cut";
    EXPECT_EQ(this->run(io::request::range(io::opcode::extend, 8 * block, 32 * block)), 0);
    EXPECT_EQ(*this->file_->size(), 40 * block);
    ASSERT_EQ(read_back(), 0);
    EXPECT_TRUE(same(0, 16)) << "extend keeps content";
    EXPECT_EQ(this->run(io::request::truncate(3 * block)), 0);
    EXPECT_EQ(*this->file_->size(), 3 * block);
    EXPECT_EQ(this->run(io::request::truncate(16 * block)), 0);
    ASSERT_EQ(read_back(), 0);
    EXPECT_TRUE(same(0, 3));
    EXPECT_TRUE(this->all_are(in.subspan(3 * block), 0));
}

TYPED_TEST_P(backend_conformance, holes) {
    if constexpr (!io::ReportsHoles<typename TestFixture::file>) {
        GTEST_SKIP() << "this backend's files do not know their holes";
    } else {
        constexpr std::uint64_t last = std::numeric_limits<std::int64_t>::max();
        ASSERT_EQ(this->run(io::request::write(64 * block, this->pattern(8 * block, 1))), 0);
        const io::file_run past = this->file_->run_at(80 * block);
        if (!past.is_hole) { GTEST_SKIP() << "this file system does not know its holes"; }
        EXPECT_EQ(past.size, last - 80 * block);
        EXPECT_EQ(this->file_->run_at(72 * block).size, last - 72 * block);

        const io::file_run front = this->file_->run_at(block);
        EXPECT_TRUE(front.is_hole);
        EXPECT_EQ(front.size, 63 * block);
        const io::file_run data = this->file_->run_at(66 * block + 1);
        EXPECT_FALSE(data.is_hole);
        EXPECT_EQ(data.size, 6 * block - 1);
        // The result of an operation that has ended is visible.
        ASSERT_EQ(this->run(io::request::write(0, this->pattern(block, 2))), 0);
        EXPECT_FALSE(this->file_->run_at(0).is_hole);
        EXPECT_TRUE(this->file_->run_at(32 * block).is_hole);
        if (this->run(io::request::range(io::opcode::discard, 0, block)) == 0) {
            EXPECT_TRUE(this->file_->run_at(0).is_hole);
        }
    }
}

REGISTER_TYPED_TEST_SUITE_P(backend_conformance, once, not_in_submit, reentrant, borrowed, whole,
                            never_full, past_end, flushed, idle, progress, unordered, refused,
                            one_thread, drained, locked, opens, ranges, holes);

} // namespace gaur::test
