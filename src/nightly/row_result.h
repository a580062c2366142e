// The outcome of one row of a batch, and its file, which lets a later run leave the row out.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "evaluate/gates.h"
#include "nightly/plan.h"

namespace repquant {

enum class RowStatus { kPassed, kMissed, kFailed };

struct RowResult {
  std::string model;
  std::string label;
  std::string artifact;  // its file
  RowStatus status = RowStatus::kPassed;
  bool resumed = false;  // taken over from an earlier run
  std::vector<Metric> metrics{};
  std::vector<GateResult> gates{};
  std::string protocol{};  // of the evaluation
  std::string error{};     // whole text; empty: none
  double seconds = 0.0;    // of the run that made the artifact
  std::int64_t bytes = 0;
};

/// "passed", "missed" or "failed".
std::string name_of(RowStatus status);

/// Hash over all that a row's outcome depends on: this version, the contents of model and data, the
/// recipe and the options; not the gates, which are judged anew. Throws Error as open_data().
std::string fingerprint_of(const BatchRow& row);

/// Writes the outcome (without gates) of a row whose artifact has been written.
void save_result(const BatchRow& row, const std::string& fingerprint, const RowResult& result);

/// The outcome of an earlier run, if its fingerprint is this one and the artifact is the one it
/// made; nothing for a missing, foreign or damaged file.
std::optional<RowResult> load_result(const BatchRow& row, const std::string& fingerprint);

}  // namespace repquant
