#include <ATen/Parallel.h>

#include "data/open_data.h"
#include "evaluate/model_file.h"
#include "pipeline/coverage.h"
#include "pipeline/prepare.h"
#include "pipeline/site_report.h"
#include "repquant/quantize.h"

namespace repquant {
namespace {

/// A batch of two for the proof of folds, from the data or at random; nothing if neither is known.
std::optional<CalibrationSource> open_source(const PreviewOptions& options) {
  const CalibrationRequest request{.data = options.data,
                                   .sample_shape = options.input_shape,
                                   .preset_file = options.preset,
                                   .model = options.model,
                                   .tokens = options.tokens,
                                   .threads = options.threads};
  if (!options.data.empty() || !options.input_shape.empty()) return open_calibration(request);
  const auto preset = preset_of(options.preset, options.model);
  if (!preset || preset->crop_height == 0) return std::nullopt;
  return open_calibration(request);
}

}  // namespace

Preview preview(const PreviewOptions& options) {
  check_model_file(options.model);
  at::set_num_threads(options.threads);
  const std::optional<CalibrationSource> source = open_source(options);
  ModelWithSites loaded =
      load_sites(options.model, source ? source->given : std::vector<GivenInput>());
  Preview result;
  if (source) {
    CalibrationRecipe few = options.recipe.calibration;
    few.samples = 2;
    few.batch_size = 2;
    const Calibration calibration = load_calibration(*source, few, signature_of(loaded.model));
    check_normalized(loaded.model, calibration.batches.front());
    prove_sites(loaded.model, loaded.search, calibration.batches.front());
    result.proven = true;
  }
  const std::vector<SiteBits> bits = resolve_bits(loaded.search.sites, options.recipe);
  result.coverage = coverage_of(loaded.model, loaded.search, bits, options.recipe);
  for (std::size_t i = 0; i < bits.size(); ++i) {
    result.sites.push_back(report_of(loaded.search.sites[i], bits[i]));
  }
  return result;
}

}  // namespace repquant
