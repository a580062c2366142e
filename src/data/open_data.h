// A dataset with the preprocessing that belongs to a model.
#pragma once

#include <optional>
#include <string>

#include "data/dataset.h"
#include "data/preprocess.h"

namespace repquant {

struct DataRequest {
  std::string path;
  std::string preset_file;     // empty: the model's own preset
  std::string labels_file;     // empty: none
  std::string model;           // file whose preset applies
  TokenOptions tokens{};       // of a stream of token ids
  bool whole_windows = false;  // see DatasetOptions
  int threads = 1;
};

struct OpenedData {
  Dataset dataset;
  std::optional<ImagePreset> preset;
  std::string protocol;  // what the samples are and how they became model inputs
};

/// Behind a protocol, which tells the shape of the first sample alone.
inline constexpr const char* kOtherShapes = " and other shapes";

/// The preset of `preset_file`, else of the model (sidecar or archive), else nothing.
std::optional<ImagePreset> preset_of(const std::string& preset_file, const std::string& model);

/// Opens the data. Throws Error as open_dataset() and find_preset().
OpenedData open_data(const DataRequest& request);

}  // namespace repquant
