// SPDX-License-Identifier: BSL-1.0
// The shim. Each function replaces a call of the host (--wrap=<call> makes the linker send calls of
// <call> to __wrap_<call>, and __real_<call> to the host), and asks the test first.
#include "support/host_answers.hpp"

#include <aio.h>
#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstddef>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <vector>
#if __has_include(<liburing.h>)
#include <liburing.h>
#endif

using gaur::test::host_answer;
using gaur::test::host_answers;
using gaur::test::host_call;

namespace {

/// True if the call fails, with errno set.
bool fails(const host_answer& answer) {
    if (answer.host_errno != 0) { errno = answer.host_errno; }
    return answer.host_errno != 0;
}

/// The first `most` bytes of a vector.
std::vector<iovec> first_of(const iovec* vectors, int count, std::size_t most) {
    std::vector<iovec> cut;
    for (int i = 0; i < count && most > 0; ++i) {
        cut.push_back({vectors[i].iov_base, std::min(vectors[i].iov_len, most)});
        most -= cut.back().iov_len;
    }
    return cut;
}

#if __has_include(<liburing.h>)

bool is_transfer(const io_uring_sqe& entry) {
    return entry.opcode == IORING_OP_READ || entry.opcode == IORING_OP_WRITE ||
           entry.opcode == IORING_OP_READ_FIXED || entry.opcode == IORING_OP_WRITE_FIXED;
}
// For the ring that was made last: up to which entry and completion it has been examined.
unsigned asked_to;
unsigned ended_to;

/// Shortens the transfers that are about to go to the kernel.
void before_enter(io_uring* ring) {
    for (unsigned at = std::max(ring->sq.sqe_head, asked_to); at != ring->sq.sqe_tail; ++at) {
        io_uring_sqe& entry = ring->sq.sqes[at & ring->sq.ring_mask];
        if (!is_transfer(entry)) { continue; }
        const host_answer answer = host_answers::ask(host_call::ring_transfer);
        entry.len = static_cast<unsigned>(std::min<std::size_t>(entry.len, answer.most));
    }
    asked_to = ring->sq.sqe_tail;
}
/// Makes operations fail that have completed.
void after_enter(io_uring* ring) {
    const unsigned tail = io_uring_smp_load_acquire(ring->cq.ktail);
    const unsigned head = *ring->cq.khead;
    for (unsigned at = std::max(head, ended_to); at != tail; ++at) {
        const host_answer answer = host_answers::ask(host_call::ring_end);
        io_uring_cqe& completion = ring->cq.cqes[at & ring->cq.ring_mask];
        if (answer.host_errno != 0) { completion.res = -answer.host_errno; }
    }
    ended_to = tail;
}
template <class Enter>
int enter(io_uring* ring, Enter real) {
    before_enter(ring);
    const host_answer answer = host_answers::ask(host_call::ring_enter);
    if (answer.host_errno != 0) { return -answer.host_errno; }
    const int taken = real();
    after_enter(ring);
    return taken;
}

#endif

} // namespace

extern "C" {

int __real_open(const char* path, int flags, ...);
int __wrap_open(const char* path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(more, mode_t) : 0;
    va_end(more);
    return fails(host_answers::ask(host_call::open)) ? -1 : __real_open(path, flags, mode);
}

int __real_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...) {
    va_list more;
    va_start(more, command);
    void* const argument = va_arg(more, void*);
    va_end(more);
    if ((command == F_OFD_SETLK || command == F_OFD_GETLK) &&
        fails(host_answers::ask(host_call::lock))) {
        return -1;
    }
    return __real_fcntl(fd, command, argument);
}

ssize_t __real_pread(int fd, void* to, std::size_t size, off_t at);
ssize_t __wrap_pread(int fd, void* to, std::size_t size, off_t at) {
    const host_answer answer = host_answers::ask(host_call::read);
    return fails(answer) ? -1 : __real_pread(fd, to, std::min(size, answer.most), at);
}
ssize_t __real_pwrite(int fd, const void* from, std::size_t size, off_t at);
ssize_t __wrap_pwrite(int fd, const void* from, std::size_t size, off_t at) {
    const host_answer answer = host_answers::ask(host_call::write);
    return fails(answer) ? -1 : __real_pwrite(fd, from, std::min(size, answer.most), at);
}
ssize_t __real_preadv(int fd, const iovec* to, int count, off_t at);
ssize_t __wrap_preadv(int fd, const iovec* to, int count, off_t at) {
    const host_answer answer = host_answers::ask(host_call::read);
    if (fails(answer)) { return -1; }
    const std::vector<iovec> cut = first_of(to, count, answer.most);
    return __real_preadv(fd, cut.data(), static_cast<int>(cut.size()), at);
}
ssize_t __real_pwritev(int fd, const iovec* from, int count, off_t at);
ssize_t __wrap_pwritev(int fd, const iovec* from, int count, off_t at) {
    const host_answer answer = host_answers::ask(host_call::write);
    if (fails(answer)) { return -1; }
    const std::vector<iovec> cut = first_of(from, count, answer.most);
    return __real_pwritev(fd, cut.data(), static_cast<int>(cut.size()), at);
}

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd) {
    return fails(host_answers::ask(host_call::flush)) ? -1 : __real_fdatasync(fd);
}
int __real_ftruncate(int fd, off_t size);
int __wrap_ftruncate(int fd, off_t size) {
    return fails(host_answers::ask(host_call::truncate)) ? -1 : __real_ftruncate(fd, size);
}
int __real_fallocate(int fd, int mode, off_t at, off_t size);
int __wrap_fallocate(int fd, int mode, off_t at, off_t size) {
    const bool failed = fails(host_answers::ask(host_call::allocate));
    return failed ? -1 : __real_fallocate(fd, mode, at, size);
}

int __real_aio_read(aiocb* control);
int __wrap_aio_read(aiocb* control) {
    if (fails(host_answers::ask(host_call::aio_submit))) { return -1; }
    control->aio_nbytes =
        std::min(control->aio_nbytes, host_answers::ask(host_call::read).most);
    return __real_aio_read(control);
}
int __real_aio_write(aiocb* control);
int __wrap_aio_write(aiocb* control) {
    if (fails(host_answers::ask(host_call::aio_submit))) { return -1; }
    control->aio_nbytes =
        std::min(control->aio_nbytes, host_answers::ask(host_call::write).most);
    return __real_aio_write(control);
}
int __real_aio_fsync(int mode, aiocb* control);
int __wrap_aio_fsync(int mode, aiocb* control) {
    return fails(host_answers::ask(host_call::aio_submit)) ? -1 : __real_aio_fsync(mode, control);
}
int __real_aio_error(const aiocb* control);
int __wrap_aio_error(const aiocb* control) {
    const int state = __real_aio_error(control);
    if (state == EINPROGRESS) { return state; }
    const host_answer answer = host_answers::ask(host_call::aio_end);
    return answer.host_errno != 0 ? answer.host_errno : state;
}
int __real_aio_suspend(const aiocb* const* all, int count, const timespec* timeout);
int __wrap_aio_suspend(const aiocb* const* all, int count, const timespec* timeout) {
    const bool failed = fails(host_answers::ask(host_call::aio_suspend));
    return failed ? -1 : __real_aio_suspend(all, count, timeout);
}

int __real_eventfd_read(int fd, eventfd_t* value);
int __wrap_eventfd_read(int fd, eventfd_t* value) {
    return fails(host_answers::ask(host_call::event_read)) ? -1 : __real_eventfd_read(fd, value);
}
int __real_eventfd_write(int fd, eventfd_t value);
int __wrap_eventfd_write(int fd, eventfd_t value) {
    return fails(host_answers::ask(host_call::event_write)) ? -1
                                                             : __real_eventfd_write(fd, value);
}

#if __has_include(<liburing.h>)
int __real_io_uring_queue_init_params(unsigned entries, io_uring* ring, io_uring_params* how);
int __wrap_io_uring_queue_init_params(unsigned entries, io_uring* ring, io_uring_params* how) {
    asked_to = 0;
    ended_to = 0;
    return __real_io_uring_queue_init_params(entries, ring, how);
}
int __real_io_uring_submit(io_uring* ring);
int __wrap_io_uring_submit(io_uring* ring) {
    return enter(ring, [=] { return __real_io_uring_submit(ring); });
}
int __real_io_uring_submit_and_wait(io_uring* ring, unsigned count);
int __wrap_io_uring_submit_and_wait(io_uring* ring, unsigned count) {
    return enter(ring, [=] { return __real_io_uring_submit_and_wait(ring, count); });
}
int __real_io_uring_submit_and_get_events(io_uring* ring);
int __wrap_io_uring_submit_and_get_events(io_uring* ring) {
    return enter(ring, [=] { return __real_io_uring_submit_and_get_events(ring); });
}
#endif

} // extern "C"
