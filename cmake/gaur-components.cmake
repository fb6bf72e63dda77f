# SPDX-License-Identifier: BSL-1.0
# The optional parts of gaur, for the build and for find_package(gaur COMPONENTS …) alike. A header
# that needs a library beyond Boost's headers stands here, and nowhere else.
#   _headers  below include/gaur/        _package  for find_package
#   _target   what that package gives    _install  what to tell somebody who lacks it
set(gaur_components uring posix_aio threads asio zlib conformance benchmark)

set(gaur_uring_headers io/uring.hpp io/uring_ring.hpp)
set(gaur_uring_package Liburing)
set(gaur_uring_target Liburing::Liburing)
set(gaur_uring_install "Debian: apt-get install liburing-dev")

set(gaur_posix_aio_headers io/posix_aio.hpp)
set(gaur_posix_aio_package Threads) # glibc serves aio_read by threads; librt is part of libc
set(gaur_posix_aio_target Threads::Threads)
set(gaur_posix_aio_install "part of the C library")

set(gaur_threads_headers io/threads.hpp exec/thread_pool.hpp)
set(gaur_threads_package Threads)
set(gaur_threads_target Threads::Threads)
set(gaur_threads_install "part of the C library")

set(gaur_asio_headers exec/asio.hpp)
set(gaur_asio_package Threads) # Boost.Asio's headers come with Boost::headers
set(gaur_asio_target Threads::Threads)
set(gaur_asio_install "part of the C library")

set(gaur_zlib_headers qcow2/zlib.hpp)
set(gaur_zlib_package ZLIB)
set(gaur_zlib_target ZLIB::ZLIB)
set(gaur_zlib_install "Debian: apt-get install zlib1g-dev")

# For writers of a policy: GoogleTest suites, and Google Benchmark workloads.
set(gaur_conformance_headers conformance/placement.hpp)
set(gaur_conformance_package GTest)
set(gaur_conformance_target GTest::gtest)
set(gaur_conformance_install "Debian: apt-get install libgtest-dev")

set(gaur_benchmark_headers benchmark/placement.hpp benchmark/index.hpp benchmark/instruction_counter.hpp benchmark/aged_load.hpp benchmark/cluster_space.hpp)
set(gaur_benchmark_package benchmark)
set(gaur_benchmark_target benchmark::benchmark)
set(gaur_benchmark_install "Debian: apt-get install libbenchmark-dev")
