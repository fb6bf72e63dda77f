# SPDX-License-Identifier: BSL-1.0
# cmake -DCOMPILER=… -DCOMPILER_ID=… -DINCLUDE=… [-DSYSTEM_INCLUDE=…] -DSOURCE=… -P refused.cmake
function(fail sentence)
    message(NOTICE "${sentence}") # a FATAL_ERROR would break the sentence into lines
    message(FATAL_ERROR "see above")
endfunction()

file(READ "${SOURCE}" text)
if(NOT text MATCHES "// expect: ([^\n]+)")
    fail("${SOURCE} names no text to expect: add a line `// expect: <text>`")
endif()
string(STRIP "${CMAKE_MATCH_1}" expected)

set(flags -std=c++20 -fsyntax-only "-I${INCLUDE}")
foreach(folder IN LISTS SYSTEM_INCLUDE)
    if(NOT folder STREQUAL "/usr/include") # it must stay where the compiler has it
        list(APPEND flags -isystem "${folder}")
    endif()
endforeach()
# Without excerpts of the source, so that no comment is taken for the compiler's words.
if(COMPILER_ID MATCHES "Clang")
    list(APPEND flags -fno-caret-diagnostics)
else()
    list(APPEND flags -fno-diagnostics-show-caret)
endif()
execute_process(
    COMMAND "${COMPILER}" ${flags} "${SOURCE}"
    RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(status EQUAL 0)
    fail("${SOURCE} compiles, but must be refused with: ${expected}")
endif()
string(FIND "${output}" "${expected}" place)
if(place EQUAL -1)
    fail(
        "${SOURCE} is refused, but not for the reason: ${expected}\nThe compiler says:\n${output}")
endif()
message(STATUS "refused, as it must be: ${expected}")
