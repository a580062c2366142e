#include "evaluate/gates.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>

#include "base/text_table.h"
#include "data/labels.h"
#include "repquant/error.h"

namespace repquant {
namespace {

constexpr const char* kLabels = "give class folders, an array named labels, or `labels`";
constexpr const char* kReference = "give the floating-point model as `reference`";
constexpr const char* kRanked = "needs an output of two values a sample at least";
constexpr const char* kPerplexity = "needs `task=perplexity`";
constexpr const char* kRetrieval = "needs `task=retrieval`";
constexpr const char* kEmbedding = "needs `task=embedding` or `task=retrieval`, and `reference`";
constexpr const char* kTask = "choose another `task`, or leave out the gate";
constexpr const char* kScores = "needs `task=embedding` and an array named scores";

constexpr std::array<GateRule, 9> kRules{{
    {.name = "min-top1",
     .metric = "top1",
     .help = "smallest top-1 accuracy: 0.80 or 80%",
     .needs = kLabels,
     .share = true},
    {.name = "min-agreement",
     .metric = "agreement",
     .help = "smallest top-1 agreement with the reference",
     .needs = kReference,
     .undefined = kRanked,
     .share = true,
     .reference = true},
    {.name = "max-kl",
     .metric = "kl",
     .help = "largest mean KL divergence from the reference, nats",
     .needs = kReference,
     .undefined = kRanked,
     .minimum = false,
     .reference = true,
     .least = 0.0},
    {.name = "min-sqnr",
     .metric = "sqnr_db",
     .help = "smallest SQNR of the output against the reference, dB",
     .needs = kReference,
     .reference = true},
    {.name = "max-ppl",
     .metric = "ppl",
     .help = "largest perplexity of a token",
     .needs = kPerplexity,
     .minimum = false,
     .least = 1.0},
    {.name = "max-ppl-ratio",
     .metric = "ppl_ratio",
     .help = "largest perplexity relative to the reference: 1.02",
     .needs = kReference,
     .minimum = false,
     .reference = true,
     .least = 0.0},
    {.name = "min-spearman",
     .metric = "spearman",
     .help = "smallest rank correlation of similarities and scores",
     .needs = kScores,
     .undefined = "needs two pairs at least, and neither similarities nor scores all alike",
     .least = -1.0,
     .most = 1.0},
    {.name = "min-cosine",
     .metric = "cosine",
     .help = "smallest mean cosine of the embeddings with the reference's",
     .needs = kEmbedding,
     .reference = true,
     .least = -1.0,
     .most = 1.0},
    {.name = "min-recall1",
     .metric = "recall1",
     .help = "smallest share of images whose text ranks first",
     .needs = kRetrieval,
     .share = true},
}};

bool measures(Task task, std::string_view metric) {
  static const std::map<Task, std::set<std::string_view>> kMetrics{
      {Task::kClassification, {"top1", "top5", "agreement", "kl", "sqnr_db"}},
      {Task::kPerplexity, {"ppl", "word_ppl", "ppl_ratio", "agreement", "kl", "sqnr_db"}},
      {Task::kEmbedding, {"spearman", "cosine", "sqnr_db"}},
      {Task::kRetrieval, {"recall1", "recall5", "recall10", "cosine"}}};
  return kMetrics.at(task).count(metric) > 0;
}

/// The metric as it is asked for: EvaluationOptions::required.
std::string setting_of(const GateRule& rule) {
  return "`required=" + std::string(rule.metric) + "`";
}

[[noreturn]] void fail_without(const GateRule& rule) {
  throw Error(ErrorKind::kUsage, {.what = "a gate on a figure that will not be measured",
                                  .where = setting_of(rule),
                                  .hint = std::string(rule.needs)});
}

/// The rules of the required metrics.
std::vector<const GateRule*> required_rules(const EvaluationOptions& options) {
  std::vector<const GateRule*> rules;
  for (const GateRule& rule : kRules) {
    const auto& required = options.required;
    if (std::find(required.begin(), required.end(), rule.metric) != required.end()) {
      rules.push_back(&rule);
    }
  }
  return rules;
}

}  // namespace

void check_required(const EvaluationOptions& options) {
  for (const GateRule* rule : required_rules(options)) {
    if (rule->reference && options.reference.empty()) fail_without(*rule);
    if (measures(options.task, rule->metric)) continue;
    throw Error(ErrorKind::kUsage, {.what = "a gate on a figure that the task does not measure",
                                    .where = setting_of(*rule),
                                    .got = "the task " + name_of(options.task),
                                    .hint = std::string(rule->reference ? kTask : rule->needs)});
  }
}

void check_required(const EvaluationOptions& options, const Dataset& dataset) {
  const bool labels = options.use_labels &&
                      (has_labels(dataset) || !options.labels.empty() || !options.classes.empty());
  for (const GateRule* rule : required_rules(options)) {
    if (rule->metric == "top1" && !labels) fail_without(*rule);
    if (rule->metric == "spearman" && dataset.scores().empty()) fail_without(*rule);
  }
}

std::vector<Metric> metrics_of(const ModelEvaluation& model) {
  std::vector<Metric> metrics;
  const auto add = [&metrics](const char* name, std::optional<double> value) {
    if (value) metrics.push_back({name, *value});
  };
  if (model.accuracy) {
    add("top1", model.accuracy->top1.value);
    if (model.accuracy->top5) add("top5", model.accuracy->top5->value);
  }
  if (model.perplexity) {
    add("ppl", model.perplexity->token);
    add("word_ppl", model.perplexity->word);
    add("ppl_ratio", model.perplexity->ratio);
  }
  if (model.agreement) {
    if (model.agreement->top1) add("agreement", model.agreement->top1->value);
    if (model.agreement->kl) add("kl", model.agreement->kl->value);
    add("sqnr_db", model.agreement->sqnr_db);
  }
  if (model.embedding) {
    add("spearman", model.embedding->spearman);
    if (model.embedding->cosine) add("cosine", model.embedding->cosine->value);
    add("sqnr_db", model.embedding->sqnr_db);
  }
  if (model.retrieval) {
    for (const auto& recall : model.retrieval->recalls) {
      if (recall.direction != model.retrieval->recalls.front().direction) break;
      metrics.push_back({"recall" + std::to_string(recall.k), recall.share.value});
    }
    if (model.retrieval->cosine) add("cosine", model.retrieval->cosine->value);
  }
  return metrics;
}

std::string limit_problem(const GateRule& rule, double limit) {
  const double least = rule.share ? 0.0 : rule.least, most = rule.share ? 1.0 : rule.most;
  if (std::isfinite(limit) && limit >= least && limit <= most) return "";
  if (rule.share) return "a share from 0 to 1";
  std::string text = "a number";
  if (std::isfinite(least)) text += " from " + format_significant(least, 3);
  if (std::isfinite(most)) text += " to " + format_significant(most, 3);
  return text;
}

std::span<const GateRule> gate_rules() { return kRules; }

const GateRule* find_gate_rule(std::string_view name) {
  const auto found = std::find_if(kRules.begin(), kRules.end(),
                                  [&](const GateRule& rule) { return rule.name == name; });
  return found == kRules.end() ? nullptr : &*found;
}

const GateRule* find_gate_on(std::string_view metric) {
  const auto found = std::find_if(kRules.begin(), kRules.end(),
                                  [&](const GateRule& rule) { return rule.metric == metric; });
  return found == kRules.end() ? nullptr : &*found;
}

std::vector<GateResult> judge(std::span<const Metric> metrics, std::span<const Gate> gates) {
  std::vector<GateResult> results;
  for (const Gate& gate : gates) {
    const auto metric = std::find_if(metrics.begin(), metrics.end(),
                                     [&](const Metric& m) { return m.name == gate.rule->metric; });
    if (metric == metrics.end()) {
      throw Error(ErrorKind::kUsage,
                  {.what = "a gate on a figure that was not measured",
                   .where = setting_of(*gate.rule),
                   .hint = std::string(gate.rule->undefined.empty() ? gate.rule->needs
                                                                    : gate.rule->undefined)});
    }
    const bool passed =
        gate.rule->minimum ? metric->value >= gate.limit : metric->value <= gate.limit;
    results.push_back({std::string(gate.rule->name), gate.limit, metric->value, passed});
  }
  return results;
}

}  // namespace repquant
