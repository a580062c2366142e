# Finds LibTorch, in a wheel or unpacked, by where its TorchConfig.cmake lies. That file itself is
# not read: of a GPU build it demands CUDA's toolkit, which computing on the CPU does not need.
#
#   Torch_DIR (cache)    folder of TorchConfig.cmake, under CMAKE_PREFIX_PATH as find_package() looks
#   LibTorch_VERSION     set as soon as Torch_DIR is
#   LibTorch::torch_cpu  the library, with include directories and LibTorch::c10
include(FindPackageHandleStandardArgs)

find_path(
  Torch_DIR TorchConfigVersion.cmake
  HINTS ${CMAKE_PREFIX_PATH} ENV CMAKE_PREFIX_PATH
  PATHS ${CMAKE_SYSTEM_PREFIX_PATH}
  PATH_SUFFIXES share/cmake/Torch lib/cmake/Torch Torch
  NO_DEFAULT_PATH
  DOC "Folder of LibTorch's TorchConfig.cmake")

if(Torch_DIR)
  # In a function: the file sets variables by general names.
  function(libtorch_read_version)
    include(${Torch_DIR}/TorchConfigVersion.cmake)
    set(LibTorch_VERSION ${PACKAGE_VERSION} PARENT_SCOPE)
  endfunction()
  libtorch_read_version()
  cmake_path(SET LibTorch_PREFIX NORMALIZE ${Torch_DIR}/../../..)
  foreach(name c10 torch_cpu)
    set(LibTorch_${name} LibTorch_${name}-NOTFOUND)
    find_library(LibTorch_${name} ${name} PATHS ${LibTorch_PREFIX}/lib NO_DEFAULT_PATH NO_CACHE)
  endforeach()
endif()

find_package_handle_standard_args(
  LibTorch
  REQUIRED_VARS Torch_DIR LibTorch_c10 LibTorch_torch_cpu
  VERSION_VAR LibTorch_VERSION)

if(LibTorch_FOUND AND NOT TARGET LibTorch::torch_cpu)
  add_library(LibTorch::c10 SHARED IMPORTED)
  set_target_properties(
    LibTorch::c10 PROPERTIES IMPORTED_LOCATION ${LibTorch_c10} INTERFACE_INCLUDE_DIRECTORIES
                                                               ${LibTorch_PREFIX}/include)
  # The definitions are those that the library was compiled with.
  add_library(LibTorch::torch_cpu SHARED IMPORTED)
  set_target_properties(
    LibTorch::torch_cpu
    PROPERTIES
      IMPORTED_LOCATION ${LibTorch_torch_cpu}
      INTERFACE_COMPILE_DEFINITIONS "USE_DISTRIBUTED;USE_C10D_GLOO;USE_RPC;USE_TENSORPIPE"
      INTERFACE_INCLUDE_DIRECTORIES
      "${LibTorch_PREFIX}/include;${LibTorch_PREFIX}/include/torch/csrc/api/include"
      INTERFACE_LINK_LIBRARIES LibTorch::c10)
endif()
