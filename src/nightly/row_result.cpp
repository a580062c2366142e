#include "nightly/row_result.h"

#include <torch/version.h>

#include <cmath>
#include <limits>

#include "base/atomic_file.h"
#include "base/json_text.h"
#include "base/sha256.h"
#include "data/open_data.h"
#include "data/preprocess.h"
#include "recipe/json.h"
#include "repquant/error.h"
#include "repquant/version.h"

namespace repquant {
namespace {

namespace fs = std::filesystem;

constexpr int kResultVersion = 1;

std::string hash_of_file(const std::string& path) {
  return path.empty() ? std::string() : sha256_of_file(path);
}

/// Contents of data and how it becomes samples.
Json describe_data(const DataRequest& request) {
  const OpenedData opened = open_data(request);
  Json json;
  json["sha256"] = opened.dataset.hash();
  // Also those of a labels.txt beside the samples, which is none of them.
  if (!opened.dataset.labels().empty()) json["labels"] = opened.dataset.labels();
  if (opened.preset) json["preset"] = preset_to_json(*opened.preset);
  return json;
}

Json describe_evaluation(const EvaluationOptions& options, const std::string& model) {
  Json json;
  json["task"] = name_of(options.task);
  json["data"] = describe_data({.path = options.data,
                                .preset_file = options.preset,
                                .labels_file = options.labels,
                                .model = model,
                                .tokens = options.tokens});
  json["labels"] = hash_of_file(options.labels);
  if (!options.use_labels) json["use_labels"] = false;
  json["classes"] = hash_of_file(options.classes);
  json["texts"] = hash_of_file(options.texts);
  std::error_code ignored;  // a number of words, or a file
  json["words"] =
      fs::is_regular_file(options.words, ignored) ? sha256_of_file(options.words) : options.words;
  json["outputs"] = options.outputs;
  json["samples"] = options.samples;
  json["seed"] = options.seed;
  json["batch_size"] = options.batch_size;
  json["compare"] = !options.reference.empty();
  return json;
}

/// JSON has no infinity: an SQNR without noise is "inf".
Json number_json(double value) {
  return std::isfinite(value) ? Json(value) : Json(value > 0 ? "inf" : "nan");
}

double parse_number(const Json& json) {
  if (json == "inf") return std::numeric_limits<double>::infinity();
  if (json == "nan") return std::numeric_limits<double>::quiet_NaN();
  return json.get<double>();
}

std::vector<Metric> parse_metrics(const Json& json) {
  std::vector<Metric> metrics;
  for (const auto& [name, value] : json.at("metrics").items()) {
    metrics.push_back({name, parse_number(value)});
  }
  return metrics;
}

RowResult parse_result(const Json& json, const NightlyRow& row) {
  RowResult result;
  result.model = row.model;
  result.label = row.label;
  result.artifact = row.quantize.output;
  result.protocol = json.at("protocol").get<std::string>();
  result.seconds = json.at("seconds").get<double>();
  result.bytes = json.at("bytes").get<std::int64_t>();
  result.metrics = parse_metrics(json);
  return result;
}

}  // namespace

std::string name_of(RowStatus status) {
  switch (status) {
    case RowStatus::kPassed:
      return "passed";
    case RowStatus::kMissed:
      return "missed";
    case RowStatus::kFailed:
      return "failed";
    case RowStatus::kPlanned:
      return "planned";
  }
  throw Error(ErrorKind::kInternal, {.what = "a status without a name"});
}

std::string fingerprint_of(const NightlyRow& row) {
  Json json;
  json["versions"] = {kResultVersion, kVersion, TORCH_VERSION};
  json["model"] = sha256_of_file(row.quantize.model);
  json["recipe"] = recipe_to_json(row.quantize.recipe);
  json["strict"] = row.quantize.strict;
  const auto& calib = std::get<DataPath>(row.quantize.calib);  // a plan knows nothing else
  json["calibration"] = describe_data({.path = calib.path,
                                       .preset_file = row.quantize.preset,
                                       .labels_file = "",
                                       .model = row.quantize.model,
                                       .tokens = calib.tokens,
                                       .whole_windows = true});
  if (row.evaluation) {
    json["evaluation"] = describe_evaluation(*row.evaluation, row.quantize.model);
  }
  return sha256_of(json.dump(-1, ' ', false, Json::error_handler_t::replace));
}

std::vector<Metric> read_metrics(const fs::path& path) {
  try {
    const Json json = read_json(path);
    if (json.contains("unfinished")) return {};
    return parse_metrics(json);
  } catch (const std::exception& e) {
    throw Error(ErrorKind::kFile, {.what = "the file is no outcome of a run",
                                   .where = path.string(),
                                   .got = std::string(e.what()).substr(0, 200)});
  }
}

void claim_result(const NightlyRow& row) {
  const Json json{{"schema_version", kResultVersion}, {"unfinished", true}};
  write_file(row.result_file, json.dump(2) + "\n", true);
}

void save_result(const NightlyRow& row, const std::string& fingerprint, const RowResult& result) {
  Json json;
  json["schema_version"] = kResultVersion;
  json["fingerprint"] = fingerprint;
  json["artifact_sha256"] = sha256_of_file(result.artifact);
  json["recipe"] = row.quantize.recipe.name;
  json["protocol"] = result.protocol;
  json["seconds"] = result.seconds;
  json["bytes"] = result.bytes;
  json["metrics"] = Json::object();
  for (const auto& metric : result.metrics)
    json["metrics"][metric.name] = number_json(metric.value);
  write_file(row.result_file, json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n",
             true);
}

std::optional<RowResult> load_result(const NightlyRow& row, const std::string& fingerprint) {
  try {
    const Json json = read_json(row.result_file);
    if (json.at("fingerprint") != fingerprint ||
        json.at("artifact_sha256") != sha256_of_file(row.quantize.output)) {
      return std::nullopt;
    }
    RowResult result = parse_result(json, row);
    result.resumed = true;
    return result;
  } catch (const Error&) {  // missing or damaged
    return std::nullopt;
  } catch (const Json::exception&) {  // not what save_result() writes
    return std::nullopt;
  }
}

}  // namespace repquant
