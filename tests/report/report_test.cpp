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

TEST(Report, HistogramsWithTheEndsOfTheirGrid) {
  Json json = quantization();
  EXPECT_EQ(count(report_page(json), "<figure>"), 0U);
  const Json all{{"path", "first"},       {"operand", "input"},  {"channel", nullptr},
                 {"lower", -1.0},         {"upper", 3.0},        {"grid", nullptr},
                 {"before", {1.0, 1e-5}}, {"after", {0.1, 0.0}}, {"clipped", 0.25}};
  Json channel = all;
  channel["channel"] = 7;
  channel["grid"] = {0.0, 5.0};
  json["histograms"] = {all, channel};
  const std::string page = report_page(json);
  EXPECT_EQ(count(page, "<figure>"), 2U);
  EXPECT_EQ(count(page, "first, input channel 7"), 2U);  // title and caption
  EXPECT_EQ(count(page, "25.000 % clipped"), 4U);
  // A share of 1 is the whole height, 1e-5 and none are nothing, 0.1 is four fifths.
  EXPECT_EQ(count(page, "M0 100V0.0H100V100.0H200V100Z"), 2U);
  EXPECT_EQ(count(page, "M0 100V20.0H100V100.0H200V100Z"), 2U);
  // The grid begins at a quarter of the drawing; its end lies outside.
  EXPECT_EQ(count(page, "y2=\"100\""), 1U);
  EXPECT_NE(page.find("x1=\"50.0\" x2=\"50.0\""), page.npos);
  EXPECT_NE(report_markdown(json).find("grid 0 to 5; 25.000 % clipped"), std::string::npos);
}

TEST(Report, MetricsFromBelowTheLowestInterval) {
  Json json{{"command", "evaluate"}, {"task", "classification"}};
  for (const double value : {0.97, 0.99}) {
    json["models"].push_back(
        {{"model", "m.pt"},
         {"top1", {{"value", value}, {"interval95", {value - 0.01, value + 0.01}}}}});
  }
  const std::string page = report_page(json);
  EXPECT_NE(page.find("from 95.00 on"), page.npos);  // 0.96 less a quarter of 0.04
  EXPECT_EQ(count(page, "class=\"p\""), 2U);
  EXPECT_NE(page.find("x1=\"400.0\" x2=\"400.0\""), page.npos);
  // Markdown draws nothing, so it says nothing of what is drawn.
  EXPECT_EQ(report_markdown(json).find("from 95.00 on"), std::string::npos);
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
