#include "cli/option_names.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/setting_names.h"
#include "evaluate/gates.h"

namespace repquant::cli {
namespace {

/// Settings whose option has another name, or that need no --set.
constexpr std::array<std::pair<std::string_view, std::string_view>, 9> kRenamed{{
    {"calibration.batch_size", "--batch-size"},
    {"calibration.hold_back", "--hold-back"},
    {"calibration.samples", "--calib-samples"},
    {"calibration.seed", "--seed"},
    {"form=fused", "--fused"},
    {"max_kl", "--max-drop-kl"},
    {"norm.clipping", "--clipping"},
    {"output", "-o"},
    {"preset", "--preprocess"},
}};

/// Settings whose option is called like them, with dashes.
constexpr std::array<std::string_view, 36> kAlike{
    "batch_size", "bits",        "bos",    "calib",      "candidates",    "classes",
    "data",       "document",    "dtype",  "effort",     "exclude",       "force",
    "form",       "input_shape", "labels", "max_memory", "min_agreement", "min_coverage",
    "min_sqnr",   "outputs",     "prompt", "recipe",     "reference",     "reproduce",
    "resume",     "samples",     "strict", "stride",     "target_bits",   "task",
    "texts",      "tokens",      "trust",  "window",     "words",         "workdir"};

std::string option_of(std::string_view setting) {
  const auto [name, text] = split_setting(setting);
  const std::string value(text);
  const std::string with_value = value.empty() ? "" : " " + value;
  if (name == "required") {
    const GateRule* gate = find_gate_on(text);
    if (gate != nullptr) return "--" + std::string(gate->name);
  }
  for (const auto& [known, option] : kRenamed) {
    if (setting == known) return std::string(option);
    if (name == known) return std::string(option) + with_value;
  }
  if (std::find(kAlike.begin(), kAlike.end(), name) != kAlike.end()) {
    std::string option = "--" + std::string(name);
    std::replace(option.begin(), option.end(), '_', '-');
    return option + with_value;
  }
  const bool recipe = name.find('.') != std::string_view::npos &&
                      name.find_first_not_of("abcdefghijklmnopqrstuvwxyz_.") == name.npos;
  return recipe ? "--set " + std::string(setting) : "`" + std::string(setting) + "`";
}

}  // namespace

std::string with_option_names(std::string_view text) { return replace_settings(text, option_of); }

Error with_option_names(const Error& error) { return replace_settings(error, option_of); }

}  // namespace repquant::cli
