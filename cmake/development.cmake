# SPDX-License-Identifier: BSL-1.0
# What those who work on gaur need and its users must never see.
option(GAUR_BENCHMARKS "Build the benchmarks" ON)
option(GAUR_WARNINGS_ARE_ERRORS "Stop at a warning in our own targets" ON)

set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_VERIFY_INTERFACE_HEADER_SETS ON) # target all_verify_interface_header_sets

find_program(CCACHE ccache)
if(CCACHE AND NOT DEFINED CMAKE_CXX_COMPILER_LAUNCHER)
    # Without this sloppiness ccache takes no file that uses the precompiled header.
    set(CMAKE_CXX_COMPILER_LAUNCHER "${CMAKE_COMMAND}" -E env
        CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
        "${CCACHE}")
endif()
find_program(MOLD mold)
if(MOLD)
    add_link_options(-fuse-ld=mold)
endif()

# For our own targets: they link gaur's headers as ordinary ones, so the flags hold for them too.
add_library(gaur_dev INTERFACE)
target_compile_options(gaur_dev INTERFACE
    -Wall -Wextra -Wpedantic -Wconversion -Wshadow
    $<$<BOOL:${GAUR_WARNINGS_ARE_ERRORS}>:-Werror>
    # g++ 12 warns of an overlap inside std::string's own operator+ (GCC PR 105651).
    $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>
    # GAUR_ASSERT(!"what cannot be") is meant.
    $<$<CXX_COMPILER_ID:Clang>:-Wno-string-conversion>)

# Which components a file's own includes ask for, and which of them are not there.
function(gaur_components_of file needed_variable missing_variable)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${file}")
    file(READ "${file}" text)
    set(needed "")
    set(missing "")
    foreach(component IN LISTS gaur_components)
        foreach(header IN LISTS gaur_${component}_headers)
            string(FIND "${text}" "#include <gaur/${header}>" place)
            if(NOT place EQUAL -1 AND TARGET gaur::${component})
                list(APPEND needed ${component})
            elseif(NOT place EQUAL -1)
                list(APPEND missing ${component})
            endif()
        endforeach()
    endforeach()
    set(${needed_variable} "${needed}" PARENT_SCOPE)
    set(${missing_variable} "${missing}" PARENT_SCOPE)
endfunction()

# gaur_add_program(<name> <file>...): links what the files include. Sets <name>_made in the caller;
# it is false where a component is missing, and then there is no such target.
function(gaur_add_program name)
    set(components "")
    foreach(file IN LISTS ARGN)
        gaur_components_of("${file}" needed missing)
        list(APPEND components ${needed})
        if(missing)
            message(STATUS "${name} left out: it needs gaur::${missing}")
            set(${name}_made FALSE PARENT_SCOPE)
            return()
        endif()
    endforeach()
    list(TRANSFORM components PREPEND gaur::)
    add_executable(${name} ${ARGN})
    target_link_libraries(${name} PRIVATE gaur::gaur gaur_dev ${components})
    set(${name}_made TRUE PARENT_SCOPE)
endfunction()
