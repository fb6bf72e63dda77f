// SPDX-License-Identifier: BSL-1.0
#include "signals.hpp"

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <fcntl.h>
#include <unistd.h>

namespace gaur_img {

namespace {

std::atomic<std::uint64_t> progress_done{0};
std::atomic<std::uint64_t> progress_of{0};
std::atomic<int> signal_that_came{0};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free &&
                  std::atomic<int>::is_always_lock_free,
              "a signal handler may take no lock");

constexpr std::array ending{SIGINT, SIGTERM, SIGHUP};
std::array<struct sigaction, ending.size()> before{};

/// The progress in hundredths of a per cent.
unsigned hundredths(std::uint64_t done, std::uint64_t of) noexcept {
    while (of >= std::uint64_t{1} << 48) { // 10,000 times `done` must fit
        of >>= 1;
        done >>= 1;
    }
    if (of == 0 || done >= of) { return 10'000; }
    return static_cast<unsigned>(done * 10'000 / of);
}

/// printf(3) is not among the functions that a signal handler may call.
void print_progress(int) noexcept {
    const int kept_errno = errno;
    const std::uint64_t of = progress_of.load(std::memory_order_relaxed);
    if (of != 0) {
        const unsigned part = hundredths(progress_done.load(std::memory_order_relaxed), of);
        char text[] = "    (100.00/100%)\n";
        constexpr std::size_t first = 5; // the first digit
        unsigned left = part;
        constexpr std::array<std::size_t, 5> digits{10, 9, 7, 6, first}; // from the right
        for (const std::size_t at : digits) {
            text[at] = static_cast<char>('0' + left % 10);
            left /= 10;
        }
        // "5.00", not "005.00": the text in front moves to the right.
        const std::size_t spare = part < 1'000 ? 2 : part < 10'000 ? 1 : 0;
        for (std::size_t at = first; at-- > 0;) { text[at + spare] = text[at]; }
        [[maybe_unused]] const ssize_t written =
            ::write(STDERR_FILENO, text + spare, sizeof text - 1 - spare);
    }
    errno = kept_errno;
}

void note_signal(int number) noexcept { signal_that_came.store(number); }

void handle(int number, void (*handler)(int), int flags) noexcept {
    struct sigaction how {};
    how.sa_handler = handler;
    how.sa_flags = flags;
    ::sigemptyset(&how.sa_mask);
    ::sigaction(number, &how, nullptr);
}

} // namespace

void note_progress(std::uint64_t done, std::uint64_t of) noexcept {
    progress_done.store(done, std::memory_order_relaxed);
    progress_of.store(of, std::memory_order_relaxed);
}

void open_standard_descriptors() noexcept {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
        if (::fcntl(fd, F_GETFD) >= 0 || errno != EBADF) { continue; }
        // open() returns the lowest free descriptor, which is this one.
        if (::open("/dev/null", O_RDWR) != fd) { ::_exit(1); }
    }
}

void handle_signals() noexcept {
    handle(SIGPIPE, SIG_IGN, 0);
    handle(SIGXFSZ, SIG_IGN, 0);
    handle(SIGUSR1, &print_progress, SA_RESTART);
#ifdef SIGINFO
    handle(SIGINFO, &print_progress, SA_RESTART);
#endif
}

orderly_end::orderly_end() noexcept {
    for (std::size_t i = 0; i < ending.size(); ++i) {
        ::sigaction(ending[i], nullptr, &before[i]);
        if (before[i].sa_handler == SIG_IGN) { continue; }
        handle(ending[i], &note_signal, SA_RESTART | static_cast<int>(SA_RESETHAND));
    }
}

orderly_end::~orderly_end() {
    for (std::size_t i = 0; i < ending.size(); ++i) {
        ::sigaction(ending[i], &before[i], nullptr);
    }
}

bool orderly_end::came() noexcept { return signal_that_came.load() != 0; }

void end_by_signal() noexcept {
    const int number = signal_that_came.load();
    if (number == 0) { return; }
    handle(number, SIG_DFL, 0);
    ::raise(number);
}

} // namespace gaur_img
