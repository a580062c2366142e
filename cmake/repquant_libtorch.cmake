# Finds LibTorch: the one named by CMAKE_PREFIX_PATH or Torch_DIR if any, else the torch package in
# the repository's virtual environment. The result is the target repquant_torch.
set(REPQUANT_LIBTORCH_MINIMUM 2.13)
set(REPQUANT_LIBTORCH_ADVICE
    "Run scripts/setup.sh, which puts torch into .venv, or pass -DCMAKE_PREFIX_PATH=/path/to/libtorch"
)

find_package(LibTorch QUIET)

if(NOT Torch_DIR AND EXISTS ${PROJECT_SOURCE_DIR}/.venv/bin/python)
  execute_process(
    COMMAND
      ${PROJECT_SOURCE_DIR}/.venv/bin/python -c
      "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0], end='')"
    OUTPUT_VARIABLE repquant_torch_package
    RESULT_VARIABLE repquant_torch_status
    ERROR_QUIET)
  if(repquant_torch_status EQUAL 0)
    set(Torch_DIR ${repquant_torch_package}/share/cmake/Torch
        CACHE PATH "Folder of LibTorch's TorchConfig.cmake" FORCE)
    find_package(LibTorch QUIET)
  endif()
endif()

if(LibTorch_VERSION AND LibTorch_VERSION VERSION_LESS REPQUANT_LIBTORCH_MINIMUM)
  message(FATAL_ERROR "LibTorch ${LibTorch_VERSION} in ${Torch_DIR} is too old: repquant needs "
                      "${REPQUANT_LIBTORCH_MINIMUM} or newer.\n${REPQUANT_LIBTORCH_ADVICE}")
endif()

if(NOT LibTorch_FOUND)
  message(FATAL_ERROR "LibTorch ${REPQUANT_LIBTORCH_MINIMUM} or newer was not found.\n"
                      "${REPQUANT_LIBTORCH_ADVICE}")
endif()

# The standard library ABI must be the compiler's default, or every std::string in the interface
# fails to link. Asked with a function of libc10 that takes one.
if(NOT "${REPQUANT_LIBTORCH_ABI_CHECKED}" STREQUAL "${Torch_DIR}")
  try_compile(
    repquant_abi_fits ${PROJECT_BINARY_DIR}/check_torch_abi
    ${PROJECT_SOURCE_DIR}/cmake/check_torch_abi.cpp
    LINK_LIBRARIES LibTorch::c10
    OUTPUT_VARIABLE repquant_abi_output)
  if(NOT repquant_abi_fits)
    message(FATAL_ERROR "LibTorch in ${Torch_DIR} does not link with this compiler: most likely it "
                        "was built with _GLIBCXX_USE_CXX11_ABI=0, while the compiler uses the C++11 "
                        "ABI.\nTake a build made for it (the files named libtorch-cxx11-abi-*). "
                        "${REPQUANT_LIBTORCH_ADVICE}\n${repquant_abi_output}")
  endif()
  set(REPQUANT_LIBTORCH_ABI_CHECKED "${Torch_DIR}" CACHE INTERNAL "LibTorch whose ABI fits")
endif()

message(STATUS "LibTorch ${LibTorch_VERSION} from ${Torch_DIR}")

# Include directories of an imported target are SYSTEM.
add_library(repquant_torch INTERFACE)
target_link_libraries(repquant_torch INTERFACE LibTorch::torch_cpu)
