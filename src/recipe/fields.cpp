#include "recipe/fields.h"

#include <utility>

#include "base/pattern.h"
#include "recipe/bit_width.h"
#include "recipe/effort.h"
#include "recipe/names.h"
#include "repquant/error.h"

namespace repquant {
namespace {

// Each maker below ties one row to a member of a section of the recipe.

template <class Section, class Enum>
RecipeField name_field(std::string path, Section Recipe::*section, Enum Section::*member,
                       std::string help) {
  RecipeField field{.path = std::move(path), .help = std::move(help), .kind = FieldKind::kName};
  for (const auto& entry : names_of(Enum{})) field.names.emplace_back(entry.second);
  field.get = [=](const Recipe& recipe) -> Json {
    return std::string(name_of((recipe.*section).*member));
  };
  field.put = [=](Recipe& recipe, const Json& value) {
    for (const auto& [entry, name] : names_of(Enum{})) {
      if (name == value.get_ref<const std::string&>()) (recipe.*section).*member = entry;
    }
  };
  return field;
}

template <class Section, class T>
RecipeField value_field(std::string path, FieldKind kind, Section Recipe::*section,
                        T Section::*member, double minimum, double maximum, std::string help) {
  RecipeField field{.path = std::move(path),
                    .help = std::move(help),
                    .kind = kind,
                    .minimum = minimum,
                    .maximum = maximum};
  field.get = [=](const Recipe& recipe) -> Json { return (recipe.*section).*member; };
  field.put = [=](Recipe& recipe, const Json& value) {
    (recipe.*section).*member = value.get<T>();
  };
  return field;
}

template <class Section>
RecipeField bool_field(std::string path, Section Recipe::*section, bool Section::*member,
                       std::string help) {
  return value_field(std::move(path), FieldKind::kBool, section, member, 0, 1, std::move(help));
}

template <class Section, class T>
RecipeField integer_field(std::string path, Section Recipe::*section, T Section::*member,
                          double minimum, double maximum, std::string help) {
  return value_field(std::move(path), FieldKind::kInteger, section, member, minimum, maximum,
                     std::move(help));
}

template <class Section>
RecipeField number_field(std::string path, Section Recipe::*section, double Section::*member,
                         double minimum, double maximum, std::string help) {
  return value_field(std::move(path), FieldKind::kNumber, section, member, minimum, maximum,
                     std::move(help));
}

/// One of `widths`, which may have gaps.
template <class Section>
RecipeField width_field(std::string path, Section Recipe::*section, int Section::*member,
                        const std::vector<int>& widths, std::string help) {
  RecipeField field = integer_field(std::move(path), section, member, widths.front(), widths.back(),
                                    std::move(help));
  field.integers = widths;
  return field;
}

RecipeField bits_field() {
  RecipeField field{.path = "bits",
                    .help = "bits of weights and activations; a16 leaves activations alone",
                    .kind = FieldKind::kBits};
  field.get = [](const Recipe& recipe) -> Json { return to_string(recipe.bits); };
  field.put = [](Recipe& recipe, const Json& value) {
    recipe.bits = parse_bits(value.get_ref<const std::string&>());
  };
  return field;
}

RecipeField title_field() {
  RecipeField field{.path = "name", .help = "name of the recipe", .kind = FieldKind::kText};
  field.get = [](const Recipe& recipe) -> Json { return recipe.name; };
  field.put = [](Recipe& recipe, const Json& value) { recipe.name = value.get<std::string>(); };
  return field;
}

// Stores the effort and the settings that it stands for, so it has to come before those.
RecipeField effort_field() {
  RecipeField field{
      .path = "effort", .help = "time spent on accuracy; sets", .kind = FieldKind::kName};
  std::string_view separator = " ";
  for (const EffortSetting& setting : effort_settings(Effort::kStandard)) {
    field.help.append(separator).append(setting.key);
    separator = ", ";
  }
  for (const auto& entry : kEffortNames) field.names.emplace_back(entry.second);
  field.get = [](const Recipe& recipe) -> Json { return std::string(name_of(recipe.effort)); };
  field.put = [](Recipe& recipe, const Json& value) {
    for (const auto& [effort, name] : kEffortNames) {
      if (name == value.get_ref<const std::string&>()) recipe.effort = effort;
    }
    for (const EffortSetting& setting : effort_settings(recipe.effort)) {
      const RecipeField& row = recipe_field(setting.key, "effort");
      row.put(recipe, field_value(row, setting.value, "effort"));
    }
  };
  return field;
}

RecipeField overrides_field() {
  RecipeField field{.path = "overrides",
                    .help = "bits of single sites; the first pattern that matches decides",
                    .kind = FieldKind::kOverrides};
  field.get = [](const Recipe& recipe) {
    Json list = Json::array();
    for (const SiteOverride& entry : recipe.overrides) {
      Json item = Json::object();
      item["pattern"] = entry.pattern;
      item["weight_bits"] = entry.weight_bits;
      item["activation_bits"] = entry.activation_bits;
      list.push_back(std::move(item));
    }
    return list;
  };
  field.put = [](Recipe& recipe, const Json& value) {
    recipe.overrides.clear();
    for (const Json& entry : value) {
      recipe.overrides.push_back({.pattern = entry.at("pattern").get<std::string>(),
                                  .weight_bits = entry.value("weight_bits", 0),
                                  .activation_bits = entry.value("activation_bits", 0)});
    }
  };
  return field;
}

RecipeField exclude_field() {
  RecipeField field{.path = "exclude",
                    .help = "patterns of site paths to keep in floating point",
                    .kind = FieldKind::kPatterns};
  field.get = [](const Recipe& recipe) -> Json { return recipe.exclude; };
  field.put = [](Recipe& recipe, const Json& value) {
    recipe.exclude = value.get<std::vector<std::string>>();
  };
  return field;
}

std::vector<RecipeField> make_fields() {
  using R = Recipe;
  std::vector<RecipeField> fields;
  const auto add = [&fields](RecipeField field) { fields.push_back(std::move(field)); };
  add(title_field());
  add(effort_field());
  add(bits_field());
  add(name_field("weights.rounding", &R::weights, &WeightRecipe::rounding,
                 "round each weight to nearest, or all of a row together (GPTQ)"));
  add(bool_field("weights.scale_search", &R::weights, &WeightRecipe::scale_search,
                 "choose row scales by squared output error, else by the largest weight"));
  add(bool_field("weights.act_order", &R::weights, &WeightRecipe::act_order,
                 "GPTQ takes columns in order of falling activation energy"));
  add(number_field("weights.damping", &R::weights, &WeightRecipe::damping, 0, 1,
                   "share of the mean Hessian diagonal added to the diagonal"));
  add(integer_field("weights.block_size", &R::weights, &WeightRecipe::block_size, 1, 65536,
                    "GPTQ columns per lazy update"));
  add(integer_field("weights.group_size", &R::weights, &WeightRecipe::group_size, 0, 65536,
                    "weight-only sites: columns that share a scale; 0: the whole row. With "
                    "input.group_size those groups, unless it is 0"));
  add(bool_field("weights.codebook", &R::weights, &WeightRecipe::codebook,
                 "up to 6 bits: learned levels instead of whole numbers"));
  add(bool_field("weights.bias_correction", &R::weights, &WeightRecipe::bias_correction,
                 "move a site's mean output error into its bias"));
  add(name_field("weights.compensation", &R::weights, &WeightRecipe::compensation,
                 "errors that the weights make up for before they are rounded"));
  add(bool_field("weights.shrinkage", &R::weights, &WeightRecipe::shrinkage,
                 "more damping where the Hessian was measured on few rows"));
  add(bool_field("weights.share_calls", &R::weights, &WeightRecipe::share_calls,
                 "round and store a weight that several Linears read once; else once for each"));
  add(number_field("weights.sensitivity", &R::weights, &WeightRecipe::sensitivity, 0, 1,
                   "how much tokens count by the gradient of the model's output; 0: all alike"));
  add(name_field(
      "norm.granularity", &R::norm, &NormRecipe::granularity,
      "grids of normalisation outputs; per_token: a scale and an offset for each row at run time, "
      "channels folded as suits rows and weights"));
  add(name_field("norm.clipping", &R::norm, &NormRecipe::clipping,
                 "static grids: how the two clipping factors of a channel are found"));
  add(number_field(
      "norm.fold_exponent", &R::norm, &NormRecipe::fold_exponent, 0, 1,
      "static grids: how much of a channel's scale is folded into the weights; 1 is all"));
  add(bool_field("norm.integer_offsets", &R::norm, &NormRecipe::integer_offsets,
                 "per-channel zero points are integers, else real and folded exactly"));
  add(bool_field("attention.quantize", &R::attention, &AttentionRecipe::quantize,
                 "quantize q, k, v and the softmax output"));
  add(bool_field("attention.equalization", &R::attention, &AttentionRecipe::equalization,
                 "keys are centred, channels of q and k scaled against each other "
                 "where it pays"));
  add(bool_field("attention.per_head", &R::attention, &AttentionRecipe::per_head,
                 "one grid per head for q, k and v"));
  add(bool_field("attention.head_room", &R::attention, &AttentionRecipe::head_room,
                 "ranges of q, k and v reach beyond the calibration data, by cross-validation"));
  add(bool_field("attention.value_per_channel", &R::attention, &AttentionRecipe::value_per_channel,
                 "one grid per channel for v"));
  add(name_field("attention.softmax_grid", &R::attention, &AttentionRecipe::softmax_grid,
                 "grid of softmax outputs"));
  add(name_field("attention.softmax_scaling", &R::attention, &AttentionRecipe::softmax_scaling,
                 "what the scale of a softmax output refers to"));
  add(number_field("attention.log_steps_per_octave", &R::attention,
                   &AttentionRecipe::log_steps_per_octave, 0, 16,
                   "codes per factor of two of the log grid; 2 is log-sqrt2, 0 is by bits"));
  add(bool_field("attention.zero_code", &R::attention, &AttentionRecipe::zero_code,
                 "the last code of the log grid means exactly zero"));
  add(name_field(
      "attention.token_scales", &R::attention, &AttentionRecipe::token_scales,
      "a scale for each token of q and k, found at run time, where that loses less; auto: "
      "not where a Linear can write their codes, which is quicker"));
  add(width_field("attention.cache_bits", &R::attention, &AttentionRecipe::cache_bits, {0, 8},
                  "keys and values that a decoder keeps: codes of so many bits, a scale and an "
                  "offset for each token and head; 0: floating point"));
  add(name_field(
      "input.granularity", &R::input, &InputRecipe::granularity,
      "grids of Linear inputs that no normalisation feeds; per_token: a scale and an offset for "
      "each row at run time, without side columns and quadratic grid"));
  add(width_field(
      "input.group_size", &R::input, &InputRecipe::group_size, {0, 8, 16, 32, 64, 128, 256, 512},
      "grids per token, behind norms too: columns that share a scale and an offset, in a "
      "slower product; 0: the whole row"));
  add(name_field("input.gelu_grid", &R::input, &InputRecipe::gelu_grid,
                 "static grids: of GELU outputs; auto is quadratic up to 4 bits"));
  add(number_field(
      "input.massive_threshold", &R::input, &InputRecipe::massive_threshold, 0, 1e6,
      "static grids: a channel this many times wider than the median gets its own; 0: never"));
  add(bool_field(
      "input.head_room", &R::input, &InputRecipe::head_room,
      "static grids: ranges of Linear inputs, norms too, reach beyond the calibration data, "
      "by cross-validation"));
  add(integer_field("input.massive_bits", &R::input, &InputRecipe::massive_bits, 2, 8,
                    "bits of such a channel"));
  add(width_field("first_layer.weight_bits", &R::first_layer, &EdgeRecipe::weight_bits,
                  override_weight_widths(), "weight bits of the first layer; 0: as the others"));
  add(width_field("first_layer.activation_bits", &R::first_layer, &EdgeRecipe::activation_bits,
                  override_activation_widths(), "input bits of the first layer; 0: as the others"));
  add(width_field("last_layer.weight_bits", &R::last_layer, &EdgeRecipe::weight_bits,
                  override_weight_widths(), "weight bits of the last layer; 0: as the others"));
  add(width_field("last_layer.activation_bits", &R::last_layer, &EdgeRecipe::activation_bits,
                  override_activation_widths(), "input bits of the last layer; 0: as the others"));
  add(width_field("embedding.bits", &R::embedding, &EmbeddingRecipe::bits, override_weight_widths(),
                  "bits of embedding tables, a scale for each row; 0: floating point"));
  add(integer_field("calibration.samples", &R::calibration, &CalibrationRecipe::samples, 1, 1e6,
                    "samples drawn from the calibration data"));
  add(integer_field("calibration.seed", &R::calibration, &CalibrationRecipe::seed, 0, 0x1p53,
                    "seed of the draw"));
  add(integer_field("calibration.batch_size", &R::calibration, &CalibrationRecipe::batch_size, 0,
                    4096, "samples per batch; 0: 8, fewer where the model's values are large"));
  add(integer_field("calibration.hold_back", &R::calibration, &CalibrationRecipe::hold_back, 0, 1e6,
                    "an eighth of the samples, at most this many, is not fitted but judges; 0: "
                    "none"));
  add(number_field("calibration.warn_below_db", &R::calibration, &CalibrationRecipe::warn_below_db,
                   -1, 200,
                   "output SQNR on those samples below which there is a warning; -1: by the bits "
                   "(w8a8 15, w6a6 10, w4a8 7, w4a4 3)"));
  add(integer_field("learning.steps", &R::learning, &LearningRecipe::steps, 0, 1e6,
                    "steps of learning all weights together after the fit; 0: none"));
  add(integer_field("learning.samples", &R::learning, &LearningRecipe::samples, 1, 4096,
                    "calibration samples in each of these steps"));
  add(number_field("learning.rate", &R::learning, &LearningRecipe::rate, 1e-6, 1,
                   "how far such a step moves a weight, in distances between its codes"));
  add(integer_field("learning.start_samples", &R::learning, &LearningRecipe::start_samples, 0, 1e6,
                    "samples that the start is fitted to where there are at least twice as many; "
                    "0: all"));
  add(overrides_field());
  add(exclude_field());
  return fields;
}

}  // namespace

const std::vector<RecipeField>& recipe_fields() {
  static const std::vector<RecipeField> fields = make_fields();
  return fields;
}

const std::vector<int>& override_weight_widths() {
  static const std::vector<int> widths = {0, 2, 3, 4, 5, 6, 7, 8};
  return widths;
}

const std::vector<int>& override_activation_widths() {
  static const std::vector<int> widths = {0, 2, 3, 4, 5, 6, 7, 8, 16};
  return widths;
}

const RecipeField& recipe_field(std::string_view path, std::string_view where) {
  std::vector<std::string> paths;
  for (const RecipeField& field : recipe_fields()) {
    if (field.path == path) return field;
    paths.push_back(field.path);
  }
  throw Error(ErrorKind::kUsage, {.what = "unknown recipe key",
                                  .where = std::string(where),
                                  .expected = "a key such as norm.clipping",
                                  .got = "'" + std::string(path) + "'",
                                  .hint = nearest_hint(path, paths)});
}

}  // namespace repquant
