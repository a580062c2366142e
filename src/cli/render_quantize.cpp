// Results of quantize.
#include <algorithm>

#include "base/text_table.h"
#include "cli/render.h"
#include "recipe/names.h"

namespace repquant::cli {
namespace {

std::string multiple_text(double seconds, double unit) {
  return unit > 0 ? format_number(seconds / unit, 1) : "-";
}

std::string held_back_text(const std::optional<BitSearchReport>& held_back) {
  if (!held_back) return "";
  return "; KL divergence " + format_number(held_back->kl, 4) + " nats on " +
         counted(held_back->samples, "held-back sample") + " (at most " +
         format_number(held_back->max_kl, 4) + ")";
}

std::string agreement_text(const std::optional<HeldBackReport>& judgement, bool fitted) {
  if (!judgement) return "";
  const auto& share = fitted ? judgement->fitted_agreement : judgement->agreement;
  return share ? ", top-1 as FP32 on " + format_number(100 * *share, 1) + " %" : "";
}

/// One row, or verbose one for each.
void add_checks(const std::vector<CheckReport>& checks, bool verbose, Table& table) {
  if (!verbose) {
    table.add_row({"checks", "all " + std::to_string(checks.size()) +
                                 " passed: the artifact computes what was simulated"});
    return;
  }
  for (const auto& check : checks) {
    table.add_row({"check " + check.name, check.measured + " (" + check.limit + ")"});
  }
}

}  // namespace

std::string bit_allocation_text(const BitAllocationReport& bit_allocation) {
  return "target " + format_number(bit_allocation.target_bits, 2) + ": weights " +
         format_number(bit_allocation.weight_bits, 2) + " (mean over elements), activations " +
         format_number(bit_allocation.activation_bits, 2) + " (mean over multiply-adds)" +
         held_back_text(bit_allocation.held_back);
}

std::string quantize_text(const QuantizeReport& report, const Layout& layout) {
  std::string text = coverage_text(report.coverage, layout) + "\n";
  Table table({{"result"}, {"value"}}, layout);
  const std::string apart =
      report.judgement ? " and " + std::to_string(report.judgement->samples) + " held back" : "";
  table.add_row({"calibration", std::to_string(report.samples) + apart + " of " + report.protocol});
  table.add_row(
      {"recipe",
       report.recipe +
           (report.clipping ? ", clipping " + std::string(name_of(*report.clipping)) : "")});
  if (report.bit_allocation) {
    table.add_row({"mixed bits", bit_allocation_text(*report.bit_allocation)});
  }
  if (layout.verbose) {
    table.add_row({"fold", "outputs of Linears differ by " +
                               format_scientific(report.fold_deviation) +
                               " of the largest after folding (limit 1e-3)"});
  }
  table.add_row({"simulated", format_number(report.output_sqnr_db, 2) +
                                  " dB against FP32 on the samples that were fitted" +
                                  agreement_text(report.judgement, true)});
  if (report.judgement) {
    table.add_row({"held back", format_number(report.judgement->sqnr_db, 2) + " dB on " +
                                    counted(report.judgement->samples, "sample that was not",
                                            "samples that were not") +
                                    agreement_text(report.judgement, false)});
  }
  add_checks(report.checks, layout.verbose, table);
  table.add_row({"time", format_duration(report.seconds) + ", " +
                             multiple_text(report.seconds, report.float_seconds) +
                             " times the FP32 model on the same samples (1 thread)"});
  table.add_row({"peak memory", format_bytes(static_cast<double>(report.peak_memory_bytes))});
  const double ratio =
      static_cast<double>(report.output_bytes) / static_cast<double>(report.model_bytes);
  table.add_row({"output", report.output});
  table.add_row({"size", format_bytes(static_cast<double>(report.output_bytes)) + ", " +
                             format_number(ratio, 3) + " of " +
                             format_bytes(static_cast<double>(report.model_bytes))});
  return text + table.to_string();
}

}  // namespace repquant::cli
