// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/task.hpp>
#include <gaur/exec/executor.hpp>

namespace gaur::qcow2 {

/// Tells the program that the image is damaged and writes the corrupt mark, in the background.
/// Always posted to the executor: the engine is never re-entered.
///
/// `Owner` gives `executor()`, `tell_damage()`, `task<void> write_mark()`, and `epochs_idle()`,
/// which is called when the mark has been written or has failed. The owner outlives the mark's I/O.
template <class Owner>
class corrupt_mark : exec::work {
  public:
    explicit corrupt_mark(Owner& owner) noexcept : exec::work(&on_run), owner_(owner) {}
    corrupt_mark(const corrupt_mark&) = delete;
    corrupt_mark& operator=(const corrupt_mark&) = delete;

    /// Called at most once.
    void start() noexcept {
        running_ = true;
        owner_.executor().post(*this);
    }
    bool is_running() const noexcept { return running_; }

  private:
    static void on_run(exec::work& w) noexcept {
        auto& self = static_cast<corrupt_mark&>(w);
        self.owner_.tell_damage(); // the program may destroy the image in this call
        self.writing_ = self.owner_.write_mark();
        if (self.writing_.start({&on_end, &self})) { on_end(&self); }
    }
    static void on_end(void* context) noexcept {
        auto& self = *static_cast<corrupt_mark*>(context);
        // A failure is ignored: the next commit writes the mark.
        static_cast<void>(self.writing_.take());
        self.running_ = false;
        self.owner_.epochs_idle();
    }

    Owner& owner_;
    async::task<void> writing_;
    bool running_ = false;
};

} // namespace gaur::qcow2
