#include "pipeline/calibration_cache.h"

namespace repquant {

const CalibrationSource& CalibrationCache::open(const CalibrationRequest& request) {
  if (!source_ || request_ != request) {
    calibration_.reset();
    source_ = open_calibration(request);
    request_ = request;
  }
  return *source_;
}

const Calibration& CalibrationCache::load(const CalibrationRecipe& recipe,
                                          const ModelSignature& signature, const Observer& observer,
                                          const BatchCheck& check_first) {
  if (calibration_ && recipe_ == recipe && inputs_ == signature.names) {
    if (check_first) check_first(calibration_->batches.front());
  } else {
    calibration_.reset();  // before the next one is read: only one is held
    calibration_ = load_calibration(source_.value(), recipe, signature, observer, check_first);
    recipe_ = recipe;
    inputs_ = signature.names;
    ++loads_;
  }
  return *calibration_;
}

}  // namespace repquant
