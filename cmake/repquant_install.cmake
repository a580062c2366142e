# Install and export: find_package(repquant) gives repquant::core and one target per room.
include(CMakePackageConfigHelpers)

set(repquant_cmake_dir ${CMAKE_INSTALL_LIBDIR}/cmake/repquant)
get_property(repquant_room_targets GLOBAL PROPERTY REPQUANT_ROOM_TARGETS)

install(
  TARGETS ${repquant_room_targets} repquant_core
  EXPORT repquant_targets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS repquant_torch EXPORT repquant_targets)
if(TARGET repquant)
  install(TARGETS repquant RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
install(
  EXPORT repquant_targets
  NAMESPACE repquant::
  DESTINATION ${repquant_cmake_dir})
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
