// Quantization of one model several times: its calibration data is opened and read once.
#pragma once

#include <optional>

#include "pipeline/calibration.h"
#include "repquant/quantize.h"

namespace repquant {

/// The calibration that was asked for last. Another request replaces it, so that only one is held.
class CalibrationCache {
 public:
  /// As open_calibration(). The reference holds until the next call.
  const CalibrationSource& open(const CalibrationRequest& request);

  /// As load_calibration() of the source opened last; the first batch is checked in any case.
  const Calibration& load(const CalibrationRecipe& recipe, const ModelSignature& signature,
                          const Observer& observer, const BatchCheck& check_first = {});

  /// How often samples were read.
  int loads() const { return loads_; }

 private:
  std::optional<CalibrationRequest> request_;
  std::optional<CalibrationSource> source_;
  std::optional<CalibrationRecipe> recipe_;
  std::vector<std::string> inputs_;
  std::optional<Calibration> calibration_;
  int loads_ = 0;
};

/// quantize() with a calibration that further runs share.
QuantizeReport quantize(const QuantizeOptions& given, const Observer& observer,
                        CalibrationCache& cache);

}  // namespace repquant
