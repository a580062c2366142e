#include "pipeline/site_report.h"

#include "base/text_table.h"

namespace repquant {
namespace {

std::string grids_of(const LinearPlan& plan) {
  if (!plan.quantized_input) return "weight-only";
  std::string text = plan.input.form == CodeForm::kQuadratic ? "quadratic" : "uniform";
  if (plan.input.levels.defined()) text = counted(plan.input.levels.numel(), "level");
  if (plan.input.per_token) {
    text += ", per token ";
    if (plan.input.group_size > 0) {
      text += "and " + std::to_string(plan.input.group_size) + " columns ";
    }
    text += "at run time";
    if (plan.input.per_channel()) text += plan.norm.empty() ? ", channels scaled" : ", folded";
  } else if (plan.input.per_channel()) {
    text += plan.norm.empty() ? ", per channel at run time" : ", per channel, folded";
  }
  return text;
}

std::string grids_of(const ScoresPlan& plan) {
  if (plan.left.per_token) return "symmetric, per token";
  return plan.scale().numel() > 1 ? "uniform, per head" : "uniform";
}

std::string grids_of(const AttendPlan& plan) {
  std::string text;
  if (plan.uniform) {
    text = "uniform";
  } else if (plan.grid.steps_per_octave == 1) {
    text = "log2";
  } else if (plan.grid.steps_per_octave == 2) {
    text = "log-sqrt2";
  } else {
    text = "log2, " + format_number(plan.grid.steps_per_octave, 2) + " steps per octave";
  }
  if (plan.row_maximum) text += ", row maximum";
  return text;
}

std::string grids_of(const EmbeddingPlan&) { return "symmetric, a scale per row"; }

std::string grids_of(const GroupedConvolutionPlan& plan) {
  return plan.quantized_input ? "uniform, a grid per group" : "weight-only";
}

int activation_bits(const LinearPlan& plan) { return plan.quantized_input ? plan.input.bits : 16; }
int activation_bits(const ScoresPlan& plan) { return plan.left.bits; }
int activation_bits(const AttendPlan& plan) { return plan.bits; }
int activation_bits(const EmbeddingPlan&) { return kWeightOnlyBits; }
int activation_bits(const GroupedConvolutionPlan& plan) {
  return plan.quantized_input ? plan.input.bits : kWeightOnlyBits;
}

const QuantizedWeight* weight_of(const LinearPlan& plan) { return &plan.weight; }
const QuantizedWeight* weight_of(const ScoresPlan&) { return nullptr; }
const QuantizedWeight* weight_of(const AttendPlan&) { return nullptr; }
const QuantizedWeight* weight_of(const EmbeddingPlan& plan) { return &plan.table; }
const QuantizedWeight* weight_of(const GroupedConvolutionPlan& plan) { return &plan.weight; }

}  // namespace

std::string grids_of(const SitePlan& plan) {
  return std::visit([](const auto& p) { return grids_of(p); }, plan.plan);
}

SiteReport report_of(const Site& site, const SiteBits& bits) {
  SiteReport report;
  report.path = site.path;
  report.kind = name_of(kind_of(site));
  report.macs = site.macs;
  report.activation_bits = bits.activation_bits;
  if (const at::Tensor constant = constant_of(site); constant.defined()) {
    report.weight_bits = bits.weight_bits;
    report.parameters = constant.numel();
  }
  if (!bits.quantized) {
    report.weight_bits = 0;
    report.activation_bits = 0;
  } else if (norm_of(site) != nullptr) {
    report.grids = linear_of(site)->scale_only_fold ? "norm folds, scale only" : "norm folds";
  }
  report.note = site.note;
  return report;
}

SiteReport report_of(const Site& site, const SitePlan& plan) {
  SiteReport report = report_of(site, SiteBits{});
  report.grids = grids_of(plan);
  report.activation_bits = std::visit([](const auto& p) { return activation_bits(p); }, plan.plan);
  if (const auto* weight = std::visit([](const auto& p) { return weight_of(p); }, plan.plan)) {
    report.weight_bits = weight->bits;
    report.rounding = weight->outcome;
  }
  if (const auto* linear = std::get_if<LinearPlan>(&plan.plan)) {
    report.side_columns = static_cast<int>(linear->side.channels.size());
  }
  report.own_sqnr_db = plan.errors.own_output_sqnr_db;
  report.output_sqnr_db = plan.errors.output_sqnr_db;
  if (!plan.note.empty()) report.note += (report.note.empty() ? "" : "; ") + plan.note;
  return report;
}

}  // namespace repquant
