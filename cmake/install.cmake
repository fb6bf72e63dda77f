# SPDX-License-Identifier: BSL-1.0
# One export file a component, so that a user who asks for one needs only its library.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(config_dir "${CMAKE_INSTALL_DATADIR}/cmake/gaur") # under share/: nothing is compiled

install(TARGETS gaur EXPORT gaur FILE_SET HEADERS)
install(EXPORT gaur NAMESPACE gaur:: DESTINATION "${config_dir}" FILE gaur-targets.cmake)
foreach(component IN LISTS gaur_found_components)
    install(TARGETS gaur_${component} EXPORT gaur-${component} FILE_SET HEADERS)
    install(EXPORT gaur-${component} NAMESPACE gaur::
        DESTINATION "${config_dir}" FILE gaur-${component}-targets.cmake)
endforeach()

write_basic_package_version_file(gaur-config-version.cmake
    COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES
    "${CMAKE_CURRENT_BINARY_DIR}/gaur-config-version.cmake"
    cmake/gaur-config.cmake cmake/gaur-components.cmake cmake/FindLiburing.cmake
    DESTINATION "${config_dir}")
install(FILES LICENSE DESTINATION "${CMAKE_INSTALL_DOCDIR}")

# For programs that are not built with CMake. The headers need Boost's headers, which have no file
# of their own for pkg-config; the components' libraries are named by who includes their headers.
file(CONFIGURE OUTPUT gaur.pc @ONLY CONTENT "prefix=\${pcfiledir}/../..
includedir=\${prefix}/@CMAKE_INSTALL_INCLUDEDIR@

Name: gaur
Description: @PROJECT_DESCRIPTION@
Version: @PROJECT_VERSION@
Cflags: -I\${includedir}
")
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/gaur.pc"
    DESTINATION "${CMAKE_INSTALL_DATADIR}/pkgconfig")
