#include "report/documents.h"
#include "report/values.h"

namespace repquant {
namespace {

ReportBars sensitivity_bars(const Json& result) {
  ReportBars bars{
      .caption = "KL divergence from FP32 in nats, estimated, with the site alone quantized",
      .bars = {}};
  for (const Json& site : items_at(result, "sites")) {
    const double db = number_at(site, "output_sqnr_db").value_or(1e9);
    bars.bars.push_back(
        {.label = text_at(site, "path"),
         .value = number_at(site, "kl").value_or(0.0),
         .text = number_text(site, "kl", 6) + ", " + number_text(site, "output_sqnr_db", 1) + " dB",
         .level = level_of_db(db)});
  }
  return bars;
}

ReportTable sensitivity_table(const Json& result) {
  ReportTable table{.columns = {{"site"},
                                {"kind"},
                                {"bits"},
                                {"parameters", Align::kRight},
                                {"multiply-adds", Align::kRight},
                                {"share of error", Align::kRight},
                                {"local dB", Align::kRight},
                                {"output dB", Align::kRight},
                                {"KL", Align::kRight},
                                {"cumulative dB", Align::kRight},
                                {"recommended"}},
                    .rows = {}};
  for (const Json& site : items_at(result, "sites")) {
    const Json chosen{{"weight_bits", value_at(site, "chosen_weight_bits")},
                      {"activation_bits", value_at(site, "chosen_activation_bits")}};
    table.rows.push_back({text_at(site, "path"), text_at(site, "kind"), bits_of_site(site),
                          amount_text(site, "parameters"), amount_text(site, "macs"),
                          share_text(site, "share"), number_text(site, "local_sqnr_db", 1),
                          number_text(site, "output_sqnr_db", 1), number_text(site, "kl", 6),
                          number_text(site, "cumulative_sqnr_db", 1), bits_of_site(chosen)});
  }
  return table;
}

}  // namespace

Document analyze_document(const Json& result) {
  Document document{.title = "Sensitivity of the sites", .headline = {}, .sections = {}};
  document.headline = {
      {number_text(result, "recommended.weight_bits", 2), "bits of weights recommended"},
      {number_text(result, "recommended.activation_bits", 2), "bits of activations recommended"},
      {number_text(result, "recommended.estimated_sqnr_db", 1) + " dB", "estimated SQNR"},
      {number_text(result, "recommended.estimated_kl", 4), "estimated KL, nats"}};
  document.sections.push_back({.title = "Sensitivity, the most sensitive first",
                               .blocks = {sensitivity_bars(result), sensitivity_table(result)}});
  document.sections.push_back(
      {.title = "How each figure was measured",
       .blocks = {ReportText{"On " + number_text(result, "samples", 0) + " of " +
                             text_at(result, "protocol") + "."},
                  ReportText{"Each site is quantized alone, all else in floating point; what that "
                             "does to the outputs is a second-order estimate. Cumulative: with "
                             "this site and all above it."}}});
  document.sections.push_back(recipe_section(result));
  return document;
}

}  // namespace repquant
