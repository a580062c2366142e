// A plan for CI: models x bit widths, with gates on each row.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "evaluate/gates.h"
#include "nightly/regression.h"
#include "repquant/evaluate.h"
#include "repquant/quantize.h"

namespace repquant {

inline constexpr int kPlanSchemaVersion = 1;
inline constexpr std::size_t kMostRows = 10000;

/// One artifact to make and to measure.
struct NightlyRow {
  std::string model;        // name of the model in the plan
  std::string label;        // name of the row within the model: the bits, or as the plan says
  std::string result_file;  // where the outcome is kept, beside the artifact
  QuantizeOptions quantize;
  std::optional<EvaluationOptions> evaluation;
  std::vector<Gate> gates;
  RegressionGates regression;
};

struct NightlyPlan {
  std::string folder;  // of artifacts and results
  std::vector<NightlyRow> rows;
};

/// Reads a plan (docs/nightly.md). Paths in it are relative to its folder; artifacts go to
/// `folder`, or, if that is empty, where the plan says. The rows get `threads` and `trust`.
/// Throws Error kFile if the plan or a recipe cannot be read, kUsage, with a JSON pointer, for
/// everything in it that makes no sense: unknown keys, wrong types, values out of range, names that
/// would leave the folder, and rows of the same name.
NightlyPlan read_plan(const std::filesystem::path& path, const std::string& folder, int threads,
                      bool trust = false);

/// Gates that only the rows of a plan have: on what quantize() reports.
const GateRule* find_nightly_gate_rule(std::string_view name);

/// Whether a smaller value of a metric is the better one, as the gates have it.
bool less_is_better(std::string_view metric);

}  // namespace repquant
