#include "pipeline/calibration.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <random>
#include <span>
#include <utility>

#include "base/sha256.h"
#include "data/open_data.h"
#include "data/sampling.h"
#include "repquant/error.h"
#include "tensor/samples.h"
#include "tensor/shape_text.h"

namespace repquant {
namespace {

constexpr std::int64_t kBatchTokens = 1024;
constexpr std::int64_t kLargestSample = std::int64_t{1} << 28;  // elements

/// Standard normal values by Box and Muller, the same on every platform.
at::Tensor normal_samples(std::int64_t count, const std::vector<std::int64_t>& shape,
                          std::mt19937_64& engine) {
  std::vector<std::int64_t> sizes{count};
  sizes.insert(sizes.end(), shape.begin(), shape.end());
  at::Tensor values = at::empty(sizes, at::kFloat);
  float* data = values.mutable_data_ptr<float>();
  const auto uniform = [&engine] {  // (0, 1]
    return (static_cast<double>(engine() >> 11U) + 1.0) * 0x1p-53;
  };
  for (std::int64_t i = 0; i < values.numel(); ++i) {
    const double radius = std::sqrt(-2.0 * std::log(uniform()));
    data[i] = static_cast<float>(radius * std::cos(2.0 * std::numbers::pi * uniform()));
  }
  return values;
}

Batch random_batch(const CalibrationSource& source, int count, std::mt19937_64& engine) {
  return {
      .names = {}, .inputs = {normal_samples(count, source.sample_shape, engine)}, .labels = {}};
}

/// Samples of token ids that a batch may hold: attention takes memory by the square of their
/// length.
std::size_t most_samples(const std::vector<at::Tensor>& one) {
  std::int64_t longest = 1;
  for (const auto& tensor : one) {
    if (tensor.dim() == 2 && at::isIntegralType(tensor.scalar_type(), /*includeBool=*/false)) {
      longest = std::max(longest, tensor.size(1));
    }
  }
  return static_cast<std::size_t>(std::max<std::int64_t>(1, kBatchTokens / longest));
}

/// Samples [from, to) of a batch.
Batch part_of(const Batch& batch, std::size_t from, std::size_t to) {
  Batch part{.names = batch.names,
             .inputs = samples_of(batch.inputs, static_cast<std::int64_t>(from),
                                  static_cast<std::int64_t>(to)),
             .labels = {}};
  if (!batch.labels.empty()) {
    const auto begin = batch.labels.begin();
    part.labels.assign(begin + static_cast<std::ptrdiff_t>(from),
                       begin + static_cast<std::ptrdiff_t>(to));
  }
  return part;
}

void check_shape(const std::vector<std::int64_t>& shape) {
  std::int64_t elements = 1;
  for (const std::int64_t size : shape) {
    if (size < 1 || size > kLargestSample / elements) {
      throw Error(ErrorKind::kUsage, {.what = "bad shape of a synthetic sample",
                                      .where = "`input_shape`",
                                      .expected = "positive sizes, at most 2^28 elements",
                                      .got = shape_text(shape)});
    }
    elements *= size;
  }
}

CalibrationSource open_path(const DataPath& data, const CalibrationRequest& request) {
  OpenedData opened = open_data({.path = data.path,
                                 .preset_file = request.preset_file,
                                 .labels_file = "",
                                 .model = request.model,
                                 .tokens = data.tokens,
                                 .whole_windows = true,  // no padding in the statistics
                                 .threads = request.threads});
  CalibrationSource source;
  const std::int64_t first = 0;
  const Batch sample = opened.dataset.load(std::span(&first, 1));
  for (std::size_t i = 0; i < sample.inputs.size(); ++i) {
    source.given.push_back({.name = i < sample.names.size() ? sample.names[i] : "",
                            .rank = sample.inputs[i].dim(),
                            .type = sample.inputs[i].scalar_type()});
  }
  source.dataset = std::move(opened.dataset);
  source.preset = opened.preset;
  source.protocol = std::move(opened.protocol);
  return source;
}

CalibrationSource open_random(const Synthetic& synthetic, const CalibrationRequest& request) {
  CalibrationSource source;
  source.preset = preset_of(request.preset_file, request.model);
  source.sample_shape = synthetic.shape;
  if (source.sample_shape.empty() && source.preset && source.preset->crop_height > 0) {
    source.sample_shape = {source.preset->channels(), source.preset->crop_height,
                           source.preset->crop_width};
  }
  if (source.sample_shape.empty()) {
    throw Error(ErrorKind::kUsage,
                {.what = "the shape of a synthetic sample is not known",
                 .hint = "give `input_shape`, such as 3,224,224, or a preprocessing preset"});
  }
  check_shape(source.sample_shape);
  source.given = {{.name = "",
                   .rank = static_cast<std::int64_t>(source.sample_shape.size()) + 1,
                   .type = at::kFloat}};
  source.protocol = "synthetic: normal random numbers, float32 " + shape_text(source.sample_shape);
  return source;
}

}  // namespace

SampleSource named_samples(const std::string& name, const TokenOptions& tokens,
                           std::vector<std::int64_t> shape) {
  if (name == "synthetic") {
    if (tokens == TokenOptions{}) return Synthetic{std::move(shape)};
    throw Error(ErrorKind::kUsage, {.what = "random numbers are no stream of token ids",
                                    .where = "`window`",
                                    .hint = "leave it out, or give a file of ids as `calib`"});
  }
  check_no_shape(name, shape);
  return DataPath{name, tokens};
}

void check_no_shape(const std::string& data, const std::vector<std::int64_t>& shape) {
  if (data.empty() || shape.empty()) return;
  throw Error(ErrorKind::kUsage, {.what = "the data has a shape of its own",
                                  .where = "`input_shape`",
                                  .expected = "the shape of random samples",
                                  .got = shape_text(shape) + " beside " + data,
                                  .hint = "leave it out, or the data"});
}

void require_samples(const SampleSource& samples) {
  const auto* data = std::get_if<DataPath>(&samples);
  if (data == nullptr || !data->path.empty()) return;
  throw Error(
      ErrorKind::kUsage,
      {.what = "no calibration data",
       .where = "`calib`",
       .expected = "a few dozen to a few hundred samples of what the model will see",
       .hint = "a folder of JPEG or PNG images, a .npy or .npz file (dimension 0 counts the "
               "samples), tensors saved with torch.save, a folder of such files, or a text file "
               "that lists files; `calib=synthetic` uses random numbers, for speed and structure "
               "only: accuracy will be poor"});
}

CalibrationSource open_calibration(const CalibrationRequest& request) {
  require_samples(request.samples);
  if (const auto* data = std::get_if<DataPath>(&request.samples)) return open_path(*data, request);
  return open_random(std::get<Synthetic>(request.samples), request);
}

int samples_drawn(const CalibrationSource& source, const CalibrationRecipe& recipe) {
  if (!source.dataset) return recipe.samples;
  return static_cast<int>(std::min<std::int64_t>(recipe.samples, source.dataset->size()));
}

std::vector<at::Tensor> first_sample(const CalibrationSource& source,
                                     const CalibrationRecipe& recipe,
                                     const ModelSignature& signature) {
  if (!source.dataset) {
    std::mt19937_64 engine(recipe.seed);
    return arrange_inputs(random_batch(source, 1, engine), signature);
  }
  const std::vector<std::int64_t> chosen =
      draw_samples(source.dataset->size(), recipe.samples, recipe.seed);
  return arrange_inputs(source.dataset->load(std::span(chosen).first(1)), signature);
}

Calibration load_calibration(const CalibrationSource& source, const CalibrationRecipe& recipe,
                             const ModelSignature& signature, const Observer& observer,
                             const BatchCheck& check_first) {
  Calibration calibration;
  calibration.samples = samples_drawn(source, recipe);
  const int batch_size = recipe.batch_size > 0 ? recipe.batch_size : kUsualBatch;
  const auto add = [&](const Batch& batch) {
    calibration.batches.push_back(arrange_inputs(batch, signature));
    if (!check_first || calibration.batches.size() > 1) return;
    try {
      check_first(calibration.batches.front());
    } catch (const Error& e) {
      const auto found = calibration.not_finite.find(0);
      if (e.kind() != ErrorKind::kNumerical || found == calibration.not_finite.end()) throw;
      throw with_cause(e, found->second);
    }
  };
  if (!source.dataset) {
    std::mt19937_64 engine(recipe.seed);
    for (int begin = 0; begin < recipe.samples; begin += batch_size) {
      const int count = std::min(batch_size, recipe.samples - begin);
      add(random_batch(source, count, engine));
    }
    calibration.hash = sha256_of("synthetic " + shape_text(source.sample_shape) + " " +
                                 std::to_string(recipe.seed));
    return calibration;
  }
  const Dataset& dataset = *source.dataset;
  const std::vector<std::int64_t> chosen =
      draw_samples(dataset.size(), recipe.samples, recipe.seed);
  const bool images = dataset.holds_images();
  auto step = static_cast<std::size_t>(batch_size);
  if (!chosen.empty() && !images) {
    const Batch first = dataset.load(std::span(chosen).first(1));
    step = std::min(step, most_samples(first.inputs));
  }
  for (std::size_t begin = 0; begin < chosen.size(); begin += step) {
    observer.check_interrupt();
    auto indices = std::span(chosen).subspan(begin, std::min(step, chosen.size() - begin));
    for (const Batch& batch : dataset.load_batches(indices)) {
      // Fewer at a time of samples that are longer than the first one.
      const auto size = static_cast<std::size_t>(batch.inputs.front().size(0));
      const std::size_t most = images ? size : most_samples(batch.inputs);
      for (std::size_t from = 0; from < size; from += most) {
        const Batch part = part_of(batch, from, std::min(size, from + most));
        const auto own = indices.first(std::min(size - from, most));
        indices = indices.subspan(own.size());
        if (const auto found = find_not_finite(part, dataset, own)) {
          calibration.not_finite.emplace(calibration.batches.size(), *found);
        }
        add(part);
      }
    }
  }
  calibration.hash = dataset.hash(chosen);
  return calibration;
}

}  // namespace repquant
