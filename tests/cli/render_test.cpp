#include "cli/render.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <sstream>

namespace repquant::cli {
namespace {

using ::testing::HasSubstr;

TEST(RenderTest, Numbers) {
  EXPECT_EQ(bits_text(4, 8), "w4a8");
  EXPECT_EQ(bits_text(4, 16), "w4a16");
  EXPECT_EQ(bits_text(0, 4), "a4");
  EXPECT_EQ(bits_text(0, 0), "-");
}

TEST(RenderTest, JsonHoldsWhatNumbersAndPathsCannot) {
  Json json = result_object("x");
  json["infinite"] = std::numeric_limits<double>::infinity();
  json["path"] = "a\xff";
  std::ostringstream out;
  write_json(out, json);
  const Json again = Json::parse(out.str());
  EXPECT_EQ(again.at("schema_version"), kResultSchemaVersion);
  EXPECT_EQ(again.at("command"), "x");
  EXPECT_TRUE(again.at("infinite").is_null());
  EXPECT_EQ(again.at("path"), "a\xef\xbf\xbd");
}

TEST(RenderTest, WordsAsAShellTakesThem) {
  EXPECT_EQ(shell_word("a/b-1.pt"), "a/b-1.pt");
  EXPECT_EQ(shell_word("my dir/m\xc3\xb6.pt"), "'my dir/m\xc3\xb6.pt'");
  EXPECT_EQ(shell_word("it's $x"), "'it'\\''s $x'");
  EXPECT_EQ(shell_word("a\nb's\\"), "$'a\\x0ab\\'s\\\\'");
  EXPECT_EQ(shell_word(""), "''");
}

TEST(RenderTest, TheNextCommandIsNotBrokenInsideAWord) {
  Layout narrow;
  narrow.width = 30;
  EXPECT_EQ(next_command({"inspect", "a long name of a file.pt", "--json"}, narrow),
            "next: repquant inspect \\\n      'a long name of a file.pt' \\\n      --json\n");
  EXPECT_EQ(next_command({"doctor"}, narrow), "next: repquant doctor\n");
}

TEST(RenderTest, Gates) {
  const GateResult met{.gate = "min-top1", .limit = 0.95, .value = 0.9712, .passed = true};
  EXPECT_EQ(gate_text(met), "min-top1 0.9500: 0.9712, met");
  GateResult missed = met;
  missed.value = 0.5;
  missed.passed = false;
  EXPECT_THAT(gate_text(missed), HasSubstr("MISSED"));
}

TEST(RenderTest, SitesInFloatingPointHaveNoErrors) {
  SiteReport quantized, left;
  quantized.path = "a";
  quantized.weight_bits = 4;
  quantized.activation_bits = kWeightOnlyBits;
  quantized.own_sqnr_db = 21.5;
  quantized.output_sqnr_db = 19.5;
  left.path = "b";
  const std::string text = sites_text({quantized, left}, true, {.width = std::string::npos});
  EXPECT_THAT(text, HasSubstr("21.5"));
  EXPECT_THAT(text, HasSubstr("19.5"));
  EXPECT_THAT(text, ::testing::Not(HasSubstr("0.0")));
}

NightlyReport report() {
  NightlyReport report;
  RowResult passed{.model = "a|b", .label = "w8a8", .artifact = "", .status = RowStatus::kPassed};
  passed.metrics = {{"top1", 0.5}};
  passed.bytes = 1000;
  RowResult missed{.model = "a|b", .label = "w4a4", .artifact = "", .status = RowStatus::kMissed};
  missed.gates = {{.gate = "min-top1", .limit = 0.9, .value = 0.5, .passed = false}};
  RowResult failed{.model = "c", .label = "w4a4", .artifact = "", .status = RowStatus::kFailed};
  failed.error = "bad <file> & \"more\" \x01\xff";
  report.rows = {passed, missed, failed};
  report.passed = report.missed = report.failed = 1;
  return report;
}

TEST(RenderNightlyTest, TextAndMarkdown) {
  const std::string totals = "3 rows: 1 passed, 1 missed a gate, 1 failed";
  EXPECT_THAT(nightly_text(report(), Layout{}), HasSubstr(totals));
  const std::string markdown = nightly_markdown(report());
  EXPECT_THAT(markdown, HasSubstr("| a\\|b | w8a8 | passed |"));
  EXPECT_THAT(markdown, HasSubstr(totals));
}

TEST(RenderNightlyTest, JunitIsWellFormed) {
  const std::string xml = nightly_junit(report());
  EXPECT_THAT(xml,
              HasSubstr(R"(<testsuites name="repquant" tests="3" failures="1" errors="1" time=")"));
  EXPECT_THAT(xml, HasSubstr(R"(<testsuite name="a|b" tests="2" failures="1" errors="0" time=")"));
  EXPECT_THAT(xml, HasSubstr("<failure message=\"min-top1 0.9000: 0.5000, MISSED\"/>"));
  EXPECT_THAT(xml, HasSubstr("bad &lt;file&gt; &amp; &quot;more&quot;"));
  EXPECT_EQ(xml.find('\x01'), std::string::npos);
  EXPECT_EQ(xml.find('\xff'), std::string::npos);
}

TEST(RenderNightlyTest, JsonHasEveryRow) {
  const Json json = nightly_json(report());
  ASSERT_EQ(json.at("rows").size(), 3U);
  EXPECT_EQ(json.at("rows")[1].at("status"), "missed");
  EXPECT_TRUE(json.at("rows")[0].at("error").is_null());
  EXPECT_EQ(json.at("rows")[0].at("metrics").at("top1"), 0.5);
}

}  // namespace
}  // namespace repquant::cli
