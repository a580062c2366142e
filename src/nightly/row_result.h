// The outcome of one row of a plan, and its file, which lets a later run leave the row out.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "evaluate/gates.h"
#include "nightly/plan.h"
#include "repquant/error.h"

namespace repquant {

enum class RowStatus { kPassed, kMissed, kFailed, kPlanned };

struct RowResult {
  std::string model;
  std::string label;
  std::string artifact;  // its file
  RowStatus status = RowStatus::kPassed;
  bool resumed = false;  // taken over from an earlier run
  std::vector<Metric> metrics{};
  std::vector<GateResult> gates{};
  std::string protocol{};                       // of the evaluation
  std::string error{};                          // whole text, with_plan_keys(); empty: none
  ErrorKind error_kind = ErrorKind::kInternal;  // of `error`
  double seconds = 0.0;                         // of the run that made the artifact
  std::int64_t bytes = 0;
};

/// "passed", "missed", "failed" or "planned".
std::string name_of(RowStatus status);

/// Hash over all that a row's outcome depends on: this version, the contents of model and data, the
/// recipe and the options; not the gates, which are judged anew. Throws Error as open_data().
std::string fingerprint_of(const NightlyRow& row);

/// Says, before the work, that the row's artifact is this program's own, so that a run that was
/// killed before save_result() can be repeated.
void claim_result(const NightlyRow& row);

/// The metrics of an outcome's file, whatever run it is of; none of one that is unfinished. Throws
/// Error kFile if it is no outcome.
std::vector<Metric> read_metrics(const std::filesystem::path& path);

/// Writes the outcome (without gates) of a row whose artifact has been written.
void save_result(const NightlyRow& row, const std::string& fingerprint, const RowResult& result);

/// The outcome of an earlier run, if its fingerprint is this one and the artifact is the one it
/// made; nothing for a missing, foreign or damaged file.
std::optional<RowResult> load_result(const NightlyRow& row, const std::string& fingerprint);

}  // namespace repquant
