# repquant_options: warnings and instrumentation for our own targets. It is linked privately and
# never exported, so that users of the installed library keep their own flags.
add_library(repquant_options INTERFACE)

target_compile_options(
  repquant_options
  # a * b + c stays two roundings: g++ would fuse them in the loops that are compiled for AVX-512
  # too (tensor/simd.h), and these must give the bits of the others.
  INTERFACE -ffp-contract=off
            -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wnon-virtual-dtor -Woverloaded-virtual
            $<$<BOOL:${REPQUANT_WERROR}>:-Werror>)

# The same for libraries and executables (not CMake's -fPIC here and -fPIE there), because both share
# one precompiled header.
target_compile_options(repquant_options INTERFACE -fPIC)

if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # False positives of gcc 12 inside inlined standard library code at -O2 and above.
  target_compile_options(repquant_options INTERFACE -Wno-restrict)
endif()

# For files that only processors with AVX-512 run. The warnings are false positives of gcc 12 inside
# its own AVX-512 header.
set(repquant_avx512_options -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma
                            -Wno-maybe-uninitialized -Wno-uninitialized)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(repquant_x86 ON)
endif()

set(repquant_slowdown 1) # what time limits of tests are multiplied by
if(REPQUANT_SANITIZE)
  set(repquant_slowdown 6)
  # LibTorch is built without sanitizers; its type information does not suit the vptr check.
  set(repquant_sanitize -fsanitize=${REPQUANT_SANITIZE} -fno-omit-frame-pointer)
  if(REPQUANT_SANITIZE MATCHES "undefined")
    list(APPEND repquant_sanitize -fno-sanitize=vptr -fno-sanitize-recover=undefined)
  endif()
  target_compile_options(repquant_options INTERFACE ${repquant_sanitize})
  target_link_options(repquant_options INTERFACE ${repquant_sanitize})
endif()

if(REPQUANT_COVERAGE)
  target_compile_options(repquant_options INTERFACE --coverage)
  target_link_options(repquant_options INTERFACE --coverage)
endif()
