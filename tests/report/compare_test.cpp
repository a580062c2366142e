#include "report/compare.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "support/errors.h"

namespace repquant {
namespace {

std::map<std::string, ComparedValue> by_name(const Comparison& comparison) {
  std::map<std::string, ComparedValue> values;
  for (const auto& value : comparison.values) values[value.name] = value;
  return values;
}

TEST(Compare, ElementsArePairedByWhatTheyCallThemselves) {
  const Json fused{{"model", "/one/m.pt"}, {"form", "fused"}, {"kl", 0.5}};
  const Json portable{{"model", "/one/m.pt"}, {"form", "portable"}, {"kl", 0.25}};
  Json other = fused;
  other["model"] = "/another/m.pt";
  other["kl"] = 0.75;
  const auto values =
      by_name(compare_results({{"command", "evaluate"}, {"models", {fused, portable}}},
                              {{"command", "evaluate"}, {"models", {portable, other}}}));
  EXPECT_EQ(values.at("models/m.pt fused/kl").left, Json(0.5));
  EXPECT_EQ(values.at("models/m.pt fused/kl").right, Json(0.75));
  EXPECT_FALSE(values.at("models/m.pt portable/kl").differs());
}

TEST(Compare, OneSideMayHaveMore) {
  const auto values =
      by_name(compare_results({{"a", 1}, {"list", {1, 2}}}, {{"b", 2}, {"list", {1, 2}}}));
  EXPECT_TRUE(values.at("a").right.is_null());
  EXPECT_TRUE(values.at("b").left.is_null());
  EXPECT_FALSE(values.at("list").differs());  // one value
}

TEST(Compare, TwoOfOneName) {
  const Json twice{{"rows", {{{"name", "x"}, {"v", 1}}, {{"name", "x"}, {"v", 2}}}}};
  const auto values = by_name(compare_results(twice, twice));
  EXPECT_EQ(values.at("rows/x/v").left, Json(1));
  EXPECT_EQ(values.at("rows/x #2/v").left, Json(2));
}

TEST(Compare, Sites) {
  const auto site = [](const char* path, double db) {
    return Json{{"path", path}, {"own_sqnr_db", db}};
  };
  const Comparison comparison = compare_results({{"sites", {site("a", 1), site("b", 2)}}},
                                                {{"sites", {site("b", 3), site("c", 4)}}});
  ASSERT_EQ(comparison.sites.size(), 3U);
  EXPECT_EQ(comparison.sites[1].path, "b");
  EXPECT_EQ(difference_of(comparison.sites[1].left["own_sqnr_db"],
                          comparison.sites[1].right["own_sqnr_db"]),
            1.0);
  EXPECT_TRUE(comparison.sites[0].right.is_null());
  EXPECT_TRUE(comparison.sites[2].left.is_null());
  EXPECT_TRUE(comparison.values.empty());
}

TEST(Compare, DifferentKindsAreRefused) {
  EXPECT_ERROR(compare_results({{"command", "run"}}, {{"command", "evaluate"}}), ErrorKind::kUsage,
               "run and evaluate");
  EXPECT_TRUE(std::isnan(difference_of("a", 1)));
}

}  // namespace
}  // namespace repquant
