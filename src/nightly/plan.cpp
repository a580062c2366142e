#include "nightly/plan.h"

#include <algorithm>
#include <array>
#include <limits>
#include <set>

#include "base/json_object.h"
#include "base/overwrite.h"
#include "nightly/read_options.h"
#include "recipe/json.h"
#include "recipe/resolve.h"
#include "repquant/error.h"

namespace repquant {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
constexpr std::size_t kLongestName = 100;

constexpr std::array<GateRule, 2> kNightlyRules{{
    {.name = "min-coverage",
     .metric = "coverage",
     .help = "smallest of the quantized shares of parameters, multiply-accumulates and bytes",
     .needs = "",
     .share = true},
    {.name = "max-size-ratio",
     .metric = "size_ratio",
     .help = "largest size of the artifact relative to the model's file",
     .needs = "",
     .minimum = false,
     .least = 0.0},
}};

/// Settings that a plan gives for the whole, a model or a bit width; the last one counts.
struct Settings {
  std::vector<CommandLineSetting> recipe;
  std::vector<Gate> gates;
};

/// Names become parts of file names, so they may hold nothing that a path gives a meaning to.
void check_name(const std::string& name, const std::string& where) {
  const bool allowed = !name.empty() && name.size() <= kLongestName && name.front() != '.' &&
                       std::all_of(name.begin(), name.end(), [](char c) {
                         return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                                (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
                       });
  if (allowed) return;
  throw Error(ErrorKind::kUsage,
              {.what = "not a name",
               .where = where,
               .expected = "1 to 100 of the characters a-z, A-Z, 0-9, '.', '_', '-', no '.' first",
               .got = name});
}

void read_gates(JsonObject& parent, std::vector<Gate>& gates) {
  const Json* value = parent.find("gates");
  if (value == nullptr) return;
  JsonObject object(*value, parent.source(), parent.pointer("gates"));
  for (const auto& [key, limit] : object.items()) {
    std::string name = key;
    std::replace(name.begin(), name.end(), '_', '-');
    const GateRule* rule = find_gate_rule(name);
    if (rule == nullptr) rule = find_nightly_gate_rule(name);
    if (rule == nullptr || key.find('-') != std::string::npos) {
      std::string known;
      for (const auto& r : gate_rules())
        known += std::string(known.empty() ? "" : ", ") + std::string(r.name);
      for (const auto& r : kNightlyRules) known += ", " + std::string(r.name);
      std::replace(known.begin(), known.end(), '-', '_');
      object.fail(key, "unknown gate", known);
    }
    const double number = object.number(key);
    if (const std::string expected = limit_problem(*rule, number); !expected.empty()) {
      object.fail(key, "not allowed here", expected);
    }
    std::erase_if(gates, [&](const Gate& gate) { return gate.rule == rule; });
    gates.push_back({rule, number});
  }
}

void read_settings(JsonObject& parent, std::vector<CommandLineSetting>& settings) {
  const Json* value = parent.find("set");
  if (value == nullptr) return;
  JsonObject object(*value, parent.source(), parent.pointer("set"));
  for (const auto& [key, setting] : object.items()) {
    const std::string text = setting->is_string() ? setting->get<std::string>() : setting->dump();
    settings.push_back({key, text, object.where(key)});
  }
}

/// The calibration of a model: a path or an object.
void read_calibration(JsonObject& model, const fs::path& base, QuantizeOptions& options,
                      std::vector<CommandLineSetting>& settings) {
  const Json& value = model.at("calib");
  if (value.is_string()) {
    options.calib = DataPath{.path = path_below(base, model.required_text("calib"))};
    return;
  }
  JsonObject object(value, model.source(), model.pointer("calib"));
  options.calib = DataPath{.path = path_below(base, object.required_text("data")),
                           .tokens = read_tokens(object)};
  for (const char* key : {"samples", "seed", "batch_size"}) {
    if (object.find(key) == nullptr) continue;
    settings.push_back({std::string("calibration.") + key,
                        std::to_string(object.integer(key, 0, 0, kMost)), object.where(key)});
  }
  object.finish();
}

/// The evaluation of a model's rows, if the plan has one.
std::optional<EvaluationOptions> find_evaluation(JsonObject& model, const fs::path& base,
                                                 const QuantizeOptions& quantize) {
  const Json* value = model.find("evaluate");
  if (value == nullptr) return std::nullopt;
  JsonObject object(*value, model.source(), model.pointer("evaluate"));
  EvaluationOptions options = read_evaluation(object, base);
  options.preset = quantize.preset;
  if (object.boolean("compare", true)) options.reference = quantize.model;
  options.threads = quantize.threads;
  options.trust = quantize.trust;
  object.finish();
  return options;
}

/// The folder of an earlier run and what may be worse than there, if the plan has it.
struct Baseline {
  fs::path folder;  // empty: none
  std::vector<Metric> allowed;
};

Baseline read_baseline(JsonObject& plan, const fs::path& base, const std::string& output) {
  const Json* value = plan.find("baseline");
  if (value == nullptr) return {};
  JsonObject object(*value, plan.source(), plan.pointer("baseline"));
  Baseline baseline{.folder = path_below(base, object.required_text("folder")), .allowed = {}};
  std::error_code ignored;
  if (fs::weakly_canonical(baseline.folder, ignored) == fs::weakly_canonical(output, ignored)) {
    object.fail("folder", "the run would be compared with itself", "another folder than output");
  }
  if (!fs::is_directory(baseline.folder, ignored)) {
    throw Error(ErrorKind::kFile, {.what = "the folder of the baseline does not exist",
                                   .where = object.where("folder"),
                                   .expected = "the folder of an earlier run; an empty one for the "
                                               "first night",
                                   .got = baseline.folder.string()});
  }
  JsonObject allowed(object.at("allow"), object.source(), object.pointer("allow"));
  for (const auto& item : allowed.items()) {
    const double most = allowed.number(item.first);
    if (!(most >= 0.0)) allowed.fail(item.first, "not allowed here", "a number from 0");
    baseline.allowed.push_back({item.first, most});
  }
  object.finish();
  return baseline;
}

/// Refuses gates on figures that the row will not have, before the long work.
void check_gates(const NightlyRow& row, const std::string& where) {
  for (const Gate& gate : row.gates) {
    if (find_gate_rule(gate.rule->name) == nullptr) continue;  // every row has those of a plan
    const bool compared = row.evaluation && !row.evaluation->reference.empty();
    if (row.evaluation && (compared || !gate.rule->reference)) continue;
    throw Error(ErrorKind::kUsage,
                {.what = "a gate on a figure that the row will not have",
                 .where = where,
                 .expected = row.evaluation ? "an evaluation with \"compare\": true"
                                            : "a model with the key evaluate",
                 .got = std::string(gate.rule->name) + " for " + row.model});
  }
}

/// Reads rows of a plan one model after the other.
class PlanReader {
 public:
  PlanReader(const fs::path& path, const std::string& folder, int threads, bool trust)
      : base_(path.parent_path()), json_(read_json(path)), root_(json_, path.string(), "") {
    if (root_.integer("schema_version", kPlanSchemaVersion, 0, kMost) != kPlanSchemaVersion) {
      root_.fail("schema_version", "unknown version of the plan",
                 std::to_string(kPlanSchemaVersion));
    }
    const std::string output = root_.text("output", "repquant-out");
    plan_.folder = folder.empty() ? path_below(base_, output) : folder;
    threads_ = threads;
    trust_ = trust;
    baseline_ = read_baseline(root_, base_, plan_.folder);
  }

  NightlyPlan read() {
    Settings common;
    read_settings(root_, common.recipe);
    read_gates(root_, common.gates);
    const Json* bits = root_.find("bits");
    const Json& models = root_.at("models");
    if (!models.is_array() || models.empty()) {
      root_.fail("models", "not allowed here", "an array of at least one model");
    }
    for (std::size_t i = 0; i < models.size(); ++i) {
      const std::string pointer = pointer_to(root_.pointer("models"), std::to_string(i));
      JsonObject model(models[i], root_.source(), pointer);
      read_model(model, common, bits);
    }
    root_.finish();
    return std::move(plan_);
  }

 private:
  void read_model(JsonObject& model, Settings settings, const Json* common_bits) {
    NightlyRow row;
    row.quantize.threads = threads_;
    row.quantize.trust = trust_;
    row.quantize.model = path_below(base_, model.required_text("model"));
    row.model = model.text("name", fs::path(row.quantize.model).stem().string());
    check_name(row.model, model.where("name"));
    row.quantize.preset = path_below(base_, model.text("preprocess"));
    row.quantize.strict = model.boolean("strict", false);
    read_calibration(model, base_, row.quantize, settings.recipe);
    row.evaluation = find_evaluation(model, base_, row.quantize);
    read_settings(model, settings.recipe);
    read_gates(model, settings.gates);
    RecipeSources sources;
    const std::string recipe = model.text("recipe");
    take_recipe(sources, recipe, path_below(base_, recipe));
    sources.exclude = model.texts("exclude");

    const Json* own = model.find("bits");
    const Json* list = own != nullptr ? own : common_bits;
    const std::string pointer = own != nullptr ? model.pointer("bits") : root_.pointer("bits");
    if (list == nullptr) model.at("bits");  // says that it is missing
    if (!list->is_array() || list->empty()) {
      throw Error(ErrorKind::kUsage, {.what = "not allowed here",
                                      .where = json_location(root_.source(), pointer),
                                      .expected = "an array of at least one bit width",
                                      .got = describe_json(*list)});
    }
    for (std::size_t i = 0; i < list->size(); ++i) {
      add_row(row, settings, sources, (*list)[i], pointer_to(pointer, std::to_string(i)));
    }
    model.finish();
  }

  /// `bits` is "w4a4" or an object with the key bits and, for this row alone, set and gates.
  void add_row(NightlyRow row, Settings settings, RecipeSources sources, const Json& bits,
               const std::string& pointer) {
    const std::string where = json_location(root_.source(), pointer);
    std::string text;
    if (bits.is_object()) {
      JsonObject object(bits, root_.source(), pointer);
      text = object.required_text("bits");
      row.label = object.text("label", text);
      read_settings(object, settings.recipe);
      read_gates(object, settings.gates);
      object.finish();
    } else {
      text = json_text_value(bits, where);
      row.label = text;
    }
    check_name(row.label, where);
    settings.recipe.push_back({"bits", text, where});
    sources.settings = std::move(settings.recipe);
    row.quantize.recipe = resolve_recipe(sources).recipe;
    row.gates = std::move(settings.gates);
    check_gates(row, where);
    for (const Gate& gate : row.gates) {
      if (row.evaluation) row.evaluation->required.emplace_back(gate.rule->metric);
    }

    const std::string name = row.model + "." + row.label;
    if (!names_.insert(name).second) {
      throw Error(ErrorKind::kUsage, {.what = "two rows have the same name",
                                      .where = where,
                                      .expected = "other names of models or labels of bits",
                                      .got = name});
    }
    if (plan_.rows.size() == kMostRows) {
      throw Error(ErrorKind::kUsage, {.what = "too many rows",
                                      .where = where,
                                      .expected = "at most " + std::to_string(kMostRows)});
    }
    row.quantize.output = (fs::path(plan_.folder) / (name + ".pt")).string();
    row.result_file = (fs::path(plan_.folder) / (name + ".json")).string();
    if (!baseline_.folder.empty()) {
      row.regression = {.outcome = (baseline_.folder / (name + ".json")).string(),
                        .allowed = baseline_.allowed};
    }
    check_no_input(row.result_file,
                   {{"plan", root_.source()},
                    {"model", row.quantize.model},
                    {"calibration data", std::get<DataPath>(row.quantize.calib).path},
                    {"evaluation data", row.evaluation ? row.evaluation->data : ""}});
    plan_.rows.push_back(std::move(row));
  }

  fs::path base_;
  Json json_;
  JsonObject root_;
  int threads_ = 1;
  bool trust_ = false;
  Baseline baseline_{};
  NightlyPlan plan_{};
  std::set<std::string> names_{};
};

}  // namespace

const GateRule* find_nightly_gate_rule(std::string_view name) {
  const auto found = std::find_if(kNightlyRules.begin(), kNightlyRules.end(),
                                  [&](const GateRule& rule) { return rule.name == name; });
  return found == kNightlyRules.end() ? nullptr : &*found;
}

bool less_is_better(std::string_view metric) {
  if (metric == "word_ppl") return true;  // has no gate of its own
  const GateRule* rule = find_gate_on(metric);
  for (const GateRule& own : kNightlyRules) {
    if (own.metric == metric) rule = &own;
  }
  return rule != nullptr && !rule->minimum;
}

NightlyPlan read_plan(const fs::path& path, const std::string& folder, int threads, bool trust) {
  return PlanReader(path, folder, threads, trust).read();
}

}  // namespace repquant
