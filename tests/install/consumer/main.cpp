// A project outside of the repository that uses the installed library.
#include <repquant/error.h>
#include <repquant/recipe.h>
#include <repquant/version.h>

#include <cstdio>
#include <string>

int main() {
  repquant::Recipe recipe;
  recipe.bits = {4, 16};
  const repquant::Error error(repquant::ErrorKind::kFile, {.what = "no file", .where = "x.pt"});
  const bool fine = recipe.bits.weight_only() && error.exit_code() == 5 &&
                    std::string(error.what()) == "no file\n  where: x.pt" &&
                    std::string(repquant::kVersion).find('.') != std::string::npos;
  std::printf("repquant %s: %s\n", repquant::kVersion, fine ? "ok" : "wrong");
  return fine ? 0 : 1;
}
