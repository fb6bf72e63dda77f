// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <string>
#include <unistd.h>
#include <vector>

namespace gaur::bench {

/// The files of a run: new names, removed together at its end and never before. Removing a file
/// with many small extents can keep a file system with online discard busy for minutes, and would
/// slow down the next measurement.
class scratch {
  public:
    scratch(const std::string& dir, const std::string& program, bool keep = false)
        : stem_(dir + '/' + program + '.' + std::to_string(::getpid()) + '.'), keep_(keep) {}
    scratch(const scratch&) = delete;
    scratch& operator=(const scratch&) = delete;
    ~scratch() {
        if (keep_) { return; }
        for (const std::string& path : paths_) { ::unlink(path.c_str()); }
    }

    std::string add(const std::string& suffix) {
        paths_.push_back(stem_ + std::to_string(paths_.size()) + suffix);
        return paths_.back();
    }

  private:
    std::string stem_;
    std::vector<std::string> paths_;
    bool keep_;
};

} // namespace gaur::bench
