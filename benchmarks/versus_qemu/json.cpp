// SPDX-License-Identifier: BSL-1.0
#include "report.hpp"

#include <array>
#include <cstdio>

namespace gaur::bench {

namespace {

std::string text(const std::string& s) {
    std::string out = "\"";
    for (const char c : s) {
        if (c == '"' || c == '\\') { out += '\\'; }
        if (static_cast<unsigned char>(c) >= 0x20) { out += c; }
    }
    return out + '"';
}

std::string number(double value) {
    std::array<char, 48> out{};
    std::snprintf(out.data(), out.size(), "%.6g", value);
    return out.data();
}

std::string list(const std::vector<double>& values) {
    std::string out = "[";
    for (const double v : values) { out += (out.size() > 1 ? ", " : "") + number(v); }
    return out + ']';
}

std::string member(const spread& s) {
    return "{\"median\": " + number(s.median) + ", \"least\": " + number(s.least) +
           ", \"greatest\": " + number(s.greatest) + '}';
}

void append_side(std::string& out, const char* name, const side& s) {
    if (s.seconds.empty()) { return; }
    out += ",\n      \"" + std::string(name) + "\": {\"seconds\": " + list(s.seconds);
    if (!s.flushed_seconds.empty()) {
        out += ", \"flushed_seconds\": " + list(s.flushed_seconds);
    }
    out += '}';
}

void append_ratio(std::string& out, const char* name, const spread& s) {
    if (s.greatest > 0) { out += ",\n      \"" + std::string(name) + "\": " + member(s); }
}

std::string member(const work& w) {
    std::string out = "    {\"work\": " + text(w.what) + ", \"count\": " +
                      std::to_string(w.count) + ", \"aim\": " + text(w.aim);
    append_side(out, "raw", w.raw);
    append_side(out, "join", w.join);
    append_side(out, "serialize", w.serialize);
    append_side(out, "qemu_raw", w.qemu_raw);
    append_side(out, "qemu", w.qemu);
    append_ratio(out, "join_of_raw", w.join_of_raw());
    append_ratio(out, "join_flushed_of_raw", w.join_flushed());
    append_ratio(out, "serialize_of_raw", w.serialize_of_raw());
    append_ratio(out, "qemu_of_raw", w.qemu_of_raw());
    append_ratio(out, "join_of_qemu", w.join_of_qemu());
    return out + '}';
}

std::string member(const counted& c) {
    std::string out = "    {\"figure\": " + text(c.what) + ", \"aim\": " + text(c.aim);
    if (c.join) { out += ", \"join\": " + member(*c.join); }
    if (c.serialize) { out += ", \"serialize\": " + member(*c.serialize); }
    if (c.raw) { out += ", \"raw\": " + member(*c.raw); }
    if (c.qemu) { out += ", \"qemu\": " + member(*c.qemu); }
    return out + '}';
}

template <class T>
std::string members(const std::vector<T>& all) {
    std::string out;
    for (const T& each : all) { out += (out.empty() ? "" : ",\n") + member(each); }
    return out;
}

} // namespace

std::string to_json(const report& r) {
    return "{\n  \"backend\": " + text(r.backend) + ",\n  \"direct\": " +
           (r.direct ? "true" : "false") + ",\n  \"rounds\": " + std::to_string(r.rounds) +
           ",\n  \"machine\": " + text(r.machine) + ",\n  \"qemu\": " + text(r.qemu) +
           ",\n  \"load_average\": " + list({r.load_before, r.load_after}) +
           ",\n  \"works\": [\n" + members(r.works) + "\n  ],\n  \"figures\": [\n" +
           members(r.figures) + "\n  ]\n}\n";
}

} // namespace gaur::bench
