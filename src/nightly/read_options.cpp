#include "nightly/read_options.h"

#include <limits>

#include "base/limits.h"
#include "evaluate/gates.h"

namespace repquant {
namespace {

constexpr std::int64_t kMostIds = std::numeric_limits<std::int32_t>::max();

std::vector<int> read_outputs(JsonObject& object) {
  std::vector<int> outputs;
  const Json* positions = object.find("outputs");
  if (positions == nullptr) return outputs;
  if (!positions->is_array() || positions->empty() || positions->size() > 2) {
    object.fail("outputs", "wrong type", "an array of one or two positions");
  }
  for (const auto& position : *positions) {
    if (!position.is_number_unsigned() || position.get<std::uint64_t>() > 1000) {
      object.fail("outputs", "not allowed here", "positions from 0 to 1000");
    }
    outputs.push_back(position.get<int>());
  }
  return outputs;
}

}  // namespace

std::string path_below(const std::filesystem::path& base, const std::string& path) {
  return path.empty() ? path : (base / path).lexically_normal().string();
}

TokenOptions read_tokens(JsonObject& object) {
  TokenOptions tokens;
  tokens.window = object.integer("window", 0, 2, kMostIds);
  tokens.stride = object.integer("stride", 0, 1, kMostIds);
  tokens.bos = object.integer("bos", -1, 0, kMostIds);
  tokens.document = object.integer("document", -1, 0, kMostIds);
  tokens.dtype = object.text("dtype");
  return tokens;
}

EvaluationOptions read_evaluation(JsonObject& object, const std::filesystem::path& base) {
  EvaluationOptions options;
  options.task = parse_task(object.text("task", "classification"), object.where("task"));
  options.data = path_below(base, object.required_text("data"));
  options.tokens = read_tokens(object);
  options.use_labels = object.text("labels") != kNoLabels;
  if (options.use_labels) options.labels = path_below(base, object.text("labels"));
  options.classes = path_below(base, object.text("classes"));
  options.texts = path_below(base, object.text("texts"));
  options.samples = object.integer("samples", 0, 1, kMostIds);
  options.seed = static_cast<std::uint64_t>(object.integer("seed", 0, 0, kMostIds));
  options.batch_size = static_cast<int>(object.integer("batch_size", 16, 1, kMostBatchSize));
  if (const Json* words = object.find("words"); words != nullptr) {
    options.words = words->is_string() ? path_below(base, object.required_text("words"))
                                       : std::to_string(object.integer("words", 0, 1, INT64_MAX));
  }
  options.outputs = read_outputs(object);
  return options;
}

}  // namespace repquant
