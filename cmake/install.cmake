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
