#include "evaluate/result_json.h"

#include <optional>
#include <utility>

#include "format/report_json.h"

namespace repquant {
namespace {

Json interval_json(const Interval& interval) { return {interval.lower, interval.upper}; }

template <class Value>
Json optional_json(const std::optional<Value>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json proportion_json(const Proportion& p) {
  return {{"value", p.value},
          {"count", p.count},
          {"total", p.total},
          {"interval95", interval_json(p.interval)}};
}

Json mean_json(const Mean& mean) {  // an unknown error is null
  return {{"value", mean.value}, {"standard_error", mean.standard_error}};
}

void add_agreement_json(const Agreement& agreement, Json& json) {
  if (agreement.top1) json["agreement"] = proportion_json(*agreement.top1);
  if (agreement.kl) {
    json["kl"] = agreement.kl->value;
    json["kl_standard_error"] = agreement.kl->standard_error;
  }
  json["sqnr_db"] = agreement.sqnr_db;  // null: no difference at all
  if (const auto& difference = agreement.difference) {
    json["top1_difference"] = {{"value", difference->difference},
                               {"standard_error", difference->standard_error},
                               {"interval95", interval_json(difference->interval)},
                               {"gained", difference->gained},
                               {"lost", difference->lost}};
  }
}

Json perplexity_json(const Perplexity& perplexity) {
  Json json;
  json["tokens"] = perplexity.tokens;
  json["nll"] = mean_json(perplexity.nll);
  json["token"] = perplexity.token;
  json["interval95"] = interval_json(perplexity.interval);
  json["word"] = optional_json(perplexity.word);
  if (perplexity.ratio && perplexity.ratio_interval) {
    json["ratio"] = {{"value", *perplexity.ratio},
                     {"interval95", interval_json(*perplexity.ratio_interval)}};
  }
  return json;
}

Json embedding_json(const Embedding& embedding) {
  Json json;
  json["pairs"] = embedding.pairs;
  json["spearman"] = optional_json(embedding.spearman);
  if (embedding.spearman_interval) {
    json["spearman_interval95"] = interval_json(*embedding.spearman_interval);
  }
  if (embedding.cosine) {
    json["cosine"] = mean_json(*embedding.cosine);
    json["min_cosine"] = optional_json(embedding.min_cosine);
    json["sqnr_db"] = optional_json(embedding.sqnr_db);
  }
  return json;
}

Json retrieval_json(const Retrieval& retrieval) {
  Json json;
  json["recalls"] = Json::array();
  for (const auto& recall : retrieval.recalls) {
    Json row = proportion_json(recall.share);
    row["direction"] = recall.direction;
    row["k"] = recall.k;
    json["recalls"].push_back(std::move(row));
  }
  if (retrieval.cosine) json["cosine"] = mean_json(*retrieval.cosine);
  return json;
}

Json model_json(const ModelEvaluation& model, std::int64_t samples) {
  Json json;
  json["model"] = model.model;
  json["form"] = name_of(model.form);
  json["file_bytes"] = model.file_bytes;
  json["seconds"] = model.seconds;
  json["seconds_per_sample"] = model.seconds / static_cast<double>(samples);
  if (model.accuracy) {
    json["top1"] = proportion_json(model.accuracy->top1);
    if (model.accuracy->top5) json["top5"] = proportion_json(*model.accuracy->top5);
  }
  if (model.agreement) add_agreement_json(*model.agreement, json);
  if (model.perplexity) json["perplexity"] = perplexity_json(*model.perplexity);
  if (model.embedding) json["embedding"] = embedding_json(*model.embedding);
  if (model.retrieval) json["retrieval"] = retrieval_json(*model.retrieval);
  return json;
}

}  // namespace

Json gate_json(const GateResult& gate) {
  return {
      {"gate", gate.gate}, {"limit", gate.limit}, {"value", gate.value}, {"passed", gate.passed}};
}

Json evaluation_json(const EvaluationReport& report) {
  Json json = result_object("evaluate");
  json["task"] = name_of(report.task);
  json["protocol"] = report.protocol;
  json["samples"] = report.samples;
  json["labelled"] = report.labelled;
  json["reference"] =
      report.reference ? model_json(*report.reference, report.samples) : Json(nullptr);
  json["models"] = Json::array();
  for (const auto& model : report.models) {
    json["models"].push_back(model_json(model, report.samples));
  }
  return json;
}

}  // namespace repquant
