#include "data/dataset_source.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <string>
#include <utility>

#include "archive/bytes.h"
#include "repquant/error.h"
#include "tensor/parallel.h"
#include "tensor/shape_text.h"

namespace repquant::internal {
namespace {

/// Models compute in float32, numpy saves float64 unless told otherwise.
at::Tensor as_model_input(const at::Tensor& tensor) {
  return at::isFloatingType(tensor.scalar_type()) ? tensor.to(at::kFloat) : tensor;
}

std::string spec_text(const SampleSpec& spec) {
  std::string result;
  for (std::size_t i = 0; i < spec.shapes.size(); ++i) {
    result += (i > 0 ? ", " : "") + (spec.names.empty() ? "" : spec.names[i] + " ") +
              type_and_shape_text(spec.types[i], spec.shapes[i]);
  }
  return result;
}

void check_spec(const SampleSpec& spec, const Arrays& sample, const std::string& name) {
  const SampleSpec got = spec_of(sample);
  const bool same_ranks =
      std::equal(got.shapes.begin(), got.shapes.end(), spec.shapes.begin(), spec.shapes.end(),
                 [](const auto& a, const auto& b) { return a.size() == b.size(); });
  if (got.names == spec.names && same_ranks && got.types == spec.types) return;
  throw_file_error("a sample differs in its inputs from the first one", name, spec_text(spec),
                   spec_text(got),
                   "all samples need the same inputs, types and numbers of dimensions");
}

/// The samples [from, to), which have the same shapes.
std::vector<at::Tensor> stacked(const std::vector<Arrays>& samples, std::size_t from,
                                std::size_t to) {
  std::vector<at::Tensor> inputs;
  for (std::size_t input = 0; input < samples[from].tensors.size(); ++input) {
    std::vector<at::Tensor> parts;
    for (std::size_t i = from; i < to; ++i) parts.push_back(samples[i].tensors[input]);
    inputs.push_back(at::stack(parts));
  }
  return inputs;
}

std::vector<std::vector<at::Tensor>> load_files(const DatasetSource& source,
                                                std::span<const std::int64_t> indices) {
  std::vector<Arrays> samples(indices.size());
  const auto count = static_cast<std::int64_t>(samples.size());
  parallel_for(count, source.options.threads, [&](std::int64_t i) {
    const std::int64_t index = indices[static_cast<std::size_t>(i)];
    Arrays& sample = samples[static_cast<std::size_t>(i)];
    sample = read_sample(source, index);
    check_spec(source.spec, sample,
               source.list.files[static_cast<std::size_t>(index)].path.string());
  });
  std::vector<std::vector<at::Tensor>> batches;
  for (std::size_t from = 0, to = 0; from < samples.size(); from = to) {
    const auto shapes = spec_of(samples[from]).shapes;
    while (to < samples.size() && spec_of(samples[to]).shapes == shapes) ++to;
    batches.push_back(stacked(samples, from, to));
  }
  return batches;
}

std::vector<at::Tensor> load_rows(const DatasetSource& source,
                                  std::span<const std::int64_t> indices) {
  const at::Tensor rows =
      at::tensor(at::IntArrayRef(indices.data(), indices.size()), at::TensorOptions(at::kLong));
  std::vector<at::Tensor> inputs;
  for (std::size_t i = 0; i < source.arrays.tensors.size(); ++i) {
    inputs.push_back(as_model_input(source.arrays.tensors[i].index_select(0, rows)).contiguous());
  }
  return inputs;
}

std::vector<at::Tensor> load_windows(const DatasetSource& source,
                                     std::span<const std::int64_t> indices) {
  std::vector<TokenWindow> windows;
  for (const std::int64_t index : indices) {
    windows.push_back(source.windows[static_cast<std::size_t>(index)]);
  }
  return {window_ids(source.stream, windows, source.options.tokens)};
}

}  // namespace

std::string type_and_shape_text(at::ScalarType type, const std::vector<std::int64_t>& shape) {
  const auto name = [&]() -> std::string {
    if (type == at::kFloat) return "float32";
    if (type == at::kBool) return "bool";
    if (type == at::kByte) return "uint8";
    return "int" + std::to_string(8 * c10::elementSize(type));
  };
  return name() + " " + shape_text(shape);
}

SampleSpec spec_of(const Arrays& sample) {
  SampleSpec spec;
  spec.names = sample.names;
  for (const at::Tensor& tensor : sample.tensors) {
    spec.shapes.push_back(tensor.sizes().vec());
    spec.types.push_back(tensor.scalar_type());
  }
  return spec;
}

void check_not_empty(const SampleSpec& spec, const std::string& where) {
  const auto empty = [](const std::vector<std::int64_t>& shape) {
    return std::find(shape.begin(), shape.end(), 0) != shape.end();
  };
  if (!std::all_of(spec.shapes.begin(), spec.shapes.end(), empty)) return;
  throw_file_error("a sample holds no values", where, "a value in one of its inputs at least",
                   spec_text(spec), "leave it out, such as a text without tokens");
}

void fail_stream(ErrorKind kind, const std::string& where) {
  throw Error(kind, {.what = "the data is one stream of integers, no samples",
                     .where = where,
                     .expected = "rows of token ids, or a stream that is cut into windows",
                     .got = "one dimension",
                     .hint = "cut a stream of token ids with `window=N`, at most the model's "
                             "context; if each integer is one sample, name the array after the "
                             "model's input in an .npz"});
}

std::optional<at::Tensor> take_array(Arrays& arrays, const std::vector<std::string>& names,
                                     const std::string& where) {
  std::optional<at::Tensor> taken;
  for (const std::string& name : names) {
    const auto found = std::find(arrays.names.begin(), arrays.names.end(), name);
    if (found == arrays.names.end()) continue;
    if (taken) {
      throw_file_error("two arrays of " + names.front(), where, names.front() + " or " + name,
                       "both");
    }
    const auto position = found - arrays.names.begin();
    taken = arrays.tensors[static_cast<std::size_t>(position)];
    arrays.names.erase(found);
    arrays.tensors.erase(arrays.tensors.begin() + position);
  }
  if (arrays.tensors.empty()) {
    throw_file_error("the file has " + names.front() + " but no input", where);
  }
  return taken;
}

/// True if `y` holds labels, not an input of that name.
bool holds_labels(const at::Tensor& y) {
  return at::isIntegralType(y.scalar_type(), /*includeBool=*/false) && y.dim() <= 1;
}

std::optional<at::Tensor> take_labels(Arrays& arrays, const std::string& where) {
  std::vector<std::string> names{kLabels};
  const auto y = std::find(arrays.names.begin(), arrays.names.end(), kTargets);
  if (y != arrays.names.end() &&
      holds_labels(arrays.tensors[static_cast<std::size_t>(y - arrays.names.begin())])) {
    names.emplace_back(kTargets);
  }
  std::optional<at::Tensor> labels = take_array(arrays, names, where);
  if (labels && (at::isFloatingType(labels->scalar_type()) || labels->scalar_type() == at::kBool)) {
    throw_file_error("the labels are not integers", where);
  }
  return labels;
}

/// One sample from its own file.
Arrays read_sample(const DatasetSource& source, std::int64_t index) {
  const FileEntry& file = source.list.files[static_cast<std::size_t>(index)];
  Arrays sample;
  if (source.list.images) {
    const Image image = read_image(file.path, source.options.image_limits);
    try {
      sample.tensors.push_back(preprocess(image, *source.options.preset));
    } catch (const Error& e) {
      ErrorParts parts = e.parts();
      parts.where = file.path.string();
      throw Error(ErrorKind::kFile, std::move(parts));
    }
    return sample;
  }
  sample = read_arrays(file.path);
  take_labels(sample, file.path.string());
  for (at::Tensor& tensor : sample.tensors) tensor = as_model_input(tensor);
  check_not_empty(spec_of(sample), file.path.string());
  return sample;
}

std::string row_name(const DatasetSource& source, std::int64_t row) {
  std::string position = std::to_string(row);
  if (source.stream.defined()) {
    const TokenWindow& window = source.windows[static_cast<std::size_t>(row)];
    position = std::to_string(window.begin) + ":" + std::to_string(window.end);
  }
  return source.list.files[0].name + "[" + position + "]";
}

std::vector<std::vector<at::Tensor>> load_samples(const DatasetSource& source,
                                                  std::span<const std::int64_t> indices) {
  if (source.stream.defined()) return {load_windows(source, indices)};
  if (source.single_file()) return {load_rows(source, indices)};
  return load_files(source, indices);
}

}  // namespace repquant::internal
