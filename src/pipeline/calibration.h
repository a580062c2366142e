// Calibration data: a seeded draw of samples in batches, or random numbers if so asked.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/model_inputs.h"
#include "data/preprocess.h"
#include "graph/model.h"
#include "repquant/recipe.h"

namespace repquant {

/// Where calibration samples come from, opened but not read.
struct CalibrationSource {
  std::optional<Dataset> dataset;          // none: random numbers
  std::vector<std::int64_t> sample_shape;  // of random samples
  std::optional<ImagePreset> preset;       // of the model or given
  std::string protocol;
  std::vector<GivenInput> given;  // the arrays of a sample
};

struct CalibrationRequest {
  std::string data;  // empty: random numbers
  std::vector<std::int64_t> sample_shape;
  std::string preset_file;
  std::string model;
  TokenOptions tokens{};
  int threads = 1;

  friend bool operator==(const CalibrationRequest&, const CalibrationRequest&) = default;
};

/// Opens the data; for random numbers the shape is `sample_shape`, else the preset's crop.
/// Throws Error kUsage if neither gives a shape, and as open_dataset() does.
CalibrationSource open_calibration(const CalibrationRequest& request);

struct Calibration {
  std::vector<std::vector<at::Tensor>> batches;  // the model's inputs, [B, ...] each
  std::string hash;  // of the files drawn from, or of the seed and shape
  int samples = 0;
};

/// Draws and loads the samples. `check_interrupt` is called between batches.
/// Throws Error as Dataset::load() and arrange_inputs() do.
Calibration load_calibration(const CalibrationSource& source, const CalibrationRecipe& recipe,
                             const ModelSignature& signature,
                             const std::function<void()>& check_interrupt = nullptr);

}  // namespace repquant
