#include "nightly/run_nightly.h"

#include <filesystem>
#include <functional>
#include <system_error>

#include "base/atomic_file.h"
#include "base/clock.h"
#include "evaluate/model_file.h"
#include "nightly/plan_keys.h"
#include "pipeline/calibration_cache.h"
#include "repquant/error.h"
#include "tensor/current_error.h"

namespace repquant {
namespace {

namespace fs = std::filesystem;

bool exists(const std::string& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

/// Refuses what cannot be measured before it is quantized.
void check_row(const NightlyRow& row) {
  if (!row.evaluation) return;
  EvaluationOptions evaluation = *row.evaluation;
  evaluation.models = {row.quantize.model};
  check_evaluation(evaluation);
}

/// Quantizes and evaluates a row; the metrics of both.
RowResult make_row(const NightlyRow& row, const Observer& observer, CalibrationCache& cache) {
  const auto start = Clock::now();
  RowResult result{.model = row.model, .label = row.label, .artifact = row.quantize.output};
  QuantizeOptions options = row.quantize;
  options.force = true;  // claimed
  check_row(row);
  const QuantizeReport report = quantize(options, observer, cache);
  result.bytes = report.output_bytes;
  result.metrics = {{"coverage", report.coverage.smallest_share()},
                    {"size_ratio", static_cast<double>(report.output_bytes) /
                                       static_cast<double>(report.model_bytes)},
                    {"calibration_sqnr_db", report.output_sqnr_db}};
  if (row.evaluation) {
    EvaluationOptions evaluation = *row.evaluation;
    evaluation.models = {row.quantize.output};
    const EvaluationReport measured = evaluate(evaluation, observer);
    result.protocol = measured.protocol;
    for (auto& metric : metrics_of(measured.models.front())) {
      result.metrics.push_back(std::move(metric));
    }
  }
  result.seconds = seconds_since(start);
  return result;
}

/// make_row() with the row's file of results as a claim on its artifact.
RowResult make_claimed_row(const NightlyRow& row, bool force, const Observer& observer,
                           CalibrationCache& cache) {
  const bool own = force || exists(row.result_file);  // made by an earlier run
  check_output(row.quantize.output, own);
  claim_result(row);
  try {
    return make_row(row, observer, cache);
  } catch (...) {
    std::error_code ignored;
    if (!exists(row.quantize.output)) fs::remove(row.result_file, ignored);
    throw;
  }
}

/// A row that the folder of the baseline lacks may be a new one, or the wrong folder.
void warn_without_baseline(const NightlyRow& row, const Observer& observer) {
  if (row.regression.outcome.empty() || exists(row.regression.outcome)) return;
  observer.warn(row.model + " " + row.label +
                ": the baseline has no such row, so nothing is compared (" +
                row.regression.outcome + ")");
}

void judge_row(const NightlyRow& row, RowResult& result) {
  result.gates = judge(result.metrics, row.gates);
  for (auto& gate : judge_regression(row.regression, result.metrics)) {
    result.gates.push_back(std::move(gate));
  }
  for (const auto& gate : result.gates) {
    if (!gate.passed) result.status = RowStatus::kMissed;
  }
}

RowResult run_row(const NightlyRow& row, bool force, const Observer& observer,
                  CalibrationCache& cache) {
  const std::string fingerprint = fingerprint_of(row);
  std::optional<RowResult> result = load_result(row, fingerprint);
  if (!result) {
    result = make_claimed_row(row, force, observer, cache);
    save_result(row, fingerprint, *result);
  }
  judge_row(row, *result);
  return *std::move(result);
}

RowResult look_at_row(const NightlyRow& row, bool force) {
  if (std::optional<RowResult> result = load_result(row, fingerprint_of(row))) {
    judge_row(row, *result);
    return *std::move(result);
  }
  check_model_file(row.quantize.model, row.quantize.trust);
  if (exists(row.quantize.output)) {
    check_output(row.quantize.output, force || exists(row.result_file));
  }
  check_row(row);
  return {.model = row.model,
          .label = row.label,
          .artifact = row.quantize.output,
          .status = RowStatus::kPlanned};
}

/// What `work` makes of a row; an error makes it a failed one.
RowResult try_row(const NightlyRow& row, const std::function<RowResult()>& work) {
  RowResult failed{.model = row.model,
                   .label = row.label,
                   .artifact = row.quantize.output,
                   .status = RowStatus::kFailed};
  const auto start = Clock::now();
  try {
    return work();
  } catch (...) {
    const Error error = with_plan_keys(current_error());
    if (error.kind() == ErrorKind::kInterrupted) throw;
    failed.error = error.what();
    failed.error_kind = error.kind();
  }
  failed.seconds = seconds_since(start);
  return failed;
}

void tell(const RowResult& row, const Observer& observer) {
  const std::string text = row.model + " " + row.label + ": " + name_of(row.status);
  if (row.status == RowStatus::kPassed || row.status == RowStatus::kPlanned) {
    observer.info(text + (row.resumed ? ", from an earlier run" : ""));
  } else {
    observer.warn(text + (row.error.empty() ? "" : ": " + row.error));
  }
}

/// All rows, one after the other.
NightlyReport for_each_row(const NightlyPlan& plan, const Observer& observer,
                           const std::function<RowResult(const NightlyRow&)>& work) {
  NightlyReport report;
  for (const NightlyRow& row : plan.rows) {
    observer.check_interrupt();
    observer.info(row.model + " " + row.label);
    warn_without_baseline(row, observer);
    report.rows.push_back(try_row(row, [&] { return work(row); }));
    const RowResult& result = report.rows.back();
    if (result.status == RowStatus::kPassed) ++report.passed;
    if (result.status == RowStatus::kMissed) ++report.missed;
    if (result.status == RowStatus::kFailed) ++report.failed;
    tell(result, observer);
  }
  return report;
}

}  // namespace

NightlyReport look_at_nightly(const NightlyPlan& plan, bool force, const Observer& observer) {
  check_folder(plan.folder);
  return for_each_row(plan, observer,
                      [&](const NightlyRow& row) { return look_at_row(row, force); });
}

NightlyReport run_nightly(const NightlyPlan& plan, bool force, const Observer& observer) {
  check_folder(plan.folder);
  std::error_code code;
  fs::create_directories(plan.folder, code);
  if (code) {
    throw Error(
        ErrorKind::kFile,
        {.what = "cannot make the folder of results", .where = plan.folder, .got = code.message()});
  }
  CalibrationCache cache;
  NightlyReport report = for_each_row(
      plan, observer, [&](const NightlyRow& row) { return run_row(row, force, observer, cache); });
  report.calibrations = cache.loads();
  return report;
}

}  // namespace repquant
