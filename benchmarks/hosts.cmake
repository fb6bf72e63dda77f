# SPDX-License-Identifier: BSL-1.0
# bench_hosts: what replay and versus_qemu do with a backend, over each of them. No such target where
# a component or CLI11 is missing.
find_package(CLI11 QUIET)
file(GLOB host_sources CONFIGURE_DEPENDS support/*.cpp)
set(host_components "")
set(host_missing "")
foreach(source IN LISTS host_sources)
    gaur_components_of("${source}" needed missing)
    list(APPEND host_components ${needed})
    list(APPEND host_missing ${missing})
endforeach()
if(NOT CLI11_FOUND)
    message(STATUS "replay and versus_qemu left out: CLI11 not found "
        "(Debian: apt-get install libcli11-dev)")
elseif(host_missing)
    message(STATUS "replay and versus_qemu left out: they need gaur::${host_missing}")
else()
    list(TRANSFORM host_components PREPEND gaur::)
    add_library(bench_hosts OBJECT ${host_sources})
    target_link_libraries(bench_hosts PUBLIC gaur::gaur gaur_dev ${host_components})
endif()
