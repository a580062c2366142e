# Helpers that every room uses. In DEPENDS, the name of a room stands for its library.
set(REPQUANT_ROOMS base ops plan compute data graph quantizer reparam gptq sweep mixed artifact runtime
                   pipeline evaluate batch benchmark cli)

# One precompiled header for everything that sees LibTorch: 20 s per file become about 5 s.
if(REPQUANT_PCH)
  add_library(repquant_pch STATIC ${PROJECT_SOURCE_DIR}/cmake/pch.cpp)
  target_link_libraries(repquant_pch PRIVATE repquant_options repquant_torch)
  target_precompile_headers(repquant_pch PRIVATE ${PROJECT_SOURCE_DIR}/cmake/pch.h)
  # ccache needs this to see through the precompiled header.
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(repquant_options INTERFACE -fpch-preprocess)
  endif()
endif()

function(repquant_use_pch target)
  if(REPQUANT_PCH)
    target_precompile_headers(${target} REUSE_FROM repquant_pch)
  endif()
endfunction()

# repquant_resolve(<out> <name>...): room names become library targets, others stay.
function(repquant_resolve out)
  set(result)
  foreach(name IN LISTS ARGN)
    if(name IN_LIST REPQUANT_ROOMS)
      list(APPEND result repquant_${name})
    else()
      list(APPEND result ${name})
    endif()
  endforeach()
  set(${out} ${result} PARENT_SCOPE)
endfunction()

# repquant_add_room(<name> SOURCES <file>... [DEPENDS <room or target>...]
#                   [PRIVATE_DEPENDS <target>...] [NO_TORCH] [NO_PCH])
#
# Adds the static library repquant_<name>. NO_TORCH: the room does not see LibTorch at all.
# NO_PCH: it does, but its files do without the precompiled header.
function(repquant_add_room)
  cmake_parse_arguments(PARSE_ARGV 0 arg "NO_TORCH;NO_PCH" "NAME"
                        "SOURCES;DEPENDS;PRIVATE_DEPENDS")
  if(NOT arg_NAME)
    list(GET arg_UNPARSED_ARGUMENTS 0 arg_NAME)
  endif()
  set(target repquant_${arg_NAME})
  repquant_resolve(depends ${arg_DEPENDS})
  repquant_resolve(private_depends ${arg_PRIVATE_DEPENDS})

  add_library(${target} STATIC ${arg_SOURCES})
  add_library(repquant::${arg_NAME} ALIAS ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${arg_NAME})
  target_compile_features(${target} PUBLIC cxx_std_20)
  target_include_directories(
    ${target}
    PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
           $<BUILD_INTERFACE:${PROJECT_BINARY_DIR}/include>
           $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/src>
           $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_link_libraries(
    ${target}
    PUBLIC ${depends}
    PRIVATE ${private_depends} $<BUILD_INTERFACE:repquant_options>)
  if(NOT arg_NO_TORCH)
    target_link_libraries(${target} PUBLIC repquant_torch)
    if(NOT arg_NO_PCH)
      repquant_use_pch(${target})
    endif()
  endif()
  target_link_libraries(repquant_core INTERFACE ${target})
  set_property(GLOBAL APPEND PROPERTY REPQUANT_ROOM_TARGETS ${target})
endfunction()

# repquant_add_test(<name> SOURCES <file>... [DEPENDS <room or target>...] [LABELS <label>...]
#                   [TIMEOUT <seconds>] [ONE_PROCESS] [NO_TORCH] [NO_PCH])
#
# Adds the gtest executable test_<name> and registers each of its tests with ctest, under the label
# <name>. ONE_PROCESS: registers the executable as one test, for many short cases (each process takes
# a quarter of a second to load LibTorch). The tests run in the repository root with
# REPQUANT_SOURCE_DIR, REPQUANT_BINARY and, when ../shared exists, REPQUANT_SHARED in the environment.
function(repquant_add_test)
  if(NOT REPQUANT_TESTS)
    return()
  endif()
  cmake_parse_arguments(PARSE_ARGV 0 arg "ONE_PROCESS;NO_TORCH;NO_PCH" "NAME;TIMEOUT"
                        "SOURCES;DEPENDS;LABELS")
  if(NOT arg_NAME)
    list(GET arg_UNPARSED_ARGUMENTS 0 arg_NAME)
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)
  endif()
  math(EXPR arg_TIMEOUT "${arg_TIMEOUT} * ${repquant_slowdown}")
  set(target test_${arg_NAME})
  repquant_resolve(depends ${arg_DEPENDS})

  add_executable(${target} ${arg_SOURCES})
  target_include_directories(
    ${target} PRIVATE ${PROJECT_SOURCE_DIR}/tests ${PROJECT_SOURCE_DIR}/src
                      ${PROJECT_SOURCE_DIR}/include ${PROJECT_BINARY_DIR}/include)
  target_link_libraries(${target} PRIVATE ${depends} repquant_options GTest::gmock
                                          GTest::gtest_main)
  if(NOT arg_NO_TORCH)
    target_link_libraries(${target} PRIVATE repquant_torch)
    if(NOT arg_NO_PCH)
      repquant_use_pch(${target})
    endif()
  endif()
  if(arg_ONE_PROCESS)
    add_test(NAME ${arg_NAME}.all COMMAND ${target} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
    set_tests_properties(
      ${arg_NAME}.all
      PROPERTIES LABELS "${arg_NAME};${arg_LABELS}" TIMEOUT ${arg_TIMEOUT} ENVIRONMENT
                 "${REPQUANT_TEST_ENVIRONMENT}")
    return()
  endif()
  gtest_discover_tests(
    ${target}
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
    DISCOVERY_MODE PRE_TEST
    NO_PRETTY_VALUES # parameterized tests name their cases themselves
    DISCOVERY_TIMEOUT 60
    PROPERTIES LABELS "${arg_NAME};${arg_LABELS}" TIMEOUT ${arg_TIMEOUT} ENVIRONMENT
               "${REPQUANT_TEST_ENVIRONMENT}")
endfunction()

set(REPQUANT_TEST_ENVIRONMENT "REPQUANT_SOURCE_DIR=${PROJECT_SOURCE_DIR}"
                              "REPQUANT_BINARY=${PROJECT_BINARY_DIR}/repquant")
if(EXISTS ${PROJECT_SOURCE_DIR}/../shared)
  cmake_path(SET repquant_shared NORMALIZE ${PROJECT_SOURCE_DIR}/../shared)
  list(APPEND REPQUANT_TEST_ENVIRONMENT "REPQUANT_SHARED=${repquant_shared}")
endif()
