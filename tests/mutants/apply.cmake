# SPDX-License-Identifier: BSL-1.0
# cmake -DINCLUDE=<include> -DTABLE=<mutants.cmake> -DOUT=<folder> -P apply.cmake: a copy of gaur's
# headers with all mutants of the table in them. Fails where an old text is not there exactly once.
cmake_minimum_required(VERSION 3.25)

file(REMOVE_RECURSE "${OUT}/gaur")
file(COPY "${INCLUDE}/gaur" DESTINATION "${OUT}")
file(WRITE "${OUT}/gaur/mutant.hpp" "#pragma once
namespace gaur::test {
/// The mutant that this run has chosen; 0: none.
inline int mutant = 0;
} // namespace gaur::test
")

function(mutant number name)
    set(number "${number}" PARENT_SCOPE)
endfunction()

function(edit header old new)
    file(READ "${OUT}/gaur/${header}" text)
    string(FIND "${text}" "${old}" first)
    string(FIND "${text}" "${old}" last REVERSE)
    if(first EQUAL -1)
        message(SEND_ERROR "mutant ${number}: ${header} has changed, and no longer has\n${old}\n"
            "Find what says so now, and edit the mutant in ${TABLE}.")
    elseif(NOT first EQUAL last)
        message(SEND_ERROR "mutant ${number}: ${header} has this more than once:\n${old}\n"
            "Take more of what is round it into the mutant in ${TABLE}.")
    endif()
    string(REPLACE "MUTANT" "(::gaur::test::mutant == ${number})" new "${new}")
    string(REPLACE "${old}" "${new}" text "${text}")
    string(FIND "${text}" "#include <gaur/mutant.hpp>" included)
    if(included EQUAL -1)
        string(REPLACE "#pragma once\n" "#pragma once\n#include <gaur/mutant.hpp>\n" text "${text}")
    endif()
    file(WRITE "${OUT}/gaur/${header}" "${text}")
endfunction()

include("${TABLE}")
