// Options as typed, through run() as main() calls it; nothing here reads a model.
#include <sstream>
#include <string>
#include <vector>

#include "cli/app.h"
#include "cli/command.h"
#include "recipe/json.h"
#include "support/errors.h"

namespace repquant::cli {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;

/// What `repquant WORDS...` writes to stdout.
std::string output_of(std::vector<const char*> words) {
  words.insert(words.begin(), "repquant");
  std::ostringstream out;
  EXPECT_EQ(run(static_cast<int>(words.size()), words.data(), out, InterruptToken{}), 0);
  return out.str();
}

TEST(OptionsTest, HelpNamesTheCommands) {
  const std::string help = output_of({"--help"});
  for (const char* name :
       {"quantize", "evaluate", "inspect", "benchmark", "analyze", "run", "recipe", "doctor"}) {
    EXPECT_THAT(help, HasSubstr(name));
  }
}

TEST(OptionsTest, EveryCommandHasAnExampleOfOneLine) {
  for (const char* name : {"quantize", "evaluate", "inspect", "benchmark", "analyze", "run",
                           "verify", "compare", "recipe", "doctor"}) {
    const std::string help = output_of({name, "--help"});
    EXPECT_THAT(help, HasSubstr("Example:\n  repquant " + std::string(name)));
    EXPECT_THAT(help, ContainsRegex("Example:\n  [^\n]*\n\nAn option")) << name;
  }
}

TEST(OptionsTest, MisspeltWordsGetTheNearest) {
  EXPECT_THAT(output_of({}), HasSubstr("Usage: repquant"));
  EXPECT_ERROR(output_of({"quantise"}), ErrorKind::kUsage, "did you mean quantize?");
  EXPECT_ERROR(output_of({"xyzzy"}), ErrorKind::kUsage, "no such command\n  got: xyzzy");
  EXPECT_ERROR(output_of({"recipe", "xyzzy"}), ErrorKind::kUsage, "no such command");
  EXPECT_ERROR(output_of({"quantize", "m.pt", "--bit=w4a4"}), ErrorKind::kUsage,
               "did you mean --bits");
  EXPECT_ERROR(output_of({"doctor", "--device", "cuda"}), ErrorKind::kUsage, "--device is gone");
  EXPECT_ERROR(output_of({"doctor", "--threads", "0"}), ErrorKind::kUsage,
               "Value 0 not in range 1 to 1024\n  where: --threads");
  EXPECT_ERROR(output_of({"evaluate", "m.pt", "--data", "d", "--samples", "0"}), ErrorKind::kUsage,
               "range 1 to 2147483647\n  where: --samples");
  EXPECT_ERROR(output_of({"quantize", "m.pt", "--max-drop-kl", "1", "--time-limit", "0s"}),
               ErrorKind::kUsage, "no time above 0, such as 20m\n  where: --time-limit");
  EXPECT_ERROR(output_of({"doctor", "--quiet", "--verbose"}), ErrorKind::kUsage, "excludes");
}

TEST(OptionsTest, BytesHaveUnits) {
  EXPECT_EQ(parse_bytes("1500000", "--x"), 1500000) << "without a unit: bytes";
  EXPECT_EQ(parse_bytes("512MB", "--x"), 512000000);
  EXPECT_EQ(parse_bytes("512M", "--x"), 512000000);
  EXPECT_EQ(parse_bytes("1.5GiB", "--x"), 1610612736);
  EXPECT_EQ(parse_bytes("2K", "--x"), 2000);
  for (const char* bad : {"", "G", "-1G", "0", "nanG", "inf", "1e30", "2 G", "2GG", "2gigs"}) {
    SCOPED_TRACE(bad);
    EXPECT_ERROR(parse_bytes(bad, "--x"), ErrorKind::kUsage, "a number with a unit");
  }
  EXPECT_ERROR(output_of({"doctor", "--max-memory", "lots"}), ErrorKind::kUsage, "--max-memory");
}

TEST(OptionsTest, PrintConfigSaysWhereAValueComesFrom) {
  const std::string text =
      output_of({"quantize", "m.pt", "--calib", "synthetic", "--recipe", "paper", "--bits", "w6a6",
                 "--clipping", "search", "--set", "weights.damping=0.5", "--print-config"});
  EXPECT_THAT(text, ContainsRegex("\nbits += w6a6 +\\(--bits\\)"));
  EXPECT_THAT(text, ContainsRegex("\nnorm.clipping += search +\\(--clipping\\)"));
  EXPECT_THAT(text, ContainsRegex("\nweights.damping += 0.5 +\\(--set\\)"));
  EXPECT_THAT(text, ContainsRegex("\nattention.per_head += false +\\(recipe paper\\)"));
  EXPECT_THAT(text, ContainsRegex("\nweights.act_order += true +\\(default\\)"));
}

TEST(OptionsTest, BadRecipesAreNamed) {
  const auto quantize = [](std::vector<const char*> words) {
    words.insert(words.begin(), {"quantize", "m.pt", "--calib", "synthetic", "--print-config"});
    return output_of(words);
  };
  EXPECT_ERROR(quantize({"--bits", "w9a9"}), ErrorKind::kUsage, "--bits");
  EXPECT_ERROR(quantize({"--recipe", "papr"}), ErrorKind::kFile, "did you mean paper?");
  EXPECT_ERROR(quantize({"--recipe", "absent/x.json"}), ErrorKind::kFile, "repquant recipe list");
  EXPECT_ERROR(quantize({"--set", "weights.damping"}), ErrorKind::kUsage, "KEY=VALUE");
  EXPECT_ERROR(quantize({"--set", "weights.dampening=1"}), ErrorKind::kUsage,
               "did you mean weights.damping?");
  EXPECT_ERROR(quantize({"--effort", "higher"}), ErrorKind::kUsage, "one of fast, standard, high");
}

TEST(OptionsTest, RecipesAreListedAndShown) {
  const std::string list = output_of({"recipe", "list", "--wide"});
  for (const std::string& name : ready_recipe_names()) {
    EXPECT_THAT(list, HasSubstr(name + " "));
    EXPECT_THAT(list, HasSubstr(ready_recipe_description(name)));
  }
  EXPECT_THAT(output_of({"recipe", "list", "--wide", "--json"}), HasSubstr("\"recipes\""));
  EXPECT_EQ(parse_recipe(output_of({"recipe", "show", "paper"})).recipe,
            find_ready_recipe("paper").value());
  EXPECT_EQ(parse_recipe(output_of({"recipe", "show", "w3a5"})).recipe, recipe_for_bits({3, 5}));
  EXPECT_ERROR(output_of({"recipe", "show", "papers"}), ErrorKind::kUsage, "did you mean paper?");
  EXPECT_ERROR(output_of({"recipe"}), ErrorKind::kUsage, "subcommand");
}

TEST(ParseTest, Shares) {
  EXPECT_EQ(parse_share("0.97", "--x"), 0.97);
  EXPECT_EQ(parse_share("97%", "--x"), 0.97);
  EXPECT_EQ(parse_share("0", "--x"), 0.0);
  for (const char* text : {"", "%", "97", "1.01", "-0.1", "nan", "0.5x", "101%", "0,5"}) {
    EXPECT_ERROR(parse_share(text, "--min-top1"), ErrorKind::kUsage, "--min-top1");
  }
}

TEST(ParseTest, TargetBits) {
  EXPECT_EQ(parse_target_bits("4.5"), 4.5);
  for (const char* text : {"", "four", "4.5b", "inf", "nan"}) {
    EXPECT_ERROR(parse_target_bits(text), ErrorKind::kUsage, "--target-bits");
  }
}

}  // namespace
}  // namespace repquant::cli
