#include "bindings/read_arguments.h"

#include <limits>

#include "base/limits.h"
#include "nightly/read_options.h"
#include "pipeline/calibration.h"
#include "recipe/bit_width.h"
#include "recipe/resolve.h"
#include "repquant/error.h"

namespace repquant {
namespace {

constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();

int read_threads(JsonObject& object) {
  return static_cast<int>(object.integer("threads", 1, 1, kMostThreads));
}

SampleSource read_calibration(JsonObject& object) {
  const std::string path = object.text("calib");
  const TokenOptions tokens = read_tokens(object);
  std::vector<std::int64_t> shape;
  if (const Json* sizes = object.find("input_shape"); sizes != nullptr) {
    if (!sizes->is_array()) object.fail("input_shape", "wrong type", "an array of sizes");
    for (const Json& size : *sizes) {
      if (!size.is_number_integer()) object.fail("input_shape", "wrong type", "an array of sizes");
      shape.push_back(size.get<std::int64_t>());
    }
  }
  return named_samples(path, tokens, std::move(shape));
}

std::optional<BitAllocationOptions> read_bit_allocation(JsonObject& object) {
  std::optional<BitAllocationOptions> bit_allocation;
  if (object.find("target_bits") != nullptr) {
    bit_allocation = BitAllocationOptions{.target_bits = object.number("target_bits")};
  }
  if (object.find("max_kl") != nullptr) {
    if (bit_allocation) object.fail("max_kl", "not allowed beside target_bits", "one of the two");
    BitSearch search{.max_kl = object.number("max_kl")};
    if (object.find("time_limit") != nullptr) {
      search.time_limit_seconds = object.number("time_limit");
    }
    bit_allocation = BitAllocationOptions{.search = search};
  }
  if (object.find("time_limit") != nullptr && object.find("max_kl") == nullptr) {
    object.fail("time_limit", "there is no search to limit", "max_kl");
  }
  if (object.find("candidates") == nullptr) return bit_allocation;
  if (!bit_allocation) {
    object.fail("candidates", "there is nothing to choose", "target_bits or max_kl");
  }
  bit_allocation->candidates.clear();
  for (const std::string& bits : object.texts("candidates")) {
    bit_allocation->candidates.push_back(parse_bits(bits, object.where("candidates")));
  }
  return bit_allocation;
}

/// The settings of the recipe below `value`: `weights.group_size` from {"weights": {...}}.
void flatten(const std::string& key, const std::string& where, const Json& value,
             std::vector<CommandLineSetting>& settings) {
  if (value.is_object()) {
    for (const auto& [name, inner] : value.items()) {
      flatten(std::string(key).append(".").append(name),
              std::string(where).append("/").append(name), inner, settings);
    }
    return;
  }
  settings.push_back(
      {key, value.is_string() ? value.get<std::string>() : value.dump(), "arguments", where});
}

/// Of all keys that nobody has read.
Recipe read_recipe_settings(JsonObject& object) {
  RecipeSources sources;
  const std::string recipe = object.text("recipe");
  take_recipe(sources, recipe, recipe);
  for (const auto& [key, value] : object.unread()) {
    flatten(key, object.where(key), *value, sources.settings);
  }
  return resolve_recipe(sources).recipe;
}

}  // namespace

CallSettings read_call_settings(JsonObject& object) {
  return {.progress = object.boolean("progress", false),
          .interruptible = object.boolean("interruptible", false)};
}

QuantizeOptions read_quantize(JsonObject& object) {
  QuantizeOptions options;
  options.model = object.required_text("model");
  options.output = object.required_text("output");
  options.calib = read_calibration(object);
  options.preset = object.text("preset");
  options.bit_allocation = read_bit_allocation(object);
  options.threads = read_threads(object);
  options.force = object.boolean("force", false);
  options.trust = object.boolean("trust", false);
  options.strict = object.boolean("strict", false);
  if (object.find("min_coverage") != nullptr) options.min_coverage = object.number("min_coverage");
  if (object.find("min_sqnr") != nullptr) options.min_sqnr_db = object.number("min_sqnr");
  if (object.find("min_agreement") != nullptr) {
    options.min_agreement = object.number("min_agreement");
  }
  options.workdir = object.text("workdir");
  options.resume = object.boolean("resume", false);
  options.recipe = read_recipe_settings(object);
  return options;
}

EvaluationOptions read_evaluate(JsonObject& object) {
  EvaluationOptions options = read_evaluation(object, "");
  options.models = object.texts("models");
  options.reference = object.text("reference");
  options.preset = object.text("preset");
  options.threads = read_threads(object);
  options.trust = object.boolean("trust", false);
  if (object.find("forms") != nullptr) {
    options.forms.clear();
    for (const std::string& name : object.texts("forms")) {
      options.forms.push_back(parse_form(name, "`form`"));
    }
  }
  object.finish();
  return options;
}

}  // namespace repquant
