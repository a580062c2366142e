# Install and export. find_package(repquant) gives repquant::core and one target per room;
# find_package(repquant COMPONENTS runtime) gives repquant::runtime alone, the shared library that
# loads artifacts, and asks for nothing but LibTorch.
include(CMakePackageConfigHelpers)

set(repquant_cmake_dir ${CMAKE_INSTALL_LIBDIR}/cmake/repquant)
get_property(repquant_room_targets GLOBAL PROPERTY REPQUANT_ROOM_TARGETS)

list(REMOVE_ITEM repquant_room_targets repquant_ops)

install(
  TARGETS repquant_loader repquant_ops repquant_torch
  EXPORT repquant_runtime_targets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(
  TARGETS ${repquant_room_targets} repquant_core
  EXPORT repquant_targets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(TARGET repquant)
  install(TARGETS repquant RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
foreach(export repquant_runtime_targets repquant_targets)
  install(
    EXPORT ${export}
    NAMESPACE repquant::
    DESTINATION ${repquant_cmake_dir})
endforeach()
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/repquant ${PROJECT_BINARY_DIR}/include/repquant
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

configure_package_config_file(
  ${PROJECT_SOURCE_DIR}/cmake/repquant-config.cmake.in ${PROJECT_BINARY_DIR}/repquant-config.cmake
  INSTALL_DESTINATION ${repquant_cmake_dir})
write_basic_package_version_file(
  ${PROJECT_BINARY_DIR}/repquant-config-version.cmake COMPATIBILITY SameMinorVersion)
install(
  FILES ${PROJECT_BINARY_DIR}/repquant-config.cmake
        ${PROJECT_BINARY_DIR}/repquant-config-version.cmake
        ${PROJECT_SOURCE_DIR}/cmake/FindLibTorch.cmake
        ${PROJECT_SOURCE_DIR}/cmake/FindLibZip.cmake
  DESTINATION ${repquant_cmake_dir})

# What was installed needs LibTorch; a folder inside of this clone goes with the clone.
cmake_path(IS_PREFIX PROJECT_SOURCE_DIR "${REPQUANT_INSTALL_LIBTORCH}" NORMALIZE repquant_inside)
set(repquant_note "Installed files look for LibTorch's libraries in ${REPQUANT_INSTALL_LIBTORCH}")
if(repquant_inside)
  string(APPEND repquant_note
         ", which lies in this clone and is gone when the clone is. To look elsewhere, configure "
         "with -DREPQUANT_INSTALL_LIBTORCH=/path/to/libtorch/lib and install again")
endif()
install(CODE "message(STATUS \"${repquant_note}.\")")

add_custom_target(
  uninstall
  COMMAND ${CMAKE_COMMAND} -DMANIFEST=${PROJECT_BINARY_DIR}/install_manifest.txt -P
          ${PROJECT_SOURCE_DIR}/cmake/repquant_uninstall.cmake
  COMMENT "Removing what was installed last")
