# SPDX-License-Identifier: BSL-1.0
# find_package(gaur [COMPONENTS uring posix_aio threads asio zlib
#     conformance benchmark])
# gives gaur::gaur, and gaur::<component> for each component asked for.
include("${CMAKE_CURRENT_LIST_DIR}/gaur-components.cmake")
include(CMakeFindDependencyMacro)
find_dependency(Boost 1.74)
include("${CMAKE_CURRENT_LIST_DIR}/gaur-targets.cmake")

list(PREPEND CMAKE_MODULE_PATH "${CMAKE_CURRENT_LIST_DIR}") # FindLiburing
foreach(component IN LISTS gaur_FIND_COMPONENTS)
    set(gaur_${component}_FOUND FALSE)
    if(NOT component IN_LIST gaur_components)
        # Refused even where it is optional: it can only be a slip of the pen.
        string(JOIN ", " known ${gaur_components})
        set(gaur_FOUND FALSE)
        set(gaur_NOT_FOUND_MESSAGE
            "gaur has no component '${component}'. Its components are: ${known}.")
        break()
    endif()
    set(targets_file "${CMAKE_CURRENT_LIST_DIR}/gaur-${component}-targets.cmake")
    set(reason "")
    if(NOT EXISTS "${targets_file}")
        set(reason "${gaur_${component}_package} was missing where gaur was installed from; \
install it there (${gaur_${component}_install}), then configure and install gaur again")
    else()
        find_package(${gaur_${component}_package} QUIET)
        if(NOT ${gaur_${component}_package}_FOUND)
            set(reason "${gaur_${component}_package} is not found on this machine; \
install it (${gaur_${component}_install})")
        endif()
    endif()
    if(reason STREQUAL "")
        include("${targets_file}")
        set(gaur_${component}_FOUND TRUE)
    elseif(gaur_FIND_REQUIRED_${component})
        set(gaur_FOUND FALSE)
        set(gaur_NOT_FOUND_MESSAGE "gaur's component '${component}' cannot be used: ${reason}.")
        break()
    endif()
endforeach()
list(POP_FRONT CMAKE_MODULE_PATH)
