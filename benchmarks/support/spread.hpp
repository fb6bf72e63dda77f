// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace gaur::bench {

/// The spread of one figure that was measured several times.
struct spread {
    double median = 0;
    double least = 0;
    double greatest = 0;

    static spread of(std::vector<double> values) {
        if (values.empty()) { return {}; }
        std::ranges::sort(values);
        const std::size_t half = values.size() / 2;
        const double middle =
            values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
        return {middle, values.front(), values.back()};
    }

    /// Of the ratios of pairs: seconds of one side of a round to seconds of its other side. A busy
    /// machine slows both down, so the ratio means more than either.
    static spread of_pairs(const std::vector<double>& above, const std::vector<double>& below) {
        std::vector<double> ratios;
        for (std::size_t i = 0; i < std::min(above.size(), below.size()); ++i) {
            ratios.push_back(above[i] / below[i]);
        }
        return of(std::move(ratios));
    }

    /// "0.97 (0.91 to 1.02)"
    std::string text(int digits = 2) const {
        std::array<char, 96> out{};
        std::snprintf(out.data(), out.size(), "%.*f (%.*f to %.*f)", digits, median, digits, least,
                      digits, greatest);
        return out.data();
    }
};

/// The load average of the last minute.
inline double load_average() noexcept {
    std::array<double, 1> busy{};
    ::getloadavg(busy.data(), 1);
    return busy[0];
}

} // namespace gaur::bench
