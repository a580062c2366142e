# Finds LibTorch: the one named by CMAKE_PREFIX_PATH or Torch_DIR if any, else the torch package in
# the repository's virtual environment. The result is the target repquant_torch.
set(REPQUANT_LIBTORCH_MINIMUM 2.13)
set(REPQUANT_LIBTORCH_ADVICE
    "Run scripts/setup.sh, which puts torch into .venv, or pass -DCMAKE_PREFIX_PATH=/path/to/libtorch"
)

# Torch's own configuration warns about an optional static library that the wheel does not ship.
set(CMAKE_MESSAGE_LOG_LEVEL_SAVED ${CMAKE_MESSAGE_LOG_LEVEL})
set(CMAKE_MESSAGE_LOG_LEVEL ERROR)
find_package(Torch QUIET CONFIG)

if(NOT Torch_FOUND AND EXISTS ${PROJECT_SOURCE_DIR}/.venv/bin/python)
  execute_process(
    COMMAND ${PROJECT_SOURCE_DIR}/.venv/bin/python -c
            "import torch; print(torch.utils.cmake_prefix_path, end='')"
    OUTPUT_VARIABLE repquant_torch_prefix
    RESULT_VARIABLE repquant_torch_status
    ERROR_QUIET)
  if(repquant_torch_status EQUAL 0)
    unset(Torch_DIR CACHE)
    find_package(Torch QUIET CONFIG PATHS ${repquant_torch_prefix} NO_DEFAULT_PATH)
  endif()
endif()

set(CMAKE_MESSAGE_LOG_LEVEL ${CMAKE_MESSAGE_LOG_LEVEL_SAVED})

if(NOT Torch_FOUND)
  message(FATAL_ERROR "LibTorch ${REPQUANT_LIBTORCH_MINIMUM} or newer was not found.\n"
                      "${REPQUANT_LIBTORCH_ADVICE}")
endif()

if(Torch_VERSION VERSION_LESS REPQUANT_LIBTORCH_MINIMUM)
  message(FATAL_ERROR "LibTorch ${Torch_VERSION} in ${Torch_DIR} is too old: repquant needs "
                      "${REPQUANT_LIBTORCH_MINIMUM} or newer.\n${REPQUANT_LIBTORCH_ADVICE}")
endif()

# The standard library ABI must be the compiler's default, or every std::string in the interface
# fails to link. Asked with a function of libc10 that takes one.
if(NOT "${REPQUANT_LIBTORCH_ABI_CHECKED}" STREQUAL "${Torch_DIR}")
  try_compile(
    repquant_abi_fits ${PROJECT_BINARY_DIR}/check_torch_abi
    ${PROJECT_SOURCE_DIR}/cmake/check_torch_abi.cpp
    LINK_LIBRARIES c10
    OUTPUT_VARIABLE repquant_abi_output)
  if(NOT repquant_abi_fits)
    message(FATAL_ERROR "LibTorch in ${Torch_DIR} does not link with this compiler: most likely it "
                        "was built with _GLIBCXX_USE_CXX11_ABI=0, while the compiler uses the C++11 "
                        "ABI.\nTake a build made for it (the files named libtorch-cxx11-abi-*). "
                        "${REPQUANT_LIBTORCH_ADVICE}\n${repquant_abi_output}")
  endif()
  set(REPQUANT_LIBTORCH_ABI_CHECKED "${Torch_DIR}" CACHE INTERNAL "LibTorch whose ABI fits")
endif()

message(STATUS "LibTorch ${Torch_VERSION} from ${Torch_DIR}")

# Only the imported target is used: TORCH_CXX_FLAGS never reaches our own flags, and the include
# directories of an imported target are SYSTEM.
add_library(repquant_torch INTERFACE)
target_link_libraries(repquant_torch INTERFACE torch)
