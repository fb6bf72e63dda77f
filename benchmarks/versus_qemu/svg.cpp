// SPDX-License-Identifier: BSL-1.0
#include "report.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

namespace gaur::bench {

namespace {

constexpr int bars_from = 320; // left of it: the name of the work
constexpr int bars_to = 800;   // right of it: the figures
constexpr int width = 920;
constexpr int head = 64;
constexpr int bar = 12;
constexpr int group = 3 * bar + 14;

struct bar_kind {
    const char* name;
    const char* color;
    spread (work::*ratio)() const;
};
constexpr std::array<bar_kind, 3> kinds{
    {{"gaur, join", "#1f6feb", &work::join_of_raw},
     {"gaur, serialize", "#9ec5fe", &work::serialize_of_raw},
     {"QEMU", "#d29922", &work::qemu_of_raw}}};

template <class... T>
std::string format(const char* how, T... values) {
    std::array<char, 512> out{};
    std::snprintf(out.data(), out.size(), how, values...);
    return out.data();
}

std::string escaped(const std::string& s) {
    std::string out;
    for (const char c : s) {
        if (c == '<') {
            out += "&lt;";
        } else if (c == '&') {
            out += "&amp;";
        } else {
            out += c;
        }
    }
    return out;
}

class chart {
  public:
    explicit chart(const report& r) : report_(r) {
        for (const work& w : r.works) {
            for (const bar_kind& k : kinds) {
                most_ = std::max(most_, 1.1 * (w.*k.ratio)().median);
            }
            if (w.join_of_raw().greatest > 0) { shown_.push_back(&w); }
        }
    }

    std::string draw() {
        const int height = head + group * static_cast<int>(shown_.size()) + 16;
        out_ = format("<!-- SPDX-License-Identifier: BSL-1.0 -->\n"
                      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
                      "viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"12\">\n"
                      "<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n",
                      width, height, width, height);
        draw_head();
        int y = head;
        for (const work* w : shown_) {
            draw_work(*w, y);
            y += group;
        }
        out_ += format("<line x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\" stroke=\"#24292f\" "
                       "stroke-dasharray=\"4 3\"/>\n",
                       place(1), head - 8, place(1), y);
        return out_ + "</svg>\n";
    }

  private:
    int place(double ratio) const {
        // One outlier must not flatten all bars: the end of its spread is cut off.
        return bars_from + static_cast<int>((bars_to - bars_from) * std::min(1.0, ratio / most_));
    }

    void draw_head() {
        out_ += "<text x=\"16\" y=\"22\" font-size=\"15\" fill=\"#24292f\">Speed of qcow2, of "
                "raw's on the same disk; longer is faster</text>\n";
        int x = 16;
        for (const bar_kind& k : kinds) {
            out_ += format("<rect x=\"%d\" y=\"34\" width=\"12\" height=\"12\" fill=\"%s\"/>"
                           "<text x=\"%d\" y=\"44\" fill=\"#24292f\">%s</text>\n",
                           x, k.color, x + 18, k.name);
            x += 120;
        }
        out_ += format("<text x=\"%d\" y=\"50\" text-anchor=\"middle\" fill=\"#24292f\">raw</text>"
                       "\n<text x=\"%d\" y=\"44\" text-anchor=\"end\" fill=\"#57606a\">%s, %s, "
                       "%u rounds</text>\n",
                       place(1), width - 12, report_.backend.c_str(),
                       report_.direct ? "O_DIRECT" : "no O_DIRECT", report_.rounds);
    }

    void draw_work(const work& w, int y) {
        out_ += format("<text x=\"%d\" y=\"%d\" text-anchor=\"end\" fill=\"#24292f\">",
                       bars_from - 10, y + bar + 10) +
                escaped(w.what) + "</text>\n";
        for (const bar_kind& k : kinds) {
            const spread s = (w.*k.ratio)();
            if (s.greatest > 0) { draw_bar(s, k.color, y); }
            y += bar;
        }
    }

    void draw_bar(const spread& s, const char* color, int y) {
        out_ += format("<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"%s\"/>"
                       "<line x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\" stroke=\"#24292f\"/>"
                       "<text x=\"%d\" y=\"%d\" font-size=\"10\" fill=\"#57606a\">%.2f</text>\n",
                       bars_from, y, std::max(1, place(s.median) - bars_from), bar - 2, color,
                       place(s.least), y + bar / 2 - 1, place(s.greatest), y + bar / 2 - 1,
                       place(s.greatest) + 6, y + bar - 3, s.median);
    }

    const report& report_;
    std::vector<const work*> shown_;
    double most_ = 1.25;
    std::string out_;
};

} // namespace

std::string to_svg(const report& r) { return chart(r).draw(); }

} // namespace gaur::bench
