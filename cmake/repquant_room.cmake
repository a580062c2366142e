# Helpers that every room uses. In DEPENDS, the name of a room stands for its library; a room depends
# only on rooms before it in this list (scripts/check_includes.py).
set(REPQUANT_ROOMS
    base archive report recipe tensor format data quantizer gptq plan graph ops fit learn bit_allocation artifact runtime
    evaluate pipeline verify nightly benchmark cli bindings)

# Tests spend their time in what they test: a third less to compile than with -O3.
set(repquant_test_options -O1)

# A file that sees LibTorch pays seconds for its headers, whatever its own length. So they come
# precompiled, and several files of a room are compiled as one.
if(REPQUANT_PCH)
  function(repquant_add_pch name)
    add_library(repquant_${name} STATIC ${PROJECT_SOURCE_DIR}/cmake/pch.cpp)
    target_link_libraries(repquant_${name} PRIVATE repquant_options repquant_torch ${ARGN})
    target_precompile_headers(repquant_${name} PRIVATE ${PROJECT_SOURCE_DIR}/cmake/${name}.h)
  endfunction()
  repquant_add_pch(pch)
  if(REPQUANT_TESTS)
    repquant_add_pch(test_pch GTest::gmock)
    target_compile_options(repquant_test_pch PRIVATE ${repquant_test_options})
  endif()
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

# Files of one batch share a translation unit: names in their anonymous namespaces must differ.
function(repquant_unite target)
  set_target_properties(${target} PROPERTIES UNITY_BUILD ${REPQUANT_UNITY} UNITY_BUILD_BATCH_SIZE
                                             ${REPQUANT_UNITY_BATCH})
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

# repquant_add_room(<name> [DEPENDS <room or target>...] [PRIVATE_DEPENDS <target>...]
#                   [EXCLUDE <file>...] [GENERATED <file>...] [NO_TORCH])
#
# Adds the static library repquant_<name> of all sources in the folder but those of EXCLUDE.
# NO_TORCH: the room does not see LibTorch at all.
function(repquant_add_room)
  cmake_parse_arguments(PARSE_ARGV 1 arg "NO_TORCH" "" "DEPENDS;PRIVATE_DEPENDS;EXCLUDE;GENERATED")
  set(name ${ARGV0})
  set(target repquant_${name})
  file(GLOB sources CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} *.cpp)
  list(REMOVE_ITEM sources main.cpp ${arg_EXCLUDE})
  repquant_resolve(depends ${arg_DEPENDS})
  repquant_resolve(private_depends ${arg_PRIVATE_DEPENDS})

  add_library(${target} STATIC ${sources} ${arg_GENERATED})
  add_library(repquant::${name} ALIAS ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
  repquant_unite(${target})
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
    repquant_use_pch(${target})
  endif()
  target_link_libraries(repquant_core INTERFACE ${target})
  set_property(GLOBAL APPEND PROPERTY REPQUANT_ROOM_TARGETS ${target})
endfunction()

# repquant_add_test(<name> [SOURCES <file>...] [DEPENDS <room or target>...] [SLOW <pattern>...]
#                   [SHARDS <number>] [TIMEOUT <seconds>] [NO_TORCH])
#
# Adds the gtest executable test_<name> of all sources in the folder and of SOURCES, and registers
# each of its tests with ctest, under the labels <name> and fast, or slow for those that a pattern of
# SLOW (as in --gtest_filter) matches: more than two seconds, and begun first. SHARDS: registers the
# executable as so many slow tests, each of which runs its share of the cases, where there are many
# short ones (a process takes a quarter of a second to load LibTorch). The tests run in the repository
# root with REPQUANT_SOURCE_DIR, REPQUANT_BINARY and, when ../shared exists, REPQUANT_SHARED in the
# environment.
function(repquant_add_test)
  if(NOT REPQUANT_TESTS)
    return()
  endif()
  cmake_parse_arguments(PARSE_ARGV 1 arg "NO_TORCH" "TIMEOUT;SHARDS" "SOURCES;DEPENDS;SLOW")
  set(name ${ARGV0})
  file(GLOB sources CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} *.cpp)
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)
  endif()
  math(EXPR arg_TIMEOUT "${arg_TIMEOUT} * ${repquant_slowdown}")
  set(target test_${name})
  repquant_resolve(depends ${arg_DEPENDS})

  add_executable(${target} ${sources} ${arg_SOURCES})
  repquant_unite(${target})
  target_compile_options(${target} PRIVATE ${repquant_test_options})
  target_include_directories(
    ${target} PRIVATE ${PROJECT_SOURCE_DIR}/tests ${PROJECT_SOURCE_DIR}/src
                      ${PROJECT_SOURCE_DIR}/include ${PROJECT_BINARY_DIR}/include)
  target_link_libraries(${target} PRIVATE ${depends} repquant_options GTest::gmock
                                          GTest::gtest_main)
  if(NOT arg_NO_TORCH)
    target_link_libraries(${target} PRIVATE repquant_torch)
    if(REPQUANT_PCH)
      target_precompile_headers(${target} REUSE_FROM repquant_test_pch)
    endif()
  endif()
  set_property(GLOBAL APPEND PROPERTY REPQUANT_UNIT_TESTS ${target})

  if(arg_SHARDS)
    math(EXPR last "${arg_SHARDS} - 1")
    foreach(shard RANGE ${last})
      add_test(NAME ${name}.${shard} COMMAND ${target} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
      set(environment ${REPQUANT_TEST_ENVIRONMENT} GTEST_TOTAL_SHARDS=${arg_SHARDS}
                      GTEST_SHARD_INDEX=${shard})
      set_tests_properties(
        ${name}.${shard} PROPERTIES LABELS "${name};slow" COST 50 TIMEOUT ${arg_TIMEOUT}
                                    ENVIRONMENT "${environment}")
    endforeach()
    return()
  endif()

  # Properties are set when ctest reads the tests: gtest_discover_tests() takes no lists in them.
  macro(discover speed cost filter)
    gtest_discover_tests(
      ${target}
      WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
      DISCOVERY_MODE PRE_TEST
      NO_PRETTY_VALUES # parameterized tests name their cases themselves
      DISCOVERY_TIMEOUT 60
      TEST_FILTER ${filter}
      TEST_LIST ${target}_${speed})
    set(properties ${CMAKE_CURRENT_BINARY_DIR}/${target}_${speed}.cmake)
    file(
      WRITE ${properties}
      "if(${target}_${speed})\n"
      "  set_tests_properties(\${${target}_${speed}} PROPERTIES LABELS \"${name};${speed}\"\n"
      "    COST ${cost} TIMEOUT ${arg_TIMEOUT} ENVIRONMENT \"${REPQUANT_TEST_ENVIRONMENT}\")\n"
      "endif()\n")
    set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES ${properties})
  endmacro()
  if(arg_SLOW)
    list(JOIN arg_SLOW ":" slow)
    discover(slow 10 "${slow}")
    discover(fast 1 "-${slow}")
  else()
    discover(fast 1 "*")
  endif()
endfunction()

# The unit tests alone, without the program: what the sanitizers check (.ci/run).
function(repquant_add_unit_tests)
  get_property(targets GLOBAL PROPERTY REPQUANT_UNIT_TESTS)
  add_custom_target(unit_tests DEPENDS ${targets})
endfunction()

# Tests run side by side, so threads that wait for work must not spin.
set(REPQUANT_TEST_ENVIRONMENT "OMP_WAIT_POLICY=passive" "REPQUANT_SOURCE_DIR=${PROJECT_SOURCE_DIR}"
                              "REPQUANT_BINARY=${PROJECT_BINARY_DIR}/repquant")
if(EXISTS ${PROJECT_SOURCE_DIR}/../shared)
  cmake_path(SET repquant_shared NORMALIZE ${PROJECT_SOURCE_DIR}/../shared)
  list(APPEND REPQUANT_TEST_ENVIRONMENT "REPQUANT_SHARED=${repquant_shared}")
endif()
