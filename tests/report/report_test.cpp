// Reports: what they say is what the result says, and nothing in it becomes markup.
#include "report/report.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "report/document.h"
#include "report/values.h"
#include "support/errors.h"

namespace repquant {
namespace {

constexpr const char* kMarkup = "</title><script>alert('1')</script>&\"";

Json site(const std::string& path, double own) {
  return {{"path", path},
          {"kind", "linear"},
          {"weight_bits", 4},
          {"activation_bits", 8},
          {"form", "uniform"},
          {"parameters", 1234567},
          {"macs", 10},
          {"own_sqnr_db", own},
          {"output_sqnr_db", own - 1},
          {"note", ""}};
}

Json quantization() {
  Json json{{"command", "quantize"}, {"output", "/some/where/model.w4a8.pt"}, {"recipe", "w4a8"}};
  json["sites"] = {site("first", 25.0), site(kMarkup, 3.0)};
  json["sites"].push_back({{"path", "left"}, {"weight_bits", 0}, {"activation_bits", 0}});
  json["coverage"] = {{"smallest_share", 0.75}, {"not_quantized", Json::array()}};
  json["settings"] = {{"name", kMarkup}};
  return json;
}

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++found;
  return found;
}

TEST(Report, LevelsOfDecibels) {
  EXPECT_EQ(level_of_db(-3.0), 0);
  EXPECT_EQ(level_of_db(6.0), 1);
  EXPECT_EQ(level_of_db(29.9), 3);
  EXPECT_EQ(level_of_db(std::numeric_limits<double>::infinity()), kLevels - 1);
  EXPECT_EQ(level_of_db(std::nan("")), kNoLevel);
}

TEST(Report, EverythingIsEscaped) {
  const std::string page = report_page(quantization());
  EXPECT_TRUE(page.starts_with(kPageBeginning));
  EXPECT_EQ(page.find("<script"), page.npos);
  EXPECT_EQ(count(page, "</title>"), count(page, "<title>"));
  EXPECT_NE(page.find("&lt;script&gt;alert(&#39;1&#39;)"), page.npos);
  EXPECT_EQ(page.find("{{"), page.npos);
  Json named = quantization();
  named["output"] = "{{title}}{{content}}<b>.pt";
  EXPECT_NE(report_page(named).find("<h1>Quantization of {{title}}{{content}}&lt;b&gt;.pt</h1>"),
            std::string::npos);
  named["output"] = "bad\xff.pt";  // no UTF-8
  EXPECT_NE(report_page(named).find("bad\xef\xbf\xbd.pt"), std::string::npos);
  const std::string markdown = report_markdown(quantization());
  EXPECT_TRUE(markdown.starts_with(kMarkdownReportBeginning));
  EXPECT_NE(markdown.find("\\<script\\>"), markdown.npos);
}

TEST(Report, SitesHaveTheirColours) {
  const std::string page = report_page(quantization());
  // Own and cumulative of two quantized sites and of one that is not.
  EXPECT_GE(count(page, "class=\"q3\">"), 2U);
  EXPECT_GE(count(page, "class=\"q0\">"), 2U);
  EXPECT_GE(count(page, "class=\"qn\">"), 2U);
  EXPECT_NE(page.find("1.23 M"), page.npos);
  EXPECT_NE(page.find("75.0 %"), page.npos);
}

TEST(Report, OtherResultsHaveNone) {
  EXPECT_ERROR(report_page({{"command", "doctor"}}), ErrorKind::kUsage, "one of doctor");
  EXPECT_ERROR(report_page(Json::array()), ErrorKind::kUsage, "no result");
}

TEST(Report, KeysMayBeMissing) {
  for (const char* command : {"quantize", "evaluate", "benchmark", "analyze", "run"}) {
    const Json bare{{"command", command}};
    EXPECT_FALSE(report_page(bare).empty()) << command;
    EXPECT_FALSE(report_markdown(bare).empty()) << command;
  }
}

TEST(Report, Values) {
  const Json json{{"a", {{"b", 0.5}, {"none", nullptr}}}, {"ends", {0.25, 0.75}}};
  EXPECT_EQ(share_text(json, "a.b"), "50.0 %");
  EXPECT_EQ(number_text(json, "a.none", 1), "-");
  EXPECT_EQ(number_text(json, "a.absent.more", 1), "-");
  EXPECT_EQ(interval_text(json, "ends", 100.0, 0), "25 - 75");
  EXPECT_EQ(model_name("/x/y.pt", "fused"), "y.pt (fused)");
}

}  // namespace
}  // namespace repquant
