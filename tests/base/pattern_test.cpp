#include "base/pattern.h"

#include <random>

#include "support/errors.h"

namespace repquant {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(PatternTest, LiteralTextMatchesOnlyItself) {
  EXPECT_TRUE(matches("head", "head"));
  EXPECT_FALSE(matches("head", "heads"));
  EXPECT_FALSE(matches("head", "hea"));
  EXPECT_FALSE(matches("head", "x.head"));
}

TEST(PatternTest, StarIsAnyRunWithDots) {
  EXPECT_TRUE(matches("blocks.*.fc2", "blocks.3.mlp.fc2"));
  EXPECT_TRUE(matches("*", ""));
  EXPECT_TRUE(matches("*", "a.b"));
  EXPECT_TRUE(matches("*.fc2", "blocks.0.fc1.fc2"));
  EXPECT_TRUE(matches("a*b*c", "abbbcbc"));
  EXPECT_FALSE(matches("a*b*c", "abbbcb"));
  EXPECT_FALSE(matches("blocks.*", "blocks"));
}

TEST(PatternTest, QuestionMarkIsExactlyOneCharacter) {
  EXPECT_TRUE(matches("blocks.?.fc1", "blocks.7.fc1"));
  EXPECT_FALSE(matches("blocks.?.fc1", "blocks.11.fc1"));
  EXPECT_FALSE(matches("?", ""));
}

TEST(PatternTest, BracketsAreSetsAndRanges) {
  EXPECT_TRUE(matches("b.[0-3].x", "b.2.x"));
  EXPECT_FALSE(matches("b.[0-3].x", "b.4.x"));
  EXPECT_TRUE(matches("b.[!0-3].x", "b.4.x"));
  EXPECT_FALSE(matches("b.[!0-3].x", "b.0.x"));
  EXPECT_TRUE(matches("[abc-]", "-"));
  EXPECT_TRUE(matches("[]]", "]"));
  EXPECT_TRUE(matches("b.1[01].x", "b.11.x"));
}

TEST(PatternTest, ManyStarsStayFast) {
  std::string pattern;
  for (int i = 0; i < 50; ++i) pattern += "*a";
  EXPECT_FALSE(matches(pattern + "b", std::string(5000, 'a')));
}

// Independent definition: try every split.
bool matches_slowly(std::string_view pattern, std::string_view text) {
  if (pattern.empty()) return text.empty();
  if (pattern.front() == '*') {
    for (std::size_t i = 0; i <= text.size(); ++i) {
      if (matches_slowly(pattern.substr(1), text.substr(i))) return true;
    }
    return false;
  }
  return !text.empty() && (pattern.front() == '?' || pattern.front() == text.front()) &&
         matches_slowly(pattern.substr(1), text.substr(1));
}

TEST(PatternTest, AgreesWithTheDefinitionOnRandomPatterns) {
  std::mt19937_64 random(1);
  int matched = 0;
  for (int round = 0; round < 5000; ++round) {
    std::string pattern;
    std::string text;
    for (std::uint64_t i = random() % 7; i > 0; --i) pattern += "*?ab."[random() % 5];
    for (std::uint64_t i = random() % 8; i > 0; --i) text += "ab."[random() % 3];
    EXPECT_EQ(matches(pattern, text), matches_slowly(pattern, text)) << pattern << " " << text;
    matched += matches(pattern, text) ? 1 : 0;
    const bool reachable = edit_distance(pattern, text) == 0;
    EXPECT_EQ(reachable, matches(pattern, text)) << pattern << " " << text;
  }
  EXPECT_GT(matched, 200);
}

TEST(PatternTest, BadPatternsAreErrors) {
  EXPECT_ERROR(check_pattern("", "--exclude"), ErrorKind::kUsage, "empty pattern");
  EXPECT_ERROR(check_pattern("a[0-3", "--exclude"), ErrorKind::kUsage, "'[' without ']'");
  EXPECT_ERROR(check_pattern("a[]", "--exclude"), ErrorKind::kUsage, "'[' without ']'");
  check_pattern("a[]]b[!x]", "--exclude");
}

TEST(PatternTest, MatchNamesGivesIndicesInOrder) {
  const std::vector<std::string> names = {"b.0.fc1", "b.0.fc2", "b.1.fc1", "head"};
  EXPECT_THAT(match_names("*.fc1", names, "--exclude"), ElementsAre(0, 2));
}

TEST(PatternTest, PatternThatMatchesNothingNamesTheNearest) {
  const std::vector<std::string> names = {"blocks.0.mlp.fc1", "blocks.0.mlp.fc2", "head"};
  EXPECT_ERROR(match_names("blocks.0.mlp.fc3", names, "--exclude"), ErrorKind::kUsage,
               "try: did you mean blocks.0.mlp.fc1 or blocks.0.mlp.fc2?");
  EXPECT_ERROR(match_names("*.fc9", names, "recipe#/exclude/0"), ErrorKind::kUsage,
               "where: recipe#/exclude/0");
}

TEST(PatternTest, EditDistance) {
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3U);
  EXPECT_EQ(edit_distance("", "abc"), 3U);
  EXPECT_EQ(edit_distance("abc", ""), 3U);
  EXPECT_EQ(edit_distance("a*c", "abbbbc"), 0U);
  EXPECT_EQ(edit_distance("a*d", "abbbbc"), 1U);
}

TEST(PatternTest, NearestNamesLeavesOutStrangers) {
  const std::vector<std::string> names = {"samples", "seed", "batch_size"};
  EXPECT_THAT(nearest_names("sample", names), ElementsAre("samples"));
  EXPECT_THAT(nearest_names("zzzzzzzz", names), IsEmpty());
  EXPECT_EQ(nearest_hint("zzzzzzzz", names), "");
}

}  // namespace
}  // namespace repquant
