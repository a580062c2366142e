#include "cli/option_names.h"

#include <algorithm>
#include <array>
#include <utility>

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
  const std::string_view name = setting.substr(0, setting.find('='));
  const std::string value(setting.substr(std::min(name.size() + 1, setting.size())));
  const std::string with_value = value.empty() ? "" : " " + value;
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

std::string with_option_names(std::string_view text) {
  std::string result;
  for (;;) {
    const std::size_t begin = text.find('`');
    const std::size_t end = begin == text.npos ? text.npos : text.find('`', begin + 1);
    if (end == text.npos) return result.append(text);
    result.append(text.substr(0, begin));
    result.append(option_of(text.substr(begin + 1, end - begin - 1)));
    text.remove_prefix(end + 1);
  }
}

Error with_option_names(const Error& error) {
  ErrorParts parts = error.parts();
  for (std::string* part : {&parts.what, &parts.where, &parts.expected, &parts.hint}) {
    *part = with_option_names(*part);
  }
  return {error.kind(), std::move(parts)};
}

}  // namespace repquant::cli
