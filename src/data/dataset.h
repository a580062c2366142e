// What the user names on the command line, as batches of tensors.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/image.h"
#include "data/preprocess.h"
#include "data/tokens.h"
#include "repquant/error.h"

namespace repquant {

struct DatasetOptions {
  std::optional<ImagePreset> preset;                 // required for images
  std::optional<std::filesystem::path> labels_file;  // see read_labels()
  ImageLimits image_limits;
  TokenOptions tokens;         // anything but the default: the data is a stream of token ids
  bool whole_windows = false;  // leave out windows of token ids that would need padding
  int threads = 1;             // for decoding the images of a batch; does not change results
};

/// Some samples of the same shapes, stacked along dimension 0.
struct Batch {
  std::vector<std::string> names;    // as many as inputs, or none: positional
  std::vector<at::Tensor> inputs;    // [samples, ...]; floating point is float32
  std::vector<std::int64_t> labels;  // class indices, one per sample, or none
};

namespace internal {
struct DatasetSource;
}

/// A set of samples with a fixed order. Cheap to copy; the files are read when batches are loaded.
class Dataset {
 public:
  explicit Dataset(std::shared_ptr<const internal::DatasetSource> source);

  std::int64_t size() const;

  /// True if the samples are image files, which the preset turns into model inputs.
  bool holds_images() const;

  /// True if the samples are windows of a stream of token ids.
  bool holds_tokens() const;

  /// Positions of a window whose ids count in a perplexity; only for holds_tokens().
  TokenSpan targets(std::int64_t index) const;

  /// Score of each pair of samples (0 and 1, 2 and 3, ...), or empty.
  const std::vector<double>& scores() const;

  /// Names of the model inputs the data gives; empty: positional.
  const std::vector<std::string>& input_names() const;

  /// Their element types, and their shapes in the first sample, in this order; without reading any.
  const std::vector<at::ScalarType>& input_types() const;
  const std::vector<std::vector<std::int64_t>>& input_shapes() const;

  /// Class index of every sample, or empty. Class folders alone give none: their names first have
  /// to be mapped to indices by resolve_labels().
  const std::vector<std::int64_t>& labels() const { return labels_; }

  /// Sorted names of the class folders (first level below the root); empty if there are none.
  const std::vector<std::string>& class_folders() const;

  /// For each sample its position in class_folders(); empty if there are none.
  const std::vector<std::int64_t>& folder_of_sample() const;

  /// Relative path of the sample, or "file[row]", for messages.
  std::string sample_name(std::int64_t index) const;

  /// Loads the samples with these indices, in this order, consecutive ones of the same shapes in
  /// one batch. Throws Error kFile naming the sample for unreadable files and for types, names or
  /// numbers of dimensions that differ from the first sample of the dataset; kUsage for an index
  /// out of range.
  std::vector<Batch> load_batches(std::span<const std::int64_t> indices) const;

  /// The same in one batch. Throws Error kFile too if the samples differ in their shapes.
  Batch load(std::span<const std::int64_t> indices) const;

  /// One line for reports: "372 images in 300 class folders, float32 [3, 224, 224]". Says nothing
  /// of where they lie: artifacts carry it, and must not differ by that.
  std::string describe() const;

  /// SHA-256 over the names (relative, sorted by bytes) and contents of the files that hold these
  /// samples, or all of them. Does not depend on where the data lies.
  std::string hash(std::span<const std::int64_t> indices) const;
  std::string hash() const;

  /// The same samples with these labels, one per sample. Throws Error kUsage on another number.
  Dataset with_labels(std::vector<std::int64_t> labels) const;

 private:
  std::shared_ptr<const internal::DatasetSource> source_;
  std::vector<std::int64_t> labels_;
};

/// What of a batch is not finite. Models may take it: -inf in masks, NaN for what is missing. What
/// comes of it is for who runs them to look at.
struct NotFinite {
  std::string where;                 // "`mask` of a.npz", the first of such
  bool only_low = false;             // nothing but -inf, as in masks
  std::vector<std::string> samples;  // names of all in the batch
};

/// Nothing if all inputs are finite. `indices`: those of the samples in the dataset.
std::optional<NotFinite> find_not_finite(const Batch& batch, const Dataset& dataset,
                                         std::span<const std::int64_t> indices);

/// The error of a model that was given such data, with where they are as what it got.
Error with_cause(const Error& error, const NotFinite& found);

/// Opens, deciding by content: a folder of images (flat or in class folders), a folder of .npy,
/// .npz or .pt files (each one sample, without a batch dimension), one such file (dimension 0
/// counts the samples), or a text file that lists one path a line, relative to itself. Folders are
/// read in the order of their path bytes. An array named `labels`, or a `y` of whole numbers in one
/// dimension, gives labels; so does labels.txt in the folder. An array named `scores` in a single
/// file gives one score for each pair of its samples. With options for tokens the path is one
/// stream of ids (see tokens.h). The first sample is loaded to learn its shape. Throws Error kFile
/// (missing, empty, mixed or unknown content, unreadable), kUsage (images without a preset, bad
/// labels file).
Dataset open_dataset(const std::filesystem::path& path, const DatasetOptions& options = {});

}  // namespace repquant
