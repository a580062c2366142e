# The files of a Python wheel, as `cmake --install build --component wheel` lays them out
# (scripts/wheel.sh): program, libraries and Python package beside each other, with the LibTorch of
# the torch package.
set(repquant_torch_version ${LibTorch_VERSION})
string(REGEX REPLACE "[+].*" "" repquant_torch_version "${repquant_torch_version}")
set(repquant_info ${PROJECT_NAME}-${PROJECT_VERSION}.dist-info)
foreach(name METADATA WHEEL)
  configure_file(${PROJECT_SOURCE_DIR}/cmake/wheel/${name}.in ${PROJECT_BINARY_DIR}/wheel/${name}
                 @ONLY)
endforeach()

install(
  TARGETS repquant repquant_loader repquant_calls repquant_ops
  RUNTIME DESTINATION repquant COMPONENT wheel EXCLUDE_FROM_ALL
  LIBRARY DESTINATION repquant COMPONENT wheel EXCLUDE_FROM_ALL)
install(
  DIRECTORY ${PROJECT_SOURCE_DIR}/python/repquant
  DESTINATION .
  COMPONENT wheel EXCLUDE_FROM_ALL
  FILES_MATCHING
  PATTERN "*.py")
install(
  PROGRAMS ${PROJECT_SOURCE_DIR}/cmake/wheel/repquant
  DESTINATION ${PROJECT_NAME}-${PROJECT_VERSION}.data/scripts
  COMPONENT wheel EXCLUDE_FROM_ALL)
install(
  FILES ${PROJECT_BINARY_DIR}/wheel/METADATA ${PROJECT_BINARY_DIR}/wheel/WHEEL
  DESTINATION ${repquant_info}
  COMPONENT wheel EXCLUDE_FROM_ALL)
install(
  FILES ${PROJECT_SOURCE_DIR}/LICENSE
  DESTINATION ${repquant_info}/licenses
  COMPONENT wheel EXCLUDE_FROM_ALL)
