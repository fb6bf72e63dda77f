// SPDX-License-Identifier: BSL-1.0
// Processes that write to an image in real files, with many requests in flight, and are killed at
// any moment. After each, the image checks without a corruption for gaur and for QEMU, and holds
// what the journal says, in snapshots too. The next process continues with it.
//
//   GAUR_SOAK_MINUTES=60 build/release/tests/test_soak     runs so long, with other seeds each time
//   GAUR_SEED=7 GAUR_SOAK_DIR=/some/disk …                 that seed; images on that disk
#include "clients.hpp"
#include "journal.hpp"
#include "sector_model.hpp"
#include "support/interop.hpp"

#include <gaur/exec/run_loop.hpp>
#include <gaur/exec/thread_pool.hpp>
#include <gaur/io/seeded.hpp>
#include <gaur/qcow2/repair.hpp>

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace gaur::test::soak {
namespace {

using clock = std::chrono::steady_clock;

using usual = io::threads::backend;
#if __has_include(<liburing.h>)
using ring = io::uring::backend;
result<std::unique_ptr<ring>> make_ring(bool single_thread) {
    return ring::make({.single_thread = single_thread});
}
#else
using ring = usual;
result<std::unique_ptr<ring>> make_ring(bool) { return ring::make(); }
#endif

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
    const char* const text = std::getenv(name);
    return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

qcow2::open_options follows() {
    qcow2::open_options how;
    how.references = qcow2::references::follow;
    return how;
}

/// In the process that is to be killed: over a run loop, or a strand of several threads.
std::string work_over_ring(const work_load& load, journal& told, bool pool) {
    auto made = make_ring(!pool);
    if (!made) { return "backend: " + made.error().message(); }
    if (!pool) {
        exec::run_loop<ring> loop(**made);
        return work(**made, loop.get_executor(), load, told, follows());
    }
    exec::thread_pool threads(3);
    exec::strand<ring> strand(threads, **made);
    return work(**made, strand.get_executor(), load, told, follows());
}
std::string work_over_threads(const work_load& load, journal& told) {
    const std::unique_ptr<usual> io = *usual::make();
    exec::run_loop<usual> loop(*io);
    return work(*io, loop.get_executor(), load, told, follows());
}

/// What a soak has done so far.
struct figures {
    std::uint64_t images = 0;
    std::uint64_t rounds = 0;
    std::uint64_t kills = 0;
    std::uint64_t writes = 0;
    std::uint64_t sectors = 0;
    std::uint64_t snapshots = 0;
    std::uint64_t repairs = 0;

    void print(clock::time_point since) const {
        const std::chrono::duration<double> took = clock::now() - since;
        std::printf("%.0f s: %llu images, %llu rounds, %llu kills, %llu writes, %.1f MiB, "
                    "%llu snapshots, %llu repairs\n",
                    took.count(), number(images), number(rounds), number(kills), number(writes),
                    static_cast<double>(sectors) / 2048, number(snapshots), number(repairs));
        std::fflush(stdout);
    }
    static unsigned long long number(std::uint64_t n) { return n; }
};

/// One image from its creation to its end, through some processes.
class image_soak {
  public:
    image_soak(std::uint64_t seed, std::uint32_t& next_id, figures& all)
        : random_(seed), next_id_(next_id), all_(all), folder_(folder()) {
        make();
    }

    void round(bool ends_well) {
        ++all_.rounds;
        if (ends_well) { mend(qcow2::repair_scope::leaks); }
        if (::testing::Test::HasFailure()) { return; }
        journal& told = shared();
        told.clear();
        const work_load load = some_load(ends_well);
        const bool pool = random_.coin();
        const bool in_ring = random_.below(4) != 0 && has_ring();
        SCOPED_TRACE(std::string(in_ring ? ring::name : usual::name) +
                     (in_ring && pool ? ", thread pool, " : ", run loop, ") +
                     std::to_string(load.clients) + " clients" + (load.direct ? ", direct" : ""));
        const pid_t pid = ::fork();
        if (pid == 0) {
            const std::string wrong =
                in_ring ? work_over_ring(load, told, pool) : work_over_threads(load, told);
            if (!wrong.empty()) { told.fail(wrong); }
            ::_exit(wrong.empty() ? 0 : 1);
        }
        ASSERT_GT(pid, 0);
        if (!ends_well) { kill_after(pid, told, 1 + random_.below(1U << random_.below(13))); }
        int status = 0;
        ASSERT_EQ(::waitpid(pid, &status, 0), pid);
        const bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
        EXPECT_TRUE(killed || (WIFEXITED(status) && WEXITSTATUS(status) == 0)) << status;
        EXPECT_EQ(told.wrong(), "");
        all_.kills += killed ? 1 : 0;
        look(told, load, !killed);
        if (!::testing::Test::HasFailure() && random_.below(4) == 0) { take_snapshot(); }
    }

  private:
    static constexpr std::uint32_t sectors = 32'768; // 16 MiB

    struct snapshot {
        std::string name;
        owners content;
    };

    static journal& shared() {
        static journal one;
        return one;
    }
    static std::filesystem::path folder() {
        const char* const asked = std::getenv("GAUR_SOAK_DIR");
        return asked != nullptr ? asked : std::filesystem::temp_directory_path();
    }
    static bool has_ring() {
        const auto made = make_ring(true);
        return made || !is_forbidden(made.error());
    }
    std::string path() const { return folder_.file("i.qcow2"); }

    void make() {
        ++all_.images;
        const std::unique_ptr<usual> io = *usual::make();
        driver<usual> disks(*io);
        qcow2::create_options how;
        how.size = sectors * sector_size;
        how.cluster_bits = std::uint32_t{9} + static_cast<std::uint32_t>(random_.below(9));
        how.refcount_bits = 8U << random_.below(4);
        how.lazy_refcounts = lazy_ = random_.below(4) == 0;
        holds_.assign(sectors, 0);
        if (random_.coin()) {
            how.backing_file = folder_.file("below.raw");
            how.backing_format = "raw";
            // It ends inside the disk.
            std::fill_n(holds_.begin(), sectors / 2 + random_.below(sectors / 2), next_id_++);
            write_file(how.backing_file, content_of(holds_));
        }
        const result<void> made = disks.create(path(), how);
        ASSERT_TRUE(made) << made.error().message();
        direct_ = can_be_direct();
    }
    bool can_be_direct() const {
        const int fd = ::open(path().c_str(), O_RDONLY | O_DIRECT);
        if (fd >= 0) { ::close(fd); }
        return fd >= 0;
    }
    static std::vector<std::byte> content_of(const owners& all) {
        std::vector<std::byte> bytes(all.size() * sector_size);
        for (std::uint32_t s = 0; s < all.size(); ++s) {
            fill_sectors(std::span(bytes).subspan(s * sector_size, sector_size), s, all[s]);
        }
        return bytes;
    }

    work_load some_load(bool ends_well) {
        work_load load;
        load.path = path();
        load.seed = random_.next();
        load.first_id = next_id_;
        load.sectors = sectors;
        load.settled = sectors / 16;
        load.clients = 1U << random_.below(7);
        if (ends_well) { load.writes = 500 + static_cast<std::uint32_t>(random_.below(1000)); }
        load.direct = direct_ && random_.coin();
        return load;
    }

    /// The process has ended on its own: a fault, so there is nothing left to kill. It is not
    /// reaped here.
    static bool has_ended(pid_t pid) {
        siginfo_t ended{};
        return ::waitid(P_PID, static_cast<id_t>(pid), &ended, WEXITED | WNOHANG | WNOWAIT) == 0 &&
               ended.si_pid == pid;
    }

    /// Kills the process after `events` events and a random delay: at any point of a request.
    void kill_after(pid_t pid, const journal& told, std::uint64_t events) {
        while (told.size() < events && told.wrong().empty() && !told.is_full() && !has_ended(pid)) {
            std::this_thread::yield();
        }
        const auto late = clock::now() + std::chrono::microseconds(random_.below(2000));
        while (clock::now() < late) {}
        ::kill(pid, SIGKILL);
    }

    void look(const journal& told, const work_load& load, bool closed) {
        const std::unique_ptr<usual> io = *usual::make();
        driver<usual> disks(*io);
        wait_for_lock(disks);
        // Lazy refcounts are wrong until an image is closed, and the header says so.
        const auto head = header();
        EXPECT_FALSE(closed && head.is_dirty());
        EXPECT_TRUE(lazy_ || !head.is_dirty());
        if (head.is_dirty()) { mend(qcow2::repair_scope::all); }
        // Uncommitted clusters lie behind the end of use; one window is preallocated.
        constexpr std::uint64_t disk = sectors * sector_size;
        check(disks, closed || head.is_dirty(),
              2 * disk + (closed ? 0 : qcow2::open_options().grow_ahead));

        sector_model model(std::move(holds_), load.settled);
        model.replay(told, load.first_id);
        next_id_ += model.writes();
        all_.writes += model.writes();
        all_.sectors += model.sectors_written();
        const auto read = disks.read(path(), 8, follows());
        ASSERT_TRUE(read) << read.error().message();
        std::string wrong;
        holds_ = owners_of(*read, wrong);
        EXPECT_EQ(wrong, "");
        EXPECT_EQ(model.compare(holds_, closed), "");
        EXPECT_TRUE(qemu_reads("") == *read) << "QEMU reads something else";
        for (const snapshot& s : snapshots_) {
            EXPECT_TRUE(qemu_reads("-l " + s.name) == content_of(s.content))
                << "the snapshot " << s.name << " is another";
        }
    }

    /// The kernel ends the requests of a killed process, and only then releases its locks.
    void wait_for_lock(driver<usual>& disks) {
        const auto late = clock::now() + std::chrono::seconds(60);
        for (;;) {
            const auto opened = disks.open(path(), {});
            if (opened || opened.error() != errc::held_for_writing) { return; }
            ASSERT_LT(clock::now(), late) << "a lock stays behind";
            std::this_thread::yield();
        }
    }
    qcow2::layout::header header() const {
        const std::vector<std::byte> bytes = read_file(path());
        return *qcow2::layout::parse(bytes, bytes.size());
    }
    /// `most_behind`: maximum space behind the end of use, in bytes.
    void check(driver<usual>& disks, bool is_whole, std::uint64_t most_behind) {
        const auto ours = disks.check(path());
        ASSERT_TRUE(ours) << ours.error().message();
        const qemu_verdict theirs = qemu_check(path());
        expect_same_verdict(*ours, theirs);
        EXPECT_EQ(ours->corruptions + ours->check_errors, 0U) << theirs.said;
        if (is_whole) { EXPECT_EQ(ours->leaks, 0U) << theirs.said; }
        struct stat status {};
        ASSERT_EQ(::stat(path().c_str(), &status), 0);
        const std::uint64_t taken = static_cast<std::uint64_t>(status.st_blocks) * 512;
        // The file system's blocks and their index take some space.
        constexpr std::uint64_t some = std::uint64_t{1} << 20;
        EXPECT_LE(taken, ours->image_end_offset + most_behind + some) << "space adds up";
    }
    void mend(qcow2::repair_scope what) {
        ++all_.repairs;
        const std::unique_ptr<usual> io = *usual::make();
        driver<usual> disks(*io);
        const auto r = disks.wait(
            qcow2::repair(*io, disks.get_executor(), path(), {.scope = what}));
        ASSERT_TRUE(r) << r.error().message();
        const bool well = r->outcome == qcow2::repair_outcome::mended ||
                          r->outcome == qcow2::repair_outcome::sound;
        EXPECT_TRUE(well) << (r->obstacle() != nullptr ? r->obstacle()->text : "");
        check(disks, true, 0);
    }

    std::vector<std::byte> qemu_reads(const std::string& how) {
        const std::string raw = folder_.file("raw");
        expect_runs("qemu-img convert -f qcow2 -O raw " + how + ' ' + path() + ' ' + raw);
        return read_file(raw);
    }
    void take_snapshot() {
        if (snapshots_.size() == 2) {
            expect_runs("qemu-img snapshot -d " + snapshots_.front().name + ' ' + path());
            snapshots_.pop_front();
        }
        snapshots_.push_back({'s' + std::to_string(++all_.snapshots), holds_});
        expect_runs("qemu-img snapshot -c " + snapshots_.back().name + ' ' + path());
    }

    io::seeded random_;
    std::uint32_t& next_id_;
    figures& all_;
    scratch_folder folder_;
    owners holds_;
    std::deque<snapshot> snapshots_;
    bool lazy_ = false;
    bool direct_ = false;
};

TEST(soak, killed_and_opened_again) {
    GAUR_NEEDS_QEMU_IMG();
    const bool is_short = std::getenv("GAUR_SOAK_MINUTES") == nullptr;
    const unsigned rounds_of_an_image = is_short ? 4 : 12;
    const auto begin = clock::now();
    const auto end = begin + std::chrono::minutes(from_environment("GAUR_SOAK_MINUTES", 0));
    std::uint64_t seed = from_environment("GAUR_SEED", is_short ? 1 : std::random_device{}());
    figures all;
    auto next_print = begin + std::chrono::minutes(1);
    std::uint32_t next_id = 1;
    do {
        for (unsigned n = 0; n < 3; ++n, ++seed) {
            SCOPED_TRACE("GAUR_SEED=" + std::to_string(seed));
            image_soak one(seed, next_id, all);
            for (unsigned i = 1; i <= rounds_of_an_image && !HasFailure(); ++i) {
                SCOPED_TRACE("round " + std::to_string(i));
                one.round(i % 4 == 0);
            }
            if (HasFailure()) { break; }
            if (clock::now() >= next_print) {
                all.print(begin);
                next_print += std::chrono::minutes(1);
            }
        }
    } while (clock::now() < end && !HasFailure());
    all.print(begin);
}

} // namespace
} // namespace gaur::test::soak
