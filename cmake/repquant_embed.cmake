# Run as a script: writes a C++ file that holds the ready recipes.
#   cmake -DOUTPUT=file.cpp -DDIRECTORY=configs -DNAMES=w8a8,w4a4 -P repquant_embed.cmake
string(REPLACE "," ";" names "${NAMES}")
list(LENGTH names count)
set(text "// Generated from configs/*.json at build time.\n#include <array>\n\n")
string(APPEND text "#include \"recipe/json.h\"\n\nnamespace repquant {\n\n")
string(APPEND text "std::span<const ReadyRecipe> ready_recipes() {\n")
string(APPEND text "  static constexpr std::array<ReadyRecipe, ${count}> kReady{{\n")
foreach(name IN LISTS names)
  file(READ ${DIRECTORY}/${name}.json json)
  string(APPEND text "      {\"${name}\", R\"repquant(${json})repquant\"},\n")
endforeach()
string(APPEND text "  }};\n  return kReady;\n}\n\n}  // namespace repquant\n")
file(WRITE ${OUTPUT} "${text}")
