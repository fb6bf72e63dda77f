// SPDX-License-Identifier: BSL-1.0
#include "trace.hpp"

#include <gaur/base/units.hpp>
#include <gaur/io/seeded.hpp>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <fstream>
#include <set>
#include <stdexcept>
#include <string_view>
#include <utility>

namespace gaur::bench {

namespace {

constexpr std::uint64_t kibi = 1024;
constexpr std::uint64_t mebi = kibi * kibi;

trace::line parse(const std::string& text, const std::string& where) {
    trace::line l;
    char verb = 0;
    char rest = 0;
    const int found = std::sscanf(text.c_str(), "%c %" SCNu64 " %" SCNu64 " %c", &verb, &l.offset,
                                  &l.size, &rest);
    l.what = static_cast<trace::verb>(verb);
    const bool known = std::string_view("WRZDF").find(verb) != std::string_view::npos;
    if (!known || found != (verb == 'F' ? 1 : 3)) {
        throw std::runtime_error(where + ": neither W, R, Z or D with offset and bytes, nor F");
    }
    if (l.offset % 512 != 0 || l.size % 512 != 0) {
        throw std::runtime_error(where + ": not in whole sectors of 512 bytes");
    }
    return l;
}

/// Generates the lines of write_small_trace().
class generator {
  public:
    explicit generator(std::FILE* to) : to_(to) {}

    void run() {
        std::fputs("# SPDX-License-Identifier: BSL-1.0\n"
                   "# block trace: W offset bytes | R offset bytes | Z offset bytes | "
                   "D offset bytes (discard) | F (flush). Made by `replay --generate`.\n",
                   to_);
        request('R', 0, 4 * kibi);
        request('D', 0, 64 * mebi);
        request('Z', 63 * mebi, 64 * kibi);
        for (int file = 0; file < 24; ++file) {
            lay_out_file();
            commit_journal();
            if (file % 4 == 3) { rewrite_pages(); }
        }
        request('Z', 5 * mebi, 256 * kibi); // over data; the next one is not aligned to clusters
        request('Z', 9 * mebi + 4 * kibi, 12 * kibi);
        request('R', 8 * mebi, 1 * mebi);
        request('W', 40 * mebi + 32 * kibi, 3 * mebi / 2); // more than largest_piece
        flush();
    }

  private:
    void request(char verb, std::uint64_t at, std::uint64_t size) {
        std::fprintf(to_, "%c %" PRIu64 " %" PRIu64 "\n", verb, at, size);
    }
    void flush() { std::fputs("F\n", to_); }

    /// Writes one after another, 4 KiB to 128 KiB, as a file system writes back what it has
    /// allocated.
    void lay_out_file() {
        for (std::uint64_t left = 1 + random_.below(6); left != 0; --left) {
            const std::uint64_t size = (1 + random_.below(32)) * 4 * kibi;
            request('W', next_, size);
            next_ += size;
        }
        request('W', 60 * mebi + random_.below(256) * 512, 512); // an inode
    }
    /// A transaction, a flush, and the block that makes the transaction valid.
    void commit_journal() {
        const std::uint64_t blocks = 1 + random_.below(4);
        request('W', 32 * mebi + journal_, blocks * 4 * kibi);
        flush();
        request('W', 32 * mebi + journal_ + blocks * 4 * kibi, 4 * kibi);
        flush();
        journal_ = (journal_ + (blocks + 1) * 4 * kibi) % (128 * kibi);
    }
    /// Rewrites pages of a few clusters repeatedly, and some across a cluster border.
    void rewrite_pages() {
        for (int i = 0; i < 8; ++i) {
            request('W', 16 * mebi + random_.below(64) * 4 * kibi, 4 * kibi);
        }
        request('W', 16 * mebi + 62 * kibi, 4 * kibi);
        request('W', 16 * mebi + 32 * kibi, 128 * kibi);
        request('R', 16 * mebi, 64 * kibi);
    }

    std::FILE* to_;
    io::seeded random_{2009};
    std::uint64_t next_ = 1 * mebi;
    std::uint64_t journal_ = 0;
};

} // namespace

std::uint64_t trace::count(verb what) const noexcept {
    return static_cast<std::uint64_t>(std::ranges::count(lines, what, &line::what));
}

std::uint64_t trace::bytes(verb what) const noexcept {
    std::uint64_t all = 0;
    for (const line& l : lines) { all += l.what == what ? l.size : 0; }
    return all;
}

std::uint64_t trace::disk_size() const noexcept {
    std::uint64_t end = mebi;
    for (const line& l : lines) { end = std::max(end, l.offset + l.size); }
    return align_up(end, mebi);
}

std::vector<trace::line> trace::steps() const {
    std::vector<line> all;
    for (const line& l : lines) {
        if (l.what == verb::flush) { all.push_back(l); }
        if (l.what == verb::flush || l.what == verb::discard) { continue; }
        for (std::uint64_t done = 0; done < l.size; done += largest_piece) {
            all.push_back({l.what, l.offset + done, std::min(largest_piece, l.size - done)});
        }
    }
    return all;
}

std::vector<trace::line> trace::steps_with_mappings(std::uint64_t cluster) const {
    std::vector<line> all;
    std::set<std::uint64_t> mapped;
    bool fresh = false;
    for (const line& l : steps()) {
        if (l.what == verb::flush && std::exchange(fresh, false)) {
            all.push_back({verb::mapping, disk_size(), 512});
        }
        all.push_back(l);
        if (l.what != verb::write && l.what != verb::zero) { continue; }
        for (std::uint64_t c = l.offset / cluster; c * cluster < l.offset + l.size; ++c) {
            fresh = mapped.insert(c).second || fresh;
        }
    }
    return all;
}

trace read_trace(const std::string& path) {
    std::ifstream in(path);
    if (!in) { throw std::runtime_error(path + ": cannot be opened"); }
    trace t;
    std::string text;
    for (std::uint64_t number = 1; std::getline(in, text); ++number) {
        if (text.empty() || text.front() == '#') { continue; }
        t.lines.push_back(parse(text, path + ", line " + std::to_string(number)));
    }
    if (t.lines.empty()) { throw std::runtime_error(path + ": no requests in it"); }
    return t;
}

void write_small_trace(const std::string& path) {
    std::FILE* const to = std::fopen(path.c_str(), "w");
    if (to == nullptr) { throw std::runtime_error(path + ": cannot be written"); }
    generator(to).run();
    if (std::fclose(to) != 0) { throw std::runtime_error(path + ": cannot be written"); }
}

} // namespace gaur::bench
