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

TEST(Compare, ModelsUnderOtherNamesStandSideBySide) {
  const auto model = [](const char* file, const char* form, double kl) {
    return Json{{"model", file}, {"form", form}, {"kl", kl}};
  };
  const auto values =
      by_name(compare_results({{"models",
                                {model("fp32.pt", "portable", 0), model("a.pt", "portable", 1),
                                 model("a.pt", "fused", 2)}}},
                              {{"models",
                                {model("b.pt", "fused", 3), model("fp32.pt", "portable", 0),
                                 model("b.pt", "portable", 4), model("c.pt", "portable", 5)}}}));
  EXPECT_EQ(values.at("models/fp32.pt portable/kl").right, Json(0.0));
  EXPECT_EQ(values.at("models/a.pt portable | b.pt portable/kl").left, Json(1.0));
  EXPECT_EQ(values.at("models/a.pt portable | b.pt portable/kl").right, Json(4.0));
  EXPECT_EQ(values.at("models/a.pt fused | b.pt fused/kl").right, Json(3.0));
  EXPECT_TRUE(values.at("models/c.pt portable/kl").left.is_null());
}

TEST(Compare, OtherTypesUnderOneNameAreShownBoth) {
  const auto values = compare_results({{"top1", nullptr}}, {{"top1", {{"value", 0.5}}}}).values;
  ASSERT_EQ(values.size(), 2U);
  EXPECT_EQ(values[1].name, "top1/value");
  EXPECT_EQ(values[1].right, Json(0.5));
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
