// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "disk_on.hpp"
#include "host.hpp"

#include <gaur/async/sync_wait.hpp>
#include <gaur/exec/run_loop.hpp>
#include <gaur/qcow2/check.hpp>
#include <gaur/qcow2/create.hpp>
#include <gaur/qcow2/image.hpp>
#include <gaur/qcow2/repair.hpp>
#include <gaur/qcow2/zlib.hpp>
#include <gaur/raw/image.hpp>

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace gaur_img {

inline gaur::qcow2::open_options qcow2_options(const image_options& how) {
    gaur::qcow2::open_options o;
    o.write = how.write;
    o.direct = how.cache.direct;
    o.flush = how.cache.flushes;
    o.references = how.references ? gaur::qcow2::references::follow
                                  : gaur::qcow2::references::refuse;
    o.bitmaps = how.invalidate_bitmaps ? gaur::qcow2::bitmaps::invalidate
                                       : gaur::qcow2::bitmaps::refuse;
    o.inflate = &gaur::qcow2::zlib_inflate;
    o.locking = locking_of(how.force_share);
    o.backing_format = how.backing_format;
    o.max_depth = how.max_depth;
    o.failed_path = how.failed_path;
    o.failed_format = how.failed_format;
    return o;
}

inline gaur::raw::open_options raw_options(const image_options& how) {
    return {.write = how.write, .direct = how.cache.direct, .create = how.create,
            .size = how.size, .locking = locking_of(how.force_share),
            .flush = how.cache.flushes, .kept = how.kept};
}

/// The host over the backend `B`. Nothing else is needed to run the same engine over another one.
template <gaur::io::IoBackend B>
class host_on final : public host {
    using loop = gaur::exec::run_loop<B>;
    using executor = typename loop::executor;

  public:
    explicit host_on(std::unique_ptr<B> io) : io_(std::move(io)), loop_(*io_) {}

    std::string_view backend() const noexcept override { return B::name; }

    gaur::result<std::unique_ptr<disk>> open(const image_options& how) override {
        if (how.format == "raw") {
            return to_disk(wait_for(gaur::raw::open(*io_, loop_.get_executor(), how.path,
                                                    raw_options(how))), how);
        }
        // Each ordering is an engine type of its own that contains no code of the other.
        return how.ordering == gaur::track::join::name ? open_qcow2<gaur::track::join>(how)
                                                       : open_qcow2<gaur::track::serialize>(how);
    }

    gaur::result<void> create(const std::string& path,
                              const gaur::qcow2::create_options& how,
                              const std::vector<gaur::io::file_identity>& kept) override {
        return wait_for(gaur::qcow2::create(*io_, loop_.get_executor(), path, how, kept));
    }

    gaur::result<gaur::qcow2::check_report>
    check(const std::string& path, const gaur::qcow2::check_options& how) override {
        return wait_for(gaur::qcow2::check(*io_, loop_.get_executor(), path, how));
    }

    gaur::result<gaur::qcow2::repair_report>
    repair(const std::string& path, const gaur::qcow2::repair_options& how) override {
        return wait_for(gaur::qcow2::repair(*io_, loop_.get_executor(), path, how));
    }

    gaur::result<std::vector<std::byte>> read_file(const std::string& path, std::uint64_t at,
                                                   std::size_t size,
                                                   bool force_share) override {
        gaur::raw::open_options how;
        how.locking = locking_of(force_share);
        auto opened = wait_for(gaur::raw::open(*io_, loop_.get_executor(), path, how));
        if (!opened) { return opened.error(); }
        if (at >= opened->size()) { return std::vector<std::byte>(); }
        std::vector<std::byte> bytes(std::min<std::uint64_t>(size, opened->size() - at));
        auto reading = opened->read({at}, bytes);
        const gaur::result<void> status = gaur::sync_wait(reading);
        if (!status) { return status.error(); }
        return bytes;
    }

    gaur::result<void> wait(gaur::async::task<void> task) override {
        return wait_for(std::move(task));
    }

  private:
    template <class T>
    gaur::result<T> wait_for(gaur::async::task<T> task) {
        return gaur::sync_wait(*io_, loop_.get_executor(), std::move(task));
    }

    template <class Ordering>
    gaur::result<std::unique_ptr<disk>> open_qcow2(const image_options& how) {
        using policies = gaur::qcow2::ordered_by<Ordering>;
        return to_disk(wait_for(gaur::qcow2::open<policies>(*io_, loop_.get_executor(), how.path,
                                                            qcow2_options(how))), how);
    }

    template <class Image>
    static gaur::result<std::unique_ptr<disk>> to_disk(gaur::result<Image> opened,
                                                       const image_options& how) {
        if (!opened) { return opened.error(); }
        auto files = chain_files(*opened, how.path);
        return std::unique_ptr<disk>(
            std::make_unique<disk_on<Image>>(*std::move(opened), std::move(files),
                                             how.cache.writes_through));
    }

    template <class Image>
    static std::vector<chain_file> chain_files(Image& image, std::string path) {
        auto& layers = image.engine().layers();
        std::vector<chain_file> files;
        if constexpr (requires { layers.top().header(); }) {
            files.push_back({path, false});
            const gaur::qcow2::layout::header* names = &layers.top().header();
            for (std::size_t i = 0; names != nullptr && i + 1 < layers.depth(); ++i) {
                path = beside(path, names->backing_file);
                auto* const next = layers.lower(i).as_qcow2();
                names = next != nullptr ? &next->header() : nullptr;
                files.push_back({path, next == nullptr});
            }
        } else {
            files.push_back({path, true});
        }
        return files;
    }

    std::unique_ptr<B> io_;
    loop loop_;
};

} // namespace gaur_img
