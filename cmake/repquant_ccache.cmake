# Compile through ccache. The sloppiness settings are what ccache needs to cache a file that uses a
# precompiled header; without them every such file is a miss.
if(REPQUANT_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  find_program(REPQUANT_CCACHE_PROGRAM ccache)
  mark_as_advanced(REPQUANT_CCACHE_PROGRAM)
  if(REPQUANT_CCACHE_PROGRAM)
    set(CMAKE_CXX_COMPILER_LAUNCHER
        ${CMAKE_COMMAND} -E env
        CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
        CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} ${REPQUANT_CCACHE_PROGRAM})
  endif()
endif()
