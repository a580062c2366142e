# Run as a script by ctest: install, then configure, build and run the consumer. run() gives what was
# written as `output`.
function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE text ERROR_VARIABLE text)
  if(NOT status EQUAL 0)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "failed (${status}): ${command}\n${text}")
  endif()
  set(output "${text}" PARENT_SCOPE)
endfunction()

# An instrumented library needs the same flags where it is linked.
set(flags)
if(SANITIZE)
  set(flags -fsanitize=${SANITIZE})
endif()
if(COVERAGE)
  set(flags --coverage)
endif()

# build_project(<source> <name> <extra cache entries>...): a project that sees the installation.
function(build_project source name)
  run(${CMAKE_COMMAND} -S ${source} -B ${WORK_DIR}/${name} -G Ninja -DCMAKE_BUILD_TYPE=${BUILD_TYPE}
      -DCMAKE_CXX_COMPILER=${COMPILER} -DCMAKE_PREFIX_PATH=${WORK_DIR}/prefix
      -DTorch_DIR=${TORCH_DIR} -DCMAKE_EXE_LINKER_FLAGS=${flags} ${ARGN})
  run(${CMAKE_COMMAND} --build ${WORK_DIR}/${name})
endfunction()

file(REMOVE_RECURSE ${WORK_DIR})
run(${CMAKE_COMMAND} --install ${BUILD_DIR} --prefix ${WORK_DIR}/prefix)
build_project(${CONSUMER} consumer)
run(${WORK_DIR}/consumer/consumer ${DIGITS} ${WORK_DIR})
foreach(call preview analyze quantize inspect_artifact read_artifact inspect_fused verify expand_forms
             parse_form parse_task check_evaluation benchmark cpu_level cpu_level_report test_kernels load)
  if(NOT output MATCHES "${call}[a-z_, ]*: ok\n")
    message(FATAL_ERROR "the consumer did not call ${call}:\n${output}")
  endif()
endforeach()

# The examples, with the installed library. Loading an artifact needs none of the packages that the
# rest does.
set(artifact ${WORK_DIR}/digits.example.pt)
build_project(${EXAMPLES}/quantize_cpp quantize)
run(${WORK_DIR}/quantize/quantize_cpp ${DIGITS}/digits_vit.pt ${DIGITS}/digits_calib.npz
    ${DIGITS}/digits_test.npz ${artifact})
set(disabled)
foreach(package nlohmann_json spdlog OpenSSL JPEG PNG CLI11 LibZip)
  list(APPEND disabled -DCMAKE_DISABLE_FIND_PACKAGE_${package}=TRUE)
endforeach()
build_project(${EXAMPLES}/deploy_cpp deploy ${disabled})
run(${WORK_DIR}/deploy/deploy ${artifact} 2,1,8,8)

# The installed program does what the one in the build folder does; then it goes without a trace.
run(${WORK_DIR}/prefix/bin/repquant inspect ${artifact} --json)
run(${CMAKE_COMMAND} -DMANIFEST=${BUILD_DIR}/install_manifest.txt -P ${UNINSTALL})
file(GLOB_RECURSE left ${WORK_DIR}/prefix/*)
if(left)
  message(FATAL_ERROR "left by uninstall: ${left}")
endif()
