#include "data/open_data.h"

#include "archive/bytes.h"

namespace repquant {

std::optional<ImagePreset> preset_of(const std::string& preset_file, const std::string& model) {
  if (preset_file.empty()) return find_preset(model);
  constexpr std::uint64_t kLargestPreset = 1 << 16;
  const std::vector<std::uint8_t> bytes = read_bytes(preset_file, kLargestPreset);
  return preset_from_json(std::string(bytes.begin(), bytes.end()), preset_file);
}

OpenedData open_data(const DataRequest& request) {
  DatasetOptions options;
  options.preset = preset_of(request.preset_file, request.model);
  options.threads = request.threads;
  options.tokens = request.tokens;
  options.whole_windows = request.whole_windows;
  if (!request.labels_file.empty()) options.labels_file = request.labels_file;
  Dataset dataset = open_dataset(request.path, options);
  std::string protocol = dataset.describe();
  if (dataset.holds_images() && options.preset) protocol += "; " + describe(*options.preset);
  return {std::move(dataset), options.preset, std::move(protocol)};
}

}  // namespace repquant
