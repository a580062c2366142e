#include "data/open_data.h"
#include "evaluate/model_file.h"
#include "pipeline/coverage.h"
#include "pipeline/prepare.h"
#include "pipeline/site_report.h"
#include "repquant/quantize.h"
#include "tensor/parallel.h"

namespace repquant {
namespace {

/// What the model is run on: the data, or random numbers if their shape is known.
std::optional<SampleSource> samples_of(const PreviewOptions& options) {
  if (options.data) return options.data;
  const auto preset = preset_of(options.preset, options.model);
  if (!preset || preset->crop_height == 0) return std::nullopt;
  return Synthetic{};
}

}  // namespace

Preview preview(const PreviewOptions& options) {
  check_model_file(options.model, options.trust);
  const OperatorThreads threads(options.threads);
  Recipe recipe = options.recipe;
  recipe.calibration.samples = recipe.calibration.batch_size = 2;  // enough to prove folds
  CalibrationCache cache;
  const PreparedRun run = prepare({.model = options.model,
                                   .samples = samples_of(options),
                                   .preset = options.preset,
                                   .threads = options.threads,
                                   .trust = options.trust},
                                  recipe, {}, cache);
  Preview result;
  result.proven = !run.calibration.batches.empty();
  result.coverage = coverage_of(run.model, run.search, run.bits, recipe);
  for (std::size_t i = 0; i < run.bits.size(); ++i) {
    result.sites.push_back(report_of(run.search.sites[i], run.bits[i]));
  }
  return result;
}

}  // namespace repquant
