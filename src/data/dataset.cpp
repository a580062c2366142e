#include "data/dataset.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <set>
#include <sstream>
#include <string_view>
#include <utility>

#include "base/sha256.h"
#include "compute/parallel.h"
#include "data/arrays.h"
#include "data/bytes.h"
#include "data/folder.h"
#include "data/labels.h"
#include "repquant/error.h"

namespace repquant {
namespace internal {

/// What every sample of a dataset looks like.
struct SampleSpec {
  std::vector<std::string> names;
  std::vector<std::vector<std::int64_t>> shapes;  // without the batch dimension
  std::vector<at::ScalarType> types;
};

struct DatasetSource {
  std::filesystem::path root;
  DatasetOptions options;
  FileList list;  // the samples, or the one file that holds them all
  Arrays arrays;  // of that one file, without labels; dimension 0 counts the samples
  SampleSpec spec;

  bool single_file() const { return !arrays.tensors.empty(); }
  std::int64_t size() const {
    return single_file() ? arrays.tensors[0].size(0) : static_cast<std::int64_t>(list.files.size());
  }
};

}  // namespace internal

namespace {

using internal::DatasetSource;
using internal::SampleSpec;

std::string shape_text(at::ScalarType type, const std::vector<std::int64_t>& shape) {
  std::ostringstream text;
  switch (type) {
    case at::kFloat:
      text << "float32";
      break;
    case at::kBool:
      text << "bool";
      break;
    case at::kByte:
      text << "uint8";
      break;
    default:
      text << "int" << 8 * c10::elementSize(type);
  }
  text << " [";
  for (std::size_t i = 0; i < shape.size(); ++i) text << (i > 0 ? ", " : "") << shape[i];
  text << "]";
  return text.str();
}

/// Removes the array named `labels` or `y`, if there is one.
std::optional<at::Tensor> take_labels(Arrays& arrays, const std::string& where) {
  std::optional<at::Tensor> labels;
  for (const char* name : {"labels", "y"}) {
    const auto found = std::find(arrays.names.begin(), arrays.names.end(), name);
    if (found == arrays.names.end()) continue;
    if (labels) throw_file_error("two arrays of labels", where, "labels or y", "both");
    const auto position = found - arrays.names.begin();
    labels = arrays.tensors[static_cast<std::size_t>(position)];
    arrays.names.erase(found);
    arrays.tensors.erase(arrays.tensors.begin() + position);
    if (at::isFloatingType(labels->scalar_type()) || labels->scalar_type() == at::kBool) {
      throw_file_error("the labels are not integers", where);
    }
  }
  if (arrays.tensors.empty()) throw_file_error("the file has labels but no input", where);
  return labels;
}

std::vector<std::int64_t> to_labels(const at::Tensor& tensor) {
  const at::Tensor labels = tensor.to(at::kLong).reshape({-1}).contiguous();
  const std::int64_t* data = labels.const_data_ptr<std::int64_t>();
  return {data, data + labels.numel()};
}

/// Models compute in float32, numpy saves float64 unless told otherwise.
at::Tensor as_model_input(const at::Tensor& tensor) {
  return at::isFloatingType(tensor.scalar_type()) ? tensor.to(at::kFloat) : tensor;
}

void check_finite(const at::Tensor& sample, const std::string& name, const std::string& input) {
  if (!at::isFloatingType(sample.scalar_type()) || at::isfinite(sample).all().item<bool>()) return;
  throw_file_error("the data has NaN or infinite values", input.empty() ? name : name + ":" + input,
                   "finite numbers");
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

void check_spec(const SampleSpec& spec, const Arrays& sample, const std::string& name) {
  const auto text = [](const SampleSpec& s) {
    std::string result;
    for (std::size_t i = 0; i < s.shapes.size(); ++i) {
      result += (i > 0 ? ", " : "") + (s.names.empty() ? "" : s.names[i] + " ") +
                shape_text(s.types[i], s.shapes[i]);
    }
    return result;
  };
  const SampleSpec got = spec_of(sample);
  if (got.names == spec.names && got.shapes == spec.shapes && got.types == spec.types) return;
  throw_file_error("a sample differs in shape from the first one", name, text(spec), text(got),
                   "all samples need the same inputs, shapes and types; for images, a crop");
}

/// One sample from its own file.
Arrays read_sample(const DatasetSource& source, std::int64_t index) {
  const FileEntry& file = source.list.files[static_cast<std::size_t>(index)];
  Arrays sample;
  if (source.list.images) {
    const Image image = read_image(file.path, source.options.image_limits);
    sample.tensors.push_back(preprocess(image, *source.options.preset));
    return sample;
  }
  sample = read_arrays(file.path);
  take_labels(sample, file.path.string());
  for (std::size_t i = 0; i < sample.tensors.size(); ++i) {
    sample.tensors[i] = as_model_input(sample.tensors[i]);
    check_finite(sample.tensors[i], file.path.string(),
                 sample.names.empty() ? "" : sample.names[i]);
  }
  return sample;
}

std::vector<at::Tensor> load_files(const DatasetSource& source,
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
  std::vector<at::Tensor> inputs;
  for (std::size_t input = 0; input < source.spec.shapes.size(); ++input) {
    std::vector<at::Tensor> parts;
    for (const Arrays& sample : samples) parts.push_back(sample.tensors[input]);
    inputs.push_back(at::stack(parts));
  }
  return inputs;
}

std::string row_name(const DatasetSource& source, std::int64_t row) {
  return source.list.files[0].name + "[" + std::to_string(row) + "]";
}

std::vector<at::Tensor> load_rows(const DatasetSource& source,
                                  std::span<const std::int64_t> indices) {
  const at::Tensor rows =
      at::tensor(at::IntArrayRef(indices.data(), indices.size()), at::TensorOptions(at::kLong));
  std::vector<at::Tensor> inputs;
  for (std::size_t i = 0; i < source.arrays.tensors.size(); ++i) {
    at::Tensor input = as_model_input(source.arrays.tensors[i].index_select(0, rows)).contiguous();
    if (at::isFloatingType(input.scalar_type()) && !at::isfinite(input).all().item<bool>()) {
      for (std::size_t row = 0; row < indices.size(); ++row) {
        check_finite(input[static_cast<std::int64_t>(row)], row_name(source, indices[row]),
                     source.arrays.names.empty() ? "" : source.arrays.names[i]);
      }
    }
    inputs.push_back(std::move(input));
  }
  return inputs;
}

/// A file whose dimension 0 counts the samples. Returns the labels it holds, if any.
std::vector<std::int64_t> open_single_file(DatasetSource& source) {
  const std::string name = source.root.string();
  source.list.files = {{source.root.filename().string(), source.root}};
  source.arrays = read_arrays(source.root);
  const std::optional<at::Tensor> labels = take_labels(source.arrays, name);
  for (std::size_t i = 0; i < source.arrays.tensors.size(); ++i) {
    const at::Tensor& tensor = source.arrays.tensors[i];
    const std::string label =
        source.arrays.names.empty() ? name : name + ":" + source.arrays.names[i];
    if (tensor.dim() < 1) throw_file_error("the array has no dimension of samples", label);
    if (tensor.size(0) < 1) throw_file_error("the array holds no samples", label);
    if (tensor.size(0) != source.size()) {
      throw_file_error("the arrays differ in their number of samples", label,
                       std::to_string(source.size()), std::to_string(tensor.size(0)));
    }
    source.spec.shapes.push_back(tensor.sizes().slice(1).vec());
    source.spec.types.push_back(at::isFloatingType(tensor.scalar_type()) ? at::kFloat
                                                                         : tensor.scalar_type());
  }
  source.spec.names = source.arrays.names;
  if (!labels) return {};
  if (labels->dim() != 1 || labels->size(0) != source.size()) {
    throw_file_error("the labels do not fit the samples", name,
                     "one dimension of " + std::to_string(source.size()));
  }
  return to_labels(*labels);
}

/// The label that lies in the array file of sample `index`, if there is one.
std::optional<std::int64_t> label_in_file(const DatasetSource& source, std::size_t index) {
  const std::filesystem::path& path = source.list.files[index].path;
  Arrays sample = read_arrays(path);
  const std::optional<at::Tensor> label = take_labels(sample, path.string());
  if (!label) return std::nullopt;
  if (label->numel() != 1) {
    throw_file_error("a file of one sample needs one label", path.string(), "1",
                     std::to_string(label->numel()));
  }
  return to_labels(*label)[0];
}

/// Labels that lie in the array files themselves: in all of them, or none in the first.
std::vector<std::int64_t> labels_in_files(const DatasetSource& source) {
  std::vector<std::int64_t> labels;
  for (std::size_t i = 0; i < source.list.files.size(); ++i) {
    const std::optional<std::int64_t> label = label_in_file(source, i);
    if (!label && i == 0) break;
    if (!label) {
      throw_file_error("a sample has no label, others have one",
                       source.list.files[i].path.string());
    }
    labels.push_back(*label);
  }
  return labels;
}

std::vector<std::int64_t> open_files(DatasetSource& source) {
  if (source.list.images && !source.options.preset) {
    throw Error(
        ErrorKind::kUsage,
        {"images need a preprocessing preset, and the model has none", source.root.string(), "", "",
         "export the model with its preset, or put " + std::string("MODEL.") + kPresetFile +
             " next to it, or name one with --preprocess"});
  }
  source.spec = spec_of(read_sample(source, 0));
  return source.list.images ? std::vector<std::int64_t>{} : labels_in_files(source);
}

std::vector<std::string> sample_names(const DatasetSource& source) {
  std::vector<std::string> names;
  if (source.single_file()) {
    for (std::int64_t row = 0; row < source.size(); ++row) names.push_back(row_name(source, row));
  } else {
    for (const FileEntry& file : source.list.files) names.push_back(file.name);
  }
  return names;
}

/// Relative name and content of files, sorted by name, each preceded by its length.
std::string hash_files(std::vector<FileEntry> files) {
  std::sort(files.begin(), files.end(),
            [](const FileEntry& a, const FileEntry& b) { return a.name < b.name; });
  Sha256 hash;
  const auto add_length = [&hash](std::size_t length) {
    hash.update(std::to_string(length) + ":");
  };
  for (const FileEntry& file : files) {
    add_length(file.name.size());
    hash.update(file.name);
    const std::uint64_t size = std::filesystem::file_size(file.path);
    add_length(size);
    if (size == 0) continue;
    const MappedFile content(file.path);
    hash.update(std::as_bytes(content.bytes()));
  }
  return hash.hex_digest();
}

}  // namespace

Dataset::Dataset(std::shared_ptr<const internal::DatasetSource> source)
    : source_(std::move(source)) {}

std::int64_t Dataset::size() const { return source_->size(); }

const std::vector<std::string>& Dataset::input_names() const { return source_->spec.names; }

std::int64_t Dataset::input_count() const {
  return static_cast<std::int64_t>(source_->spec.shapes.size());
}

const std::vector<std::string>& Dataset::class_folders() const {
  return source_->list.class_folders;
}

const std::vector<std::int64_t>& Dataset::folder_of_sample() const {
  return source_->list.folder_of_file;
}

std::string Dataset::sample_name(std::int64_t index) const {
  if (source_->single_file()) return row_name(*source_, index);
  return source_->list.files.at(static_cast<std::size_t>(index)).name;
}

Batch Dataset::load(std::span<const std::int64_t> indices) const {
  for (const std::int64_t index : indices) {
    if (index >= 0 && index < size()) continue;
    throw Error(ErrorKind::kUsage,
                {"there is no such sample", source_->root.string(),
                 "0 to " + std::to_string(size() - 1), std::to_string(index), ""});
  }
  if (indices.empty()) {
    throw Error(ErrorKind::kUsage,
                {"a batch needs at least one sample", source_->root.string(), "", "", ""});
  }
  Batch batch;
  batch.names = source_->spec.names;
  batch.inputs =
      source_->single_file() ? load_rows(*source_, indices) : load_files(*source_, indices);
  if (!labels_.empty()) {
    for (const std::int64_t index : indices) {
      batch.labels.push_back(labels_[static_cast<std::size_t>(index)]);
    }
  }
  return batch;
}

bool Dataset::holds_images() const { return source_->list.images; }

std::string Dataset::describe() const {
  std::string text = std::to_string(size());
  text += source_->list.images ? " images" : " samples";
  if (!class_folders().empty()) {
    text += " in " + std::to_string(class_folders().size()) + " class folders";
  }
  for (std::size_t i = 0; i < source_->spec.shapes.size(); ++i) {
    text += ", " + (source_->spec.names.empty() ? "" : source_->spec.names[i] + " ") +
            shape_text(source_->spec.types[i], source_->spec.shapes[i]);
  }
  return text;
}

std::string Dataset::hash(std::span<const std::int64_t> indices) const {
  if (source_->single_file()) return hash();
  const std::set<std::int64_t> unique(indices.begin(), indices.end());
  std::vector<FileEntry> files;
  for (const std::int64_t index : unique) {
    files.push_back(source_->list.files.at(static_cast<std::size_t>(index)));
  }
  return hash_files(std::move(files));
}

std::string Dataset::hash() const { return hash_files(source_->list.files); }

Dataset Dataset::with_labels(std::vector<std::int64_t> labels) const {
  if (static_cast<std::int64_t>(labels.size()) != size()) {
    throw Error(ErrorKind::kUsage, {"the labels do not fit the samples", source_->root.string(),
                                    std::to_string(size()), std::to_string(labels.size()), ""});
  }
  Dataset result = *this;
  result.labels_ = std::move(labels);
  return result;
}

Dataset open_dataset(const std::filesystem::path& path, const DatasetOptions& options) {
  std::error_code code;
  const auto status = std::filesystem::status(path, code);
  if (!std::filesystem::exists(status)) {
    throw_file_error("the data does not exist", path.string(),
                     "a folder of images or arrays, or a .npy, .npz, .pt or list file",
                     code ? code.message() : std::string());
  }
  auto source = std::make_shared<DatasetSource>();
  source->root = path;
  source->options = options;

  std::vector<std::int64_t> labels;
  if (std::filesystem::is_directory(status)) {
    source->list = list_folder(path);
    labels = open_files(*source);
  } else if (file_kind(path) == FileKind::kText) {
    source->list = list_from_file(path);
    labels = open_files(*source);
  } else if (is_image(file_kind(path))) {
    source->list.images = true;
    source->list.files = {{path.filename().string(), path}};
    labels = open_files(*source);
  } else {
    labels = open_single_file(*source);
  }

  const auto labels_file = options.labels_file ? options.labels_file : source->list.labels_file;
  if (labels_file) {
    if (!labels.empty()) {
      throw Error(ErrorKind::kUsage, {"two sources of labels", path.string(),
                                      "a labels file or labels among the arrays", "both", ""});
    }
    labels = read_labels(*labels_file, sample_names(*source), source->list.images);
  }
  const Dataset dataset(std::move(source));
  return labels.empty() ? dataset : dataset.with_labels(std::move(labels));
}

}  // namespace repquant
