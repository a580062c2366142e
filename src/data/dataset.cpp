#include "data/dataset.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <set>
#include <string_view>
#include <utility>

#include "archive/bytes.h"
#include "base/sha256.h"
#include "base/text_table.h"
#include "data/dataset_source.h"
#include "data/labels.h"
#include "repquant/error.h"
#include "tensor/shape_text.h"

namespace repquant {
namespace {

using internal::DatasetSource;
using internal::read_sample;
using internal::row_name;
using internal::take_labels;
using internal::type_and_shape_text;

std::vector<std::int64_t> to_labels(const at::Tensor& tensor) {
  const at::Tensor labels = tensor.to(at::kLong).reshape({-1}).contiguous();
  const std::int64_t* data = labels.const_data_ptr<std::int64_t>();
  return {data, data + labels.numel()};
}

/// Scores of the pairs of `samples` samples.
std::vector<double> to_scores(const at::Tensor& tensor, std::int64_t samples,
                              const std::string& where) {
  if (tensor.dim() != 1 || samples % 2 != 0 || tensor.size(0) != samples / 2) {
    throw_file_error("the scores do not fit the samples", where,
                     "one score for each pair: samples 0 and 1, 2 and 3, ...",
                     counted(tensor.numel(), "score") + ", " + counted(samples, "sample"));
  }
  const at::Tensor scores = tensor.to(at::kDouble).contiguous();
  if (!at::isfinite(scores).all().item<bool>()) {
    throw_file_error("a score is NaN or infinite", where);
  }
  const double* data = scores.const_data_ptr<double>();
  return {data, data + scores.numel()};
}

/// Whether an array named scores is an input of a model: it has more than one number for each of
/// the samples that other arrays have.
bool is_input_of_scores(const Arrays& arrays) {
  const auto found = std::find(arrays.names.begin(), arrays.names.end(), "scores");
  if (found == arrays.names.end() || arrays.tensors.size() < 2) return false;
  const auto at = static_cast<std::size_t>(found - arrays.names.begin());
  const at::Tensor& scores = arrays.tensors[at];
  const at::Tensor& other = arrays.tensors[at == 0 ? 1 : 0];
  return scores.dim() > 1 && other.dim() > 0 && scores.size(0) == other.size(0);
}

/// A stream of token ids, cut into windows.
void open_tokens(DatasetSource& source) {
  const TokenOptions& tokens = source.options.tokens;
  check_token_options(tokens);
  source.list.files = {{source.root.filename().string(), source.root}};
  source.stream = read_token_stream(source.root, tokens);
  source.windows = cut_windows(source.stream, tokens, source.options.whole_windows);
  if (source.windows.empty()) {
    throw_file_error("the stream of token ids gives no window", source.root.string(),
                     describe(tokens), counted(source.stream.size(0), "id"),
                     "use a smaller `window`");
  }
  source.spec.shapes = {{tokens.window}};
  source.spec.types = {at::kLong};
}

/// A file whose dimension 0 counts the samples. Returns the labels it holds, if any.
std::vector<std::int64_t> open_single_file(DatasetSource& source) {
  const std::string name = source.root.string();
  source.list.files = {{source.root.filename().string(), source.root}};
  source.arrays = read_arrays(source.root);
  const std::optional<at::Tensor> labels = take_labels(source.arrays, name);
  std::optional<at::Tensor> scores;
  if (!is_input_of_scores(source.arrays)) {
    scores = internal::take_array(source.arrays, {"scores"}, name);
  }
  for (std::size_t i = 0; i < source.arrays.tensors.size(); ++i) {
    const at::Tensor& tensor = source.arrays.tensors[i];
    const std::string label =
        source.arrays.names.empty() ? name : name + ":" + source.arrays.names[i];
    if (tensor.dim() < 1) throw_file_error("the array has no dimension of samples", label);
    // With a name it may be an input of one integer a sample: arrange_inputs() asks the model.
    if (source.arrays.names.empty() && source.arrays.tensors.size() == 1 && tensor.dim() == 1 &&
        at::isIntegralType(tensor.scalar_type(), /*includeBool=*/false)) {
      internal::fail_stream(ErrorKind::kFile, label);
    }
    if (tensor.size(0) < 1) throw_file_error("the array holds no samples", label);
    if (tensor.size(0) != source.size()) {
      throw_file_error("the arrays differ in their number of samples", label,
                       std::to_string(source.size()), std::to_string(tensor.size(0)),
                       "where all samples share an array, such as a mask, or differ in shape: a "
                       "folder of files, each one sample with all its arrays, and `batch_size=1`");
    }
    source.spec.shapes.push_back(tensor.sizes().slice(1).vec());
    source.spec.types.push_back(at::isFloatingType(tensor.scalar_type()) ? at::kFloat
                                                                         : tensor.scalar_type());
  }
  source.spec.names = source.arrays.names;
  internal::check_not_empty(source.spec, name);
  if (scores) source.scores = to_scores(*scores, source.size(), name);
  if (!labels) return {};
  if (labels->dim() != 1 || labels->size(0) != source.size()) {
    throw_file_error("the labels do not fit the samples", name,
                     "one dimension of " + std::to_string(source.size()),
                     shape_text(labels->sizes()));
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
             " next to it, or name one as `preset`"});
  }
  source.spec = internal::spec_of(read_sample(source, 0));
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

const std::vector<at::ScalarType>& Dataset::input_types() const { return source_->spec.types; }

const std::vector<std::vector<std::int64_t>>& Dataset::input_shapes() const {
  return source_->spec.shapes;
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

std::vector<Batch> Dataset::load_batches(std::span<const std::int64_t> indices) const {
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
  std::vector<Batch> batches;
  for (auto& inputs : internal::load_samples(*source_, indices)) {
    Batch batch{.names = source_->spec.names, .inputs = std::move(inputs), .labels = {}};
    const auto count = static_cast<std::size_t>(batch.inputs.front().size(0));
    for (const std::int64_t index : indices.first(labels_.empty() ? 0 : count)) {
      batch.labels.push_back(labels_[static_cast<std::size_t>(index)]);
    }
    indices = indices.subspan(count);
    batches.push_back(std::move(batch));
  }
  return batches;
}

Batch Dataset::load(std::span<const std::int64_t> indices) const {
  std::vector<Batch> batches = load_batches(indices);
  if (batches.size() == 1) return std::move(batches.front());
  const auto other = static_cast<std::size_t>(batches.front().inputs.front().size(0));
  throw_file_error("samples of different shapes are wanted in one pass",
                   sample_name(indices[other]), "shapes as " + sample_name(indices[0]), "others",
                   "use a batch size of 1; for images, a crop");
}

bool Dataset::holds_images() const { return source_->list.images; }

bool Dataset::holds_tokens() const { return source_->stream.defined(); }

TokenSpan Dataset::targets(std::int64_t index) const {
  return source_->windows.at(static_cast<std::size_t>(index)).targets;
}

const std::vector<double>& Dataset::scores() const { return source_->scores; }

std::string Dataset::describe() const {
  if (holds_tokens()) {
    return std::to_string(size()) + " " + repquant::describe(source_->options.tokens) + "; " +
           counted(source_->stream.size(0), "id");
  }
  std::string text = counted(size(), source_->list.images ? "image" : "sample");
  if (!class_folders().empty()) {
    text += " in " + counted(std::ssize(class_folders()), "class folder");
  }
  for (std::size_t i = 0; i < source_->spec.shapes.size(); ++i) {
    text += ", " + (source_->spec.names.empty() ? "" : source_->spec.names[i] + " ") +
            type_and_shape_text(source_->spec.types[i], source_->spec.shapes[i]);
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

std::string Dataset::hash() const {
  const std::string files = hash_files(source_->list.files);
  // The windows, too, are what the samples are.
  return holds_tokens() ? sha256_of(files + repquant::describe(source_->options.tokens) +
                                    source_->options.tokens.dtype)
                        : files;
}

Dataset Dataset::with_labels(std::vector<std::int64_t> labels) const {
  if (static_cast<std::int64_t>(labels.size()) != size()) {
    throw Error(ErrorKind::kUsage, {"the labels do not fit the samples", source_->root.string(),
                                    std::to_string(size()), std::to_string(labels.size()), ""});
  }
  Dataset result = *this;
  result.labels_ = std::move(labels);
  return result;
}

std::optional<NotFinite> find_not_finite(const Batch& batch, const Dataset& dataset,
                                         std::span<const std::int64_t> indices) {
  std::optional<NotFinite> found;
  for (std::size_t i = 0; i < batch.inputs.size(); ++i) {
    const at::Tensor& input = batch.inputs[i];
    if (!input.is_floating_point()) continue;
    const at::Tensor finite = at::isfinite(input);
    if (finite.all().item<bool>()) continue;
    if (!found) {
      const at::Tensor rows = finite.reshape({input.size(0), -1}).all(1).logical_not().nonzero();
      const auto row = static_cast<std::size_t>(rows[0].item<std::int64_t>());
      found = NotFinite{.where = (batch.names.empty() ? "an input" : "`" + batch.names[i] + "`") +
                                 " of " + dataset.sample_name(indices[row]),
                        .only_low = true,
                        .samples = {}};
      for (const auto index : indices) found->samples.push_back(dataset.sample_name(index));
    }
    found->only_low = found->only_low && finite.logical_or(at::isneginf(input)).all().item<bool>();
  }
  return found;
}

Error with_cause(const Error& error, const NotFinite& found) {
  ErrorParts parts = error.parts();
  parts.got = "data that is not finite, such as " + found.where;
  return Error(error.kind(), std::move(parts));
}

Dataset open_dataset(const std::filesystem::path& path, const DatasetOptions& options) {
  std::error_code code;
  const auto status = std::filesystem::status(path, code);
  if (!std::filesystem::exists(status)) {
    throw_file_error("the data does not exist", path.string(),
                     "a folder of images or arrays, or a .npy, .npz, .pt or list file",
                     code ? code.message() : std::string());
  }
  const bool folder = std::filesystem::is_directory(status);
  if (!folder && !std::filesystem::is_regular_file(status)) {
    throw_file_error("the data is not a regular file", path.string(), "a file or a folder",
                     "a device, a pipe or a socket", "save what it gives to a file first");
  }
  auto source = std::make_shared<DatasetSource>();
  source->root = path;
  source->options = options;

  std::vector<std::int64_t> labels;
  if (options.tokens != TokenOptions{}) {
    if (folder) {
      throw_file_error("a folder is no stream of token ids", path.string(),
                       "one file of ids (.npy, .bin)", "a folder",
                       "name the file, or leave `window` out");
    }
    open_tokens(*source);
  } else if (folder) {
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
    labels = read_labels(*labels_file, sample_names(*source));
  }
  const Dataset dataset(std::move(source));
  return labels.empty() ? dataset : dataset.with_labels(std::move(labels));
}

}  // namespace repquant
