#include <algorithm>
#include <cmath>
#include <limits>

#include "report/documents.h"
#include "report/values.h"

namespace repquant {
namespace {

/// SQNR of a site in dB; null stands for no error at all. NaN for a site that is not quantized.
double site_db(const Json& site, const char* key) {
  if (bits_of_site(site) == "-") return std::numeric_limits<double>::quiet_NaN();
  return number_at(site, key).value_or(std::numeric_limits<double>::infinity());
}

std::string db_number(double value) {
  if (value != value) return "-";
  return value > 1e6 ? "exact" : format_number(value, 1);
}

std::string db_text(double value) { return db_number(value) + (value < 1e6 ? " dB" : ""); }

ReportSection network_section(const Json& result) {
  ReportStrip strip{.rows = {{.name = "own", .cells = {}}, {.name = "cumulative", .cells = {}}}};
  ReportTable table{.columns = {{"site"},
                                {"bits"},
                                {"own dB", Align::kRight},
                                {"cumulative dB", Align::kRight},
                                {"kind"},
                                {"parameters", Align::kRight},
                                {"grid"},
                                {"note"}},
                    .rows = {}};
  for (const Json& site : items_at(result, "sites")) {
    const double own = site_db(site, "own_sqnr_db"), all = site_db(site, "output_sqnr_db");
    const std::string name = text_at(site, "path") + " (" + bits_of_site(site) + "): ";
    strip.rows[0].cells.push_back({name + db_text(own), level_of_db(own)});
    strip.rows[1].cells.push_back({name + db_text(all), level_of_db(all)});
    table.rows.push_back({text_at(site, "path"), bits_of_site(site), db_number(own), db_number(all),
                          text_at(site, "kind"), amount_text(site, "parameters"),
                          text_at(site, "form"), text_at(site, "note")});
  }
  ReportSection section{.title = "The network, site by site", .blocks = {}};
  section.blocks.push_back(
      ReportText{"From the input (left) to the output (right). Own: what the site adds, quantized "
                 "against float on the same input. Cumulative: all errors up to there."});
  section.blocks.push_back(std::move(strip));
  section.blocks.push_back(std::move(table));
  return section;
}

/// The sites that add most, as bars of the error that they add: 10^(-dB / 10).
ReportSection ranking_section(const Json& result) {
  constexpr std::size_t kNamed = 12;
  std::vector<std::pair<double, std::string>> sites;
  for (const Json& site : items_at(result, "sites")) {
    const double own = site_db(site, "own_sqnr_db");
    if (own == own && own < 1e6) sites.emplace_back(own, text_at(site, "path"));
  }
  std::stable_sort(sites.begin(), sites.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  if (sites.size() > kNamed) sites.resize(kNamed);
  ReportBars bars{.caption = "power of the error that the site adds, relative to its output's",
                  .bars = {}};
  for (const auto& [own, path] : sites) {
    bars.bars.push_back({.label = path,
                         .value = std::pow(10.0, -own / 10.0),
                         .text = db_text(own),
                         .level = level_of_db(own)});
  }
  return {.title = "Where most is lost", .blocks = {std::move(bars)}};
}

ReportHistogram histogram_of(const Json& json) {
  const auto shares = [&](const char* key) {
    std::vector<double> values;
    for (const Json& value : items_at(json, key)) {
      values.push_back(value.is_number() ? value.get<double>() : 0.0);
    }
    return values;
  };
  const auto ends_text = [](double lower, double upper) {
    return format_significant(lower, 3) + " to " + format_significant(upper, 3);
  };
  const double lower = number_at(json, "lower").value_or(0.0);
  const double upper = number_at(json, "upper").value_or(0.0);
  const auto channel = number_at(json, "channel");
  const std::string operand = text_at(json, "operand");
  ReportHistogram histogram{.label = text_at(json, "path") + ", " + operand +
                                     (channel ? " channel " + format_number(*channel, 0) : ""),
                            .text = ends_text(lower, upper),
                            .before = shares("before"),
                            .after = shares("after")};
  if (const auto grid = interval_at(json, "grid"); grid && upper > lower) {
    histogram.text += "; grid " + ends_text(grid->first, grid->second);
    histogram.marks = {(grid->first - lower) / (upper - lower),
                       (grid->second - lower) / (upper - lower)};
  }
  histogram.text += "; " + share_text(json, "clipped", 3) + " clipped";
  return histogram;
}

/// Without blocks where the result has no histograms.
ReportSection histograms_section(const Json& result) {
  ReportSection section{.title = "What these sites read", .blocks = {}};
  ReportHistograms all;
  for (const Json& json : items_at(result, "histograms")) {
    all.histograms.push_back(histogram_of(json));
  }
  if (all.histograms.empty()) return section;
  section.blocks.push_back(ReportText{
      "The worst sites: all values of an operand, then the channel that its grid changes most, on "
      "one batch. Grey: as computed. Blue: after clipping to what the grid can hold; lines are the "
      "ends of a grid that all values share. Heights are logarithmic, from a share of 0.00001."});
  section.blocks.push_back(std::move(all));
  return section;
}

ReportSection checks_section(const Json& result) {
  ReportTable table{
      .columns = {{"check"}, {"measured"}, {"limit"}},
      .rows = {
          {"fold", number_text(result, "fold_deviation", 8) + " of the largest output", "0.001"}}};
  for (const Json& check : items_at(result, "checks")) {
    table.rows.push_back(
        {text_at(check, "name"), text_at(check, "measured"), text_at(check, "limit")});
  }
  return {.title = "Checks of the artifact", .blocks = {std::move(table)}};
}

ReportSection measured_section(const Json& result) {
  const std::string held =
      value_at(result, "held_back").is_null()
          ? "No samples were held back."
          : "Held back: " + counted_text(result, "held_back.samples", "sample") +
                " for which nothing was fitted.";
  ReportSection section{.title = "How each figure was measured", .blocks = {}};
  section.blocks.push_back(ReportText{
      "Fitted on " + number_text(result, "samples", 0) + " of " + text_at(result, "protocol") +
      ". " + held +
      " SQNR is 10 log10 of the power of the floating-point outputs over that of the difference, "
      "in the simulation of the integers; the checks compare the integers with it."});
  section.blocks.push_back(ReportText{
      "The run took " + seconds_text(result, "seconds") + ", " +
      number_text(result, "time_multiple", 1) +
      " times the floating-point model on the same samples with one thread, and at most " +
      bytes_text(result, "peak_memory_bytes") + " of memory."});
  return section;
}

}  // namespace

Document quantize_document(const Json& result) {
  Document document{.title = "Quantization of " + model_name(text_at(result, "output"), ""),
                    .headline = {},
                    .sections = {}};
  const bool judged = !value_at(result, "held_back").is_null();
  document.headline = {
      {number_text(result, judged ? "held_back.sqnr_db" : "output_sqnr_db", 1) + " dB",
       judged ? "SQNR on held-back samples" : "SQNR on the samples that were fitted"},
      {share_text(result, "coverage.smallest_share"), "quantized, by the smallest share"},
      {number_text(result, "coverage.average_bits", 2), "bits a parameter on average"},
      {share_text(result, "size_ratio"), "of the file's size"}};
  if (judged && number_at(result, "held_back.agreement")) {
    document.headline.push_back({share_text(result, "held_back.agreement"), "same top-1 as FP32"});
  }
  document.sections.push_back(network_section(result));
  document.sections.push_back(ranking_section(result));
  document.sections.push_back(histograms_section(result));
  document.sections.push_back(coverage_section(value_at(result, "coverage")));
  document.sections.push_back(checks_section(result));
  document.sections.push_back(measured_section(result));
  document.sections.push_back(recipe_section(result));
  return document;
}

}  // namespace repquant
