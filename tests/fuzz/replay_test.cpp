// The corpus of the fuzzers in an ordinary build: every file, and its beginnings and small changes.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <vector>

#include "fuzz/targets.h"
#include "support/paths.h"

namespace repquant {
namespace {

namespace fs = std::filesystem;

using Bytes = std::vector<std::uint8_t>;
using Target = void (*)(fuzz::Input);

const std::map<std::string, Target>& targets() {
  static const std::map<std::string, Target> kTargets{
      {"archive", &fuzz::fuzz_archive}, {"pickle", &fuzz::fuzz_pickle},
      {"code", &fuzz::fuzz_code},       {"description", &fuzz::fuzz_description},
      {"loader", &fuzz::fuzz_loader},   {"operators", &fuzz::fuzz_operators},
      {"npy", &fuzz::fuzz_npy},         {"npz", &fuzz::fuzz_npz},
      {"saved", &fuzz::fuzz_saved},     {"tokens", &fuzz::fuzz_tokens},
      {"image", &fuzz::fuzz_image},     {"preset", &fuzz::fuzz_preset},
      {"recipe", &fuzz::fuzz_recipe},   {"plan", &fuzz::fuzz_plan}};
  return kTargets;
}

Bytes read_bytes(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class FuzzReplay : public ::testing::TestWithParam<std::string> {};

TEST_P(FuzzReplay, EndsInAResultOrAnError) {
  const Target target = targets().at(GetParam());
  std::mt19937_64 random(7);
  int files = 0;
  const fs::path corpus = testing::source_dir() / "tests/fuzz/corpus" / GetParam();
  for (const auto& entry : fs::directory_iterator(corpus)) {
    ++files;
    SCOPED_TRACE(entry.path().filename().string());
    const Bytes whole = read_bytes(entry.path());
    EXPECT_NO_THROW(target(whole));
    for (int round = 0; round < 100 && !whole.empty(); ++round) {
      Bytes changed = whole;
      if (round % 4 == 0) changed.resize(random() % whole.size());
      for (std::uint64_t changes = random() % 4; changes > 0 && !changed.empty(); --changes) {
        changed[random() % changed.size()] = static_cast<std::uint8_t>(random());
      }
      EXPECT_NO_THROW(target(changed));
    }
  }
  EXPECT_GT(files, 0);
}

INSTANTIATE_TEST_SUITE_P(Targets, FuzzReplay,
                         ::testing::Values("archive", "pickle", "code", "description", "loader",
                                           "operators", "npy", "npz", "saved", "tokens", "image",
                                           "preset", "recipe", "plan"),
                         [](const auto& given) { return given.param; });

}  // namespace
}  // namespace repquant
