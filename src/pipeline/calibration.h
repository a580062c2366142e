// Samples for calibration: a seeded draw in batches, or random numbers if so asked.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/model_inputs.h"
#include "data/preprocess.h"
#include "graph/model.h"
#include "repquant/observer.h"
#include "repquant/recipe.h"
#include "repquant/samples.h"
#include "tensor/samples.h"

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
  SampleSource samples;
  std::string preset_file;
  std::string model;
  int threads = 1;

  friend bool operator==(const CalibrationRequest&, const CalibrationRequest&) = default;
};

/// Samples as callers name them: the word synthetic stands for random numbers of `shape`, anything
/// else for a path. No name is an empty path, which require_samples() refuses. Throws Error kUsage
/// for a shape of data that has its own, and for windows of random numbers.
SampleSource named_samples(const std::string& name, const TokenOptions& tokens,
                           std::vector<std::int64_t> shape);

/// Throws Error kUsage for a shape beside data that has its own.
void check_no_shape(const std::string& data, const std::vector<std::int64_t>& shape);

/// Throws Error kUsage, with the kinds of data there are, for an empty path.
void require_samples(const SampleSource& samples);

/// Opens the data; random numbers have the shape that was given, else the preset's crop.
/// Throws Error kUsage if neither gives a shape, and as require_samples() and open_dataset() do.
CalibrationSource open_calibration(const CalibrationRequest& request);

struct Calibration {
  Batches batches;   // the model's inputs, [B, ...] each
  std::string hash;  // of the files drawn from, or of the seed and shape
  int samples = 0;
  std::map<std::size_t, NotFinite> not_finite{};  // what the data has of it, by batch
};

/// Samples per batch where nobody says how many.
inline constexpr int kUsualBatch = 8;

/// How many samples are drawn.
int samples_drawn(const CalibrationSource& source, const CalibrationRecipe& recipe);

/// The first sample that is drawn, as a batch of the model's inputs. The source has samples.
std::vector<at::Tensor> first_sample(const CalibrationSource& source,
                                     const CalibrationRecipe& recipe,
                                     const ModelSignature& signature);

/// Throws for inputs that do not fit.
using BatchCheck = std::function<void(const std::vector<at::Tensor>&)>;

/// Draws and loads the samples; those of one shape that follow each other share a batch.
/// `check_first` sees the first batch before others are read. Lets the user stop between batches.
/// Throws Error as Dataset::load() and arrange_inputs() do.
Calibration load_calibration(const CalibrationSource& source, const CalibrationRecipe& recipe,
                             const ModelSignature& signature, const Observer& observer = {},
                             const BatchCheck& check_first = {});

}  // namespace repquant
