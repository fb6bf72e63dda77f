// SPDX-License-Identifier: BSL-1.0
#include "block_list.hpp"

#include <utility>

namespace gaur_img {

namespace {

bool continues(const placed_block& a, const block& b) noexcept {
    return a.depth == b.depth && a.present == b.present && a.zero == b.zero && a.data == b.data &&
           a.offset.has_value() == b.offset.has_value() &&
           (!a.offset || *a.offset + a.size == *b.offset);
}

gaur::async::task<void> walk(disk& of, std::uint64_t at, std::uint64_t to,
                             std::vector<placed_block>& blocks) {
    while (at < to) {
        gaur::async::task<block> looking = of.block_at(at, to - at);
        gaur::result<block> found = co_await looking;
        if (!found) { co_return found.error(); }
        if (!blocks.empty() && continues(blocks.back(), *found)) {
            blocks.back().size += found->size;
        } else {
            blocks.push_back({*found, at});
        }
        at += found->size;
    }
    co_return {};
}

} // namespace

gaur::result<std::vector<placed_block>> list_blocks(host& on, disk& of, std::uint64_t from,
                                                    std::uint64_t to) {
    std::vector<placed_block> blocks;
    const gaur::result<void> status = on.wait(walk(of, from, to, blocks));
    if (!status) { return status.error(); }
    return blocks;
}

} // namespace gaur_img
