// SPDX-License-Identifier: BSL-1.0
#include "counted_works.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace gaur::bench {

namespace {

constexpr std::uint64_t kibi = 1024;
constexpr std::uint64_t cluster = 64 * kibi;
/// Bytes that a cached slice of an L2 table, 512 entries, maps.
constexpr std::uint64_t slice_maps = 512 * cluster;
constexpr std::size_t few_slices = 64 * 4 * kibi; ///< bytes of cache

std::uint64_t slices(const options& how) { return how.small ? 256 : 2048; }

/// Reads of 4 KiB, each through another slice.
pattern misses(const options& how, unsigned depth) {
    return {.what = device::verb::read, .step = slice_maps, .depth = depth, .count = slices(how)};
}

/// Creates the image for these reads: one cluster under each slice.
void prepare_misses(host& io, image on, const options& how) {
    on.create = slices(how) * slice_maps;
    io.run(on, {.what = device::verb::write,
                .step = slice_maps,
                .depth = 16,
                .count = slices(how)});
}

/// How many times faster the reads are with 32 in flight than with 1.
void compare_depths_on_disk(site& at, report& to) {
    counted c{.what = "4 KiB reads that all miss the L2 cache: times faster at depth 32 than at 1",
              .aim = "0.9 of raw's gain"};
    if (!at.how().wants(c.what)) { return; }
    image on = at.existing(kind::join, at.add(".misses.qcow2"));
    prepare_misses(at.io(), on, at.how());
    on.cache_bytes = few_slices;
    const std::string& raw = at.full(at.how().operations() * cluster).raw;
    qemu_image qemu = at.for_qemu(on.path, "qcow2");
    qemu.options = "l2-cache-entry-size=4096,l2-cache-size=" + std::to_string(few_slices);

    std::array<std::vector<double>, 2> join;
    std::array<std::vector<double>, 2> plain;
    std::array<std::vector<double>, 2> theirs;
    for (unsigned i = 0; i < at.how().rounds; ++i) {
        for (const std::size_t deep : {std::size_t{0}, std::size_t{1}}) {
            const pattern how = misses(at.how(), deep != 0 ? 32 : 1);
            join[deep].push_back(at.io().run(on, how).bare.seconds);
            pattern anywhere = how;
            anywhere.step = 0;
            plain[deep].push_back(
                at.io().run(at.existing(kind::raw, raw), anywhere).bare.seconds);
            if (!at.has_qemu()) { continue; }
            if (const auto took = qemu_bench(qemu, how)) {
                theirs[deep].push_back(took->seconds);
            }
        }
    }
    c.join = spread::of_pairs(join[0], join[1]);
    c.raw = spread::of_pairs(plain[0], plain[1]);
    if (!theirs[1].empty()) { c.qemu = spread::of_pairs(theirs[0], theirs[1]); }
    to.figures.push_back(std::move(c));
}

void compare_depths_simulated(const options& how, report& to) {
    counted c{.what = "the same on a simulated device of 0.5 ms", .aim = "25"};
    if (!how.wants(c.what)) { return; }
    const auto gain = [&](host& io, image on) {
        const double one = io.run(on, misses(how, 1)).bare.seconds;
        return exactly(one / io.run(on, misses(how, 32)).bare.seconds);
    };
    const auto io = expect(make_memory({500000, 0}), "memory");
    image on{.path = "misses.qcow2"};
    prepare_misses(*io, on, how);
    on.cache_bytes = few_slices;
    c.join = gain(*io, on);
    on.kind = kind::serialize;
    c.serialize = gain(*io, on);
    on = {.path = "disk.raw", .kind = kind::raw, .create = slices(how) * slice_maps};
    c.raw = gain(*io, on);
    to.figures.push_back(std::move(c));
}

void allocate_simulated(const options& how, report& to) {
    counted c{.what = "4 KiB into new clusters, depth 64, simulated device of 1 ms: time of raw's",
              .aim = "1.15 or fewer"};
    if (!how.wants(c.what)) { return; }
    const auto io = expect(make_memory({1000000, 0}), "memory");
    const pattern writes{
        .what = device::verb::write, .step = cluster, .count = how.operations() / 4};
    const auto seconds = [&](kind k) {
        const image on{.path = std::string(name_of(k)),
                       .kind = k,
                       .create = writes.count * cluster};
        return io->run(on, writes).bare.seconds;
    };
    const double raw = seconds(kind::raw);
    c.join = exactly(seconds(kind::join) / raw);
    c.serialize = exactly(seconds(kind::serialize) / raw);
    c.raw = exactly(1);
    to.figures.push_back(std::move(c));
}

/// QEMU's writes of data per request, counted in its trace.
std::optional<spread> count_writes_of_qemu(site& at, const pattern& how, std::uint64_t size) {
    if (!at.has_qemu()) { return std::nullopt; }
    std::string command = qemu_bench_command(at.fresh_for_qemu("qcow2", size), how);
    command.insert(command.find(" bench"), " -T enable=qcow2_writev_data");
    const said s = run_command(command);
    double found = 0;
    std::istringstream lines(s.text);
    for (std::string line; std::getline(lines, line);) {
        found += line.find("qcow2_writev_data ") != std::string::npos ? 1 : 0;
    }
    // A QEMU built without that kind of trace prints nothing.
    if (!s.ended_well || found == 0) { return std::nullopt; }
    return exactly(found / static_cast<double>(how.count));
}

void count_data_writes(site& at, report& to) {
    counted c{.what = "128 KiB at +32 KiB: data writes per request (ours: simulated device)",
              .aim = "1.00"};
    if (!at.how().wants(c.what)) { return; }
    const pattern writes{.what = device::verb::write,
                         .block = 128 * kibi,
                         .step = 128 * kibi,
                         .depth = 16,
                         .count = at.how().operations() / 4,
                         .offset = 32 * kibi};
    const std::uint64_t size = (writes.count + 1) * writes.block;
    const auto io = expect(make_memory({100000, 0}), "memory");
    const auto of = [&](kind k) {
        const image on{.path = std::string(name_of(k)), .kind = k, .create = size};
        // No metadata is written before the flush, so that only the data is counted.
        return exactly(static_cast<double>(io->run(on, writes).device_writes) /
                       static_cast<double>(writes.count));
    };
    c.raw = of(kind::raw);
    c.join = of(kind::join);
    c.serialize = of(kind::serialize);
    c.qemu = count_writes_of_qemu(at, writes, size);
    to.figures.push_back(std::move(c));
}

constexpr pattern hundred_writes{
    .what = device::verb::write, .step = cluster, .depth = 1, .count = 100};

/// Creates an image with all clusters that the writes touch, and a snapshot that shares them.
std::string make_snapshot(site& at) {
    image on = at.existing(kind::join, at.add(".snapshot.qcow2"));
    on.create = 128 * cluster;
    at.io().run(on, hundred_writes);
    const said s = run_command("qemu-img snapshot -c first '" + on.path + '\'');
    if (!s.ended_well) { throw std::runtime_error("qemu-img snapshot: " + s.text); }
    return on.path;
}

/// Calls of fdatasync and fsync, up to the end of the close. strace sees them only from threads.
std::optional<spread> count_flushes_of_qemu(site& at) {
    if (!has_program("strace")) { return std::nullopt; }
    qemu_image on = at.for_qemu(make_snapshot(at), "qcow2");
    on.aio = "threads";
    const said s = run_command("strace -f -qq -e trace=fdatasync,fsync -e signal=none " +
                               qemu_bench_command(on, hundred_writes));
    if (!s.ended_well) { return std::nullopt; }
    double found = 0;
    std::istringstream lines(s.text);
    for (std::string line; std::getline(lines, line);) {
        found += line.find("sync(") != std::string::npos ? 1 : 0;
    }
    return exactly(found);
}

void count_barriers_after_snapshot(site& at, report& to) {
    counted c{.what = "100 writes of 4 KiB after an internal snapshot, no flush asked: barriers",
              .aim = "0"};
    if (!at.how().wants(c.what) || !at.has_qemu()) { return; }
    const auto barriers = [&](kind k) {
        const outcome o = at.io().run(at.existing(k, make_snapshot(at)), hundred_writes);
        return exactly(static_cast<double>(o.before_flush.barriers));
    };
    c.join = barriers(kind::join);
    c.serialize = barriers(kind::serialize);
    c.qemu = count_flushes_of_qemu(at);
    to.figures.push_back(std::move(c));
}

} // namespace

void measure_figures(site& at, report& to) {
    std::fprintf(stderr, "figures …\n");
    count_data_writes(at, to);
    count_barriers_after_snapshot(at, to);
    allocate_simulated(at.how(), to);
    compare_depths_on_disk(at, to);
    compare_depths_simulated(at.how(), to);
}

} // namespace gaur::bench
