// What lies behind a dataset, and how its samples are read. Internal to the room.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/arrays.h"
#include "data/dataset.h"
#include "data/folder.h"
#include "data/tokens.h"
#include "repquant/error.h"

namespace repquant::internal {

/// What a sample of a dataset looks like. Others may differ in sizes from the first one.
struct SampleSpec {
  std::vector<std::string> names;
  std::vector<std::vector<std::int64_t>> shapes;  // without the batch dimension
  std::vector<at::ScalarType> types;
};

struct DatasetSource {
  std::filesystem::path root;
  DatasetOptions options;
  FileList list;      // the samples, or the one file that holds them all
  Arrays arrays;      // of that one file, without labels and scores; dimension 0 counts the samples
  at::Tensor stream;  // of that one file if it is a stream of token ids
  std::vector<TokenWindow> windows;  // its samples
  std::vector<double> scores;        // one for each pair of samples, or none
  SampleSpec spec;

  bool single_file() const { return !arrays.tensors.empty() || stream.defined(); }
  std::int64_t size() const {
    if (stream.defined()) return static_cast<std::int64_t>(windows.size());
    return arrays.tensors.empty() ? static_cast<std::int64_t>(list.files.size())
                                  : arrays.tensors[0].size(0);
  }
};

/// "float32 [3, 224, 224]".
std::string type_and_shape_text(at::ScalarType type, const std::vector<std::int64_t>& shape);

SampleSpec spec_of(const Arrays& sample);

/// Throws Error kFile, naming `where`, for a sample without any value.
void check_not_empty(const SampleSpec& spec, const std::string& where);

/// Throws Error for one array of integers in one dimension, `where`, of which it is not known that
/// each is a sample.
[[noreturn]] void fail_stream(ErrorKind kind, const std::string& where);

/// Removes and returns the array of one of these names, if there is one. Throws Error kFile if
/// there are two, or if no array is left.
std::optional<at::Tensor> take_array(Arrays& arrays, const std::vector<std::string>& names,
                                     const std::string& where);

/// Names of arrays that hold labels; one of the second name only if it is of whole numbers in one
/// dimension.
inline constexpr const char* kLabels = "labels";
inline constexpr const char* kTargets = "y";

/// take_array() of the labels, which must be integers.
std::optional<at::Tensor> take_labels(Arrays& arrays, const std::string& where);

/// One sample from a file of its own.
Arrays read_sample(const DatasetSource& source, std::int64_t index);

/// "file[7]" of a sample of a single file, "file[512:1024]" of a window of token ids.
std::string row_name(const DatasetSource& source, std::int64_t row);

/// The inputs of these samples, consecutive ones of the same shapes stacked. Throws as
/// Dataset::load().
std::vector<std::vector<at::Tensor>> load_samples(const DatasetSource& source,
                                                  std::span<const std::int64_t> indices);

}  // namespace repquant::internal
