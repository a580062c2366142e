#include "nightly/batch.h"

#include <c10/util/Exception.h>

#include <new>

#include "base/clock.h"
#include "pipeline/calibration_cache.h"
#include "repquant/error.h"

namespace repquant {
namespace {

namespace fs = std::filesystem;
/// Quantizes and evaluates a row; the metrics of both.
RowResult make_row(const BatchRow& row, bool force, const Observer& observer,
                   CalibrationCache& cache) {
  const auto start = Clock::now();
  RowResult result{.model = row.model, .label = row.label, .artifact = row.quantize.output};
  QuantizeOptions options = row.quantize;
  options.force = force || fs::exists(row.result_file);  // an artifact of an earlier run
  const QuantizeReport report = quantize(options, observer, cache);
  result.bytes = report.output_bytes;
  result.metrics = {{"coverage", report.coverage.mac_share()},
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

RowResult run_row(const BatchRow& row, bool force, const Observer& observer,
                  CalibrationCache& cache) {
  const std::string fingerprint = fingerprint_of(row);
  std::optional<RowResult> result = load_result(row, fingerprint);
  if (!result) {
    result = make_row(row, force, observer, cache);
    save_result(row, fingerprint, *result);
  }
  result->gates = judge(result->metrics, row.gates);
  for (const auto& gate : result->gates) {
    if (!gate.passed) result->status = RowStatus::kMissed;
  }
  return *std::move(result);
}

/// run_row() that turns errors into a failed row.
RowResult try_row(const BatchRow& row, bool force, const Observer& observer,
                  CalibrationCache& cache) {
  RowResult failed{.model = row.model,
                   .label = row.label,
                   .artifact = row.quantize.output,
                   .status = RowStatus::kFailed};
  try {
    return run_row(row, force, observer, cache);
  } catch (const Error& e) {
    if (e.kind() == ErrorKind::kInterrupted) throw;
    failed.error = e.what();
  } catch (const std::bad_alloc&) {
    failed.error = "out of memory";
  } catch (const c10::Error& e) {
    failed.error = "internal error: " + std::string(e.what_without_backtrace());
  } catch (const std::exception& e) {
    failed.error = "internal error: " + std::string(e.what());
  }
  return failed;
}

void tell(const RowResult& row, const Observer& observer) {
  const std::string text = row.model + " " + row.label + ": " + name_of(row.status);
  if (row.status == RowStatus::kPassed) {
    observer.info(text + (row.resumed ? ", from an earlier run" : ""));
  } else {
    observer.warn(text + (row.error.empty() ? "" : ": " + row.error));
  }
}

}  // namespace

BatchReport run_batch(const BatchPlan& plan, bool force, const Observer& observer) {
  std::error_code code;
  fs::create_directories(plan.folder, code);
  if (code) {
    throw Error(
        ErrorKind::kFile,
        {.what = "cannot make the folder of results", .where = plan.folder, .got = code.message()});
  }
  BatchReport report;
  CalibrationCache cache;
  for (const BatchRow& row : plan.rows) {
    observer.check_interrupt();
    observer.info(row.model + " " + row.label);
    report.rows.push_back(try_row(row, force, observer, cache));
    const RowResult& result = report.rows.back();
    if (result.status == RowStatus::kPassed) ++report.passed;
    if (result.status == RowStatus::kMissed) ++report.missed;
    if (result.status == RowStatus::kFailed) ++report.failed;
    tell(result, observer);
  }
  report.calibrations = cache.loads();
  return report;
}

}  // namespace repquant
