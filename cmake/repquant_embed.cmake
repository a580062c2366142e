# repquant_embed(<out> <function> <file>...): makes a C++ source of the files' texts, built anew when
# one of them changes, and puts its path into <out>. The source defines
# std::span<const EmbeddedFile> repquant::<function>() (base/embedded_file.h), in the order given.
function(repquant_embed out function)
  set(source ${CMAKE_CURRENT_BINARY_DIR}/${function}.cpp)
  list(JOIN ARGN "," files)
  add_custom_command(
    OUTPUT ${source}
    COMMAND ${CMAKE_COMMAND} -DOUTPUT=${source} -DFUNCTION=${function} -DFILES=${files} -P
            ${PROJECT_SOURCE_DIR}/cmake/repquant_embed.cmake
    DEPENDS ${ARGN} ${PROJECT_SOURCE_DIR}/cmake/repquant_embed.cmake
    COMMENT "Embedding the files of ${function}"
    VERBATIM)
  set(${out} ${source} PARENT_SCOPE)
endfunction()

# Run as a script, by the command above: writes that source.
if(CMAKE_SCRIPT_MODE_FILE)
  string(REPLACE "," ";" files "${FILES}")
  list(LENGTH files count)
  set(text "// Generated at build time.\n#include <array>\n\n")
  string(APPEND text "#include \"base/embedded_file.h\"\n\nnamespace repquant {\n\n")
  # Declared first: no header of the room is known here.
  string(APPEND text "std::span<const EmbeddedFile> ${FUNCTION}();\n\n")
  string(APPEND text "std::span<const EmbeddedFile> ${FUNCTION}() {\n")
  string(APPEND text "  static constexpr std::array<EmbeddedFile, ${count}> kFiles{{\n")
  foreach(file IN LISTS files)
    get_filename_component(name ${file} NAME_WE)
    file(READ ${file} content)
    string(APPEND text "      {\"${name}\", R\"repquant(${content})repquant\"},\n")
  endforeach()
  string(APPEND text "  }};\n  return kFiles;\n}\n\n}  // namespace repquant\n")
  file(WRITE ${OUTPUT} "${text}")
endif()
