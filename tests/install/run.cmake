# Run as a script by ctest: install, then configure, build and run the consumer.
function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE text ERROR_VARIABLE text)
  if(NOT status EQUAL 0)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "failed (${status}): ${command}\n${text}")
  endif()
endfunction()

# An instrumented library needs the same flags where it is linked.
set(flags)
if(SANITIZE)
  set(flags -fsanitize=${SANITIZE})
endif()
if(COVERAGE)
  set(flags --coverage)
endif()

file(REMOVE_RECURSE ${WORK_DIR})
run(${CMAKE_COMMAND} --install ${BUILD_DIR} --prefix ${WORK_DIR}/prefix)
run(${CMAKE_COMMAND} -S ${CONSUMER} -B ${WORK_DIR}/build -G Ninja -DCMAKE_BUILD_TYPE=${BUILD_TYPE}
    -DCMAKE_CXX_COMPILER=${COMPILER} -DCMAKE_PREFIX_PATH=${WORK_DIR}/prefix -DTorch_DIR=${TORCH_DIR}
    -DCMAKE_EXE_LINKER_FLAGS=${flags})
run(${CMAKE_COMMAND} --build ${WORK_DIR}/build)
run(${WORK_DIR}/build/consumer)

# The deployment example, on an artifact made by the installed program, with the installed library.
set(artifact ${WORK_DIR}/digits.w8a8.pt)
run(${WORK_DIR}/prefix/bin/repquant quantize ${DIGITS}/digits_vit.pt --calib
    ${DIGITS}/digits_calib.npz --calib-samples 8 --bits w8a8 --quiet -o ${artifact})
run(${CMAKE_COMMAND} -S ${DEPLOY} -B ${WORK_DIR}/deploy -G Ninja -DCMAKE_BUILD_TYPE=${BUILD_TYPE}
    -DCMAKE_CXX_COMPILER=${COMPILER} -DCMAKE_PREFIX_PATH=${WORK_DIR}/prefix -DTorch_DIR=${TORCH_DIR}
    -DCMAKE_EXE_LINKER_FLAGS=${flags})
run(${CMAKE_COMMAND} --build ${WORK_DIR}/deploy)
run(${WORK_DIR}/deploy/deploy ${artifact} 2,1,8,8)
