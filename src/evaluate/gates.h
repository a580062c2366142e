// Named metrics of a result, and limits that they have to keep.
#pragma once

#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/dataset.h"
#include "repquant/evaluate.h"

namespace repquant {

/// The word that stands for no labels in options and plans.
inline constexpr const char* kNoLabels = "none";

/// One number of a result under its name, as in JSON: "top1", "kl", "ppl" ...
struct Metric {
  std::string name;
  double value = 0.0;
};

/// The numbers of an evaluation that gates can refer to.
std::vector<Metric> metrics_of(const ModelEvaluation& model);

/// What a gate is about.
struct GateRule {
  std::string_view name;    // "min-top1"; with '_' for '-' in JSON
  std::string_view metric;  // see metrics_of()
  std::string_view help;
  std::string_view needs;           // what gives the metric, for messages
  std::string_view undefined = "";  // why a figure that is measured may have no value; else needs
  bool minimum = true;              // else the limit is a maximum
  bool share = false;               // 0..1, may be typed as a percentage
  bool reference = false;           // compares with the reference
  // The values that the metric can have; a share has its own.
  double least = -std::numeric_limits<double>::infinity();
  double most = std::numeric_limits<double>::infinity();
};

/// What a limit of that gate may be, in words; empty if `limit` is that.
std::string limit_problem(const GateRule& rule, double limit);

/// All gates on evaluations, in the order of the help.
std::span<const GateRule> gate_rules();

/// The rule of that name (with '-'), or nullptr.
const GateRule* find_gate_rule(std::string_view name);

/// The rule about that metric, or nullptr.
const GateRule* find_gate_on(std::string_view metric);

struct Gate {
  const GateRule* rule = nullptr;
  double limit = 0.0;
};

/// A gate held against a metric.
struct GateResult {
  std::string gate;
  double limit = 0.0;
  double value = 0.0;
  bool passed = false;  // never for NaN
};

/// Refuses required metrics (EvaluationOptions::required) that the task does not give, or not
/// without a reference. Throws Error kUsage naming the metric (`required=top1`) and what it needs.
void check_required(const EvaluationOptions& options);

/// The same for those that need labels or scores.
void check_required(const EvaluationOptions& options, const Dataset& dataset);

/// Throws Error kUsage, as check_required() does, if a metric is not there.
std::vector<GateResult> judge(std::span<const Metric> metrics, std::span<const Gate> gates);

}  // namespace repquant
