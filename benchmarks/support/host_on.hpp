// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "before_2009.hpp"
#include "host.hpp"
#include "player.hpp"

#include <gaur/async/sync_wait.hpp>
#include <gaur/exec/run_loop.hpp>
#include <gaur/qcow2/check.hpp>
#include <gaur/qcow2/create.hpp>
#include <gaur/qcow2/image.hpp>
#include <gaur/raw/image.hpp>

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace gaur::bench {

template <io::IoBackend B>
class host_on final : public host {
    using executor = typename exec::run_loop<B>::executor;

  public:
    explicit host_on(std::unique_ptr<B> io) : io_(std::move(io)), loop_(*io_) {}

    std::string_view name() const noexcept override { return B::name; }

    outcome run(const image& on, const pattern& how) override {
        return with_disk(on, true, [&](auto& disk) {
            load<std::remove_reference_t<decltype(disk)>> all(disk, how);
            return measure(disk, all, how.what == device::verb::write, on.path);
        });
    }

    outcome replay(const image& on, const std::vector<trace::line>& steps,
                   const replay_options& how) override {
        std::optional<witness> watched;
        if (how.verify) { watched.emplace(steps); }
        const outcome o = with_disk(on, true, [&](auto& disk) {
            player<std::remove_reference_t<decltype(disk)>> all(disk, steps, how.depth,
                                                                watched ? &*watched : nullptr);
            return measure(disk, all, true, on.path);
        });
        if (watched) { verify(on, *watched); }
        return o;
    }

    std::uint64_t count_extents(const image& on) override {
        return wait(count(*this, on), on.path);
    }

  private:
    template <class T>
    T wait(async::task<T> task, const std::string& what) {
        return expect(sync_wait(*io_, loop_.get_executor(), std::move(task)), what);
    }

    /// Opens the image, after creating it if it is new, and closes it.
    template <class F>
    outcome with_disk(const image& on, bool write, F f) {
        if (on.kind == kind::raw) {
            return closing(raw::open(*io_, loop_.get_executor(), on.path,
                                     {write, on.direct, write && on.create != 0, on.create}),
                           on, f);
        }
        if (write && on.create != 0) {
            qcow2::create_options fresh{.size = on.create};
            fresh.backing_file = on.raw_backing;
            if (!on.raw_backing.empty()) { fresh.backing_format = "raw"; }
            wait(qcow2::create(*io_, loop_.get_executor(), on.path, fresh), on.path);
        }
        const qcow2::open_options how{.write = write,
                                      .direct = on.direct,
                                      .references = qcow2::references::follow,
                                      .cache_bytes = on.cache_bytes};
        switch (on.kind) {
        case kind::before_2009: return with_qcow2<before_2009>(on, how, f);
        case kind::serialize: return with_qcow2<track::serialize>(on, how, f);
        default: return with_qcow2<track::join>(on, how, f);
        }
    }
    template <track::Ordering Order, class F>
    outcome with_qcow2(const image& on, const qcow2::open_options& how, F f) {
        return closing(
            qcow2::open<qcow2::ordered_by<Order>>(*io_, loop_.get_executor(), on.path, how), on, f);
    }
    template <class Disk, class F>
    outcome closing(async::task<Disk> opening, const image& on, F f) {
        Disk disk = wait(std::move(opening), on.path);
        const outcome o = f(disk);
        wait(disk.close(), on.path);
        return o;
    }

    template <class Disk, class Driver>
    outcome measure(Disk& disk, Driver& driver, bool writes, const std::string& path) {
        outcome o;
        const std::uint64_t device_writes = count_writes();
        const spent before = spent_on(*io_);
        o.bare = driver.run();
        o.device_writes = count_writes() - device_writes;
        note_commits(disk, o.before_flush);
        if (writes) {
            auto flush = disk.flush();
            expect(sync_wait(flush), path);
        }
        o.flushed = spent_on(*io_) - before;
        note_commits(disk, o.commits);
        o.tracker = disk.tracker_figures();
        return o;
    }

    template <class Disk>
    static void note_commits(Disk& disk, qcow2::commit_figures& to) {
        if constexpr (requires { disk.engine().top().figures(); }) {
            to = disk.engine().top().figures();
        }
    }

    std::uint64_t count_writes() const noexcept {
        if constexpr (requires { io_->counters(); }) {
            return io_->counters().requests(io::opcode::write);
        } else {
            return 0;
        }
    }

    void verify(const image& on, const witness& watched) {
        with_disk(on, false, [&](auto& disk) {
            buffer_pool pool;
            const buffer memory = pool.take(trace::largest_piece);
            for (std::uint64_t at = 0; at < disk.size(); at += trace::largest_piece) {
                const auto bytes = memory.bytes().first(static_cast<std::size_t>(
                    std::min(trace::largest_piece, disk.size() - at)));
                auto reading = disk.read(guest_offset{at}, bytes);
                expect(sync_wait(reading), on.path);
                if (const auto fault = watched.find_fault(at, bytes)) {
                    throw std::runtime_error(on.path + ": not what was written at " +
                                             std::to_string(*fault));
                }
            }
            return outcome{};
        });
        if (on.kind == kind::raw) { return; }
        const auto report =
            wait(qcow2::check(*io_, loop_.get_executor(), on.path, qcow2::check_options{}),
                 on.path);
        if (!report.is_clean()) {
            throw std::runtime_error(
                on.path + ": the check finds something" +
                (report.findings.empty() ? "" : ": " + report.findings.front().text));
        }
    }

    static async::task<std::uint64_t> count(host_on& self, image on) {
        auto opening = qcow2::open(
            *self.io_, self.loop_.get_executor(), on.path,
            qcow2::open_options{.direct = on.direct, .references = qcow2::references::follow});
        auto opened = co_await opening;
        if (!opened) { co_return opened.error(); }
        auto& top = opened->engine().top();
        std::uint64_t runs = 0;
        std::uint64_t next = 0; // where the current run would continue
        for (std::uint64_t at = 0; at < opened->size();) {
            const device::located l = top.locate(guest_offset{at}, opened->size() - at);
            if (!l.status) { co_return l.status.error(); }
            if (l.missing) {
                async::task<void> loading = top.resolve(l.missing);
                result<void> r = co_await loading;
                if (!r) { co_return r.error(); }
                continue;
            }
            if (l.what.kind == device::mapping::data) {
                runs += l.what.host.value == next ? 0 : 1;
                next = l.what.host.value + l.what.size;
            }
            at += l.what.size;
        }
        async::task<void> closing = opened->close();
        result<void> r = co_await closing;
        if (!r) { co_return r.error(); }
        co_return runs;
    }

    std::unique_ptr<B> io_;
    exec::run_loop<B> loop_;
};

} // namespace gaur::bench
