// SPDX-License-Identifier: BSL-1.0
#include "report.hpp"

#include <array>
#include <cstdio>

namespace gaur::bench {

namespace {

std::string number(double value) {
    std::array<char, 48> out{};
    std::snprintf(out.data(), out.size(), "%.2f", value);
    return out.data();
}

/// "–" if there is no figure.
std::string cell(const spread& s) {
    if (s.median <= 0 && s.greatest <= 0) { return "–"; }
    return s.least < s.greatest ? s.text() : number(s.median);
}
std::string cell(const std::optional<spread>& s) {
    if (!s) { return "–"; }
    return s->least < s->greatest ? s->text() : number(s->median);
}

std::string line(const std::vector<std::string>& cells) {
    std::string out = "|";
    for (const std::string& c : cells) { out += ' ' + c + " |"; }
    return out + '\n';
}

} // namespace

std::string to_markdown(const report& r) {
    std::string out = "Backend " + r.backend + ", " + (r.direct ? "O_DIRECT" : "no O_DIRECT") +
                      ", " + std::to_string(r.rounds) + " rounds; " + r.machine + "; " +
                      (r.qemu.empty() ? "no qemu-img" : r.qemu) + "; load average " +
                      number(r.load_before) + " before, " + number(r.load_after) + " after.\n\n";
    out += "Time of raw / time of qcow2 in pairs, so 1.00 is raw's speed: median (least to "
           "greatest). QEMU's is of `qemu-img bench` on raw; the last but one column says how many "
           "times as fast as QEMU's qcow2 gaur's is. Over a backing file raw stands for the least "
           "that the disk has to do: what must be copied is read, then whole clusters are written."
           "\n\n";
    out += line({"work", "gaur, join", "… and a flush", "gaur, serialize", "QEMU",
                 "join / QEMU", "aim"});
    out += "|---|---|---|---|---|---|---|\n";
    for (const work& w : r.works) {
        out += line({w.what, cell(w.join_of_raw()), cell(w.join_flushed()),
                     cell(w.serialize_of_raw()), cell(w.qemu_of_raw()), cell(w.join_of_qemu()),
                     w.aim});
    }
    out += '\n' + line({"figure", "gaur, join", "gaur, serialize", "gaur, raw", "QEMU", "aim"});
    out += "|---|---|---|---|---|---|\n";
    for (const counted& c : r.figures) {
        out += line({c.what, cell(c.join), cell(c.serialize), cell(c.raw), cell(c.qemu), c.aim});
    }
    return out;
}

} // namespace gaur::bench
