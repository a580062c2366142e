#include "base/overwrite.h"

#include <algorithm>
#include <fstream>
#include <map>
#include <string>
#include <system_error>

#include "base/atomic_file.h"
#include "repquant/error.h"

namespace repquant {
namespace {

namespace fs = std::filesystem;

}  // namespace

void check_distinct(std::span<const NamedPath> outputs) {
  std::map<fs::path, const char*> known;
  for (const NamedPath& output : outputs) {
    if (output.path.empty()) continue;
    std::error_code failed;  // a path that cannot be resolved is found out when it is written
    const fs::path absolute = fs::absolute(output.path, failed);
    const fs::path file = fs::weakly_canonical(absolute, failed);
    const auto [earlier, is_new] = known.emplace(failed ? absolute : file, output.name);
    if (is_new) continue;
    throw Error(ErrorKind::kUsage, {.what = std::string("the ") + output.name +
                                            " would replace the " + earlier->second,
                                    .where = output.path.string(),
                                    .expected = "another file for each",
                                    .hint = "choose another name"});
  }
}

void check_no_input(const fs::path& target, std::initializer_list<NamedPath> inputs) {
  std::error_code failed;
  if (!fs::exists(target, failed)) return;
  for (const NamedPath& input : inputs) {
    if (input.path.empty() || !fs::exists(input.path, failed)) continue;
    bool inside = fs::equivalent(target, input.path, failed);
    if (!inside && fs::is_directory(input.path, failed)) {
      const fs::path folder = fs::canonical(input.path, failed);
      const fs::path file = fs::canonical(target, failed);
      inside = std::mismatch(folder.begin(), folder.end(), file.begin(), file.end()).first ==
               folder.end();
    }
    if (!inside) continue;
    throw Error(ErrorKind::kUsage,
                {.what = std::string("the output would replace the ") + input.name,
                 .where = target.string(),
                 .expected = "a file that is not read",
                 .hint = "choose another name for the output"});
  }
}

void check_own_output(const fs::path& target, std::string_view beginning) {
  check_output(target, true);
  std::ifstream file(target, std::ios::binary);
  if (!file) return;
  std::string head(beginning.size(), '\0');
  file.read(head.data(), static_cast<std::streamsize>(head.size()));
  head.resize(static_cast<std::size_t>(file.gcount()));
  if (head.empty() || head == beginning) return;
  throw Error(ErrorKind::kFile, {.what = "the file is there and was not written by an earlier run",
                                 .where = target.string(),
                                 .hint = "choose another name, or remove the file"});
}

}  // namespace repquant
