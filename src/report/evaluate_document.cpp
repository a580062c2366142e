#include <algorithm>
#include <array>

#include "report/documents.h"
#include "report/values.h"

namespace repquant {
namespace {

/// A figure of a model that some task gives.
struct Metric {
  const char* title;
  const char* value;     // path of keys
  const char* interval;  // of its 95 % interval; empty: none
  double factor;
  int decimals;
};

constexpr std::array<Metric, 10> kMetrics{{
    {"top-1 %", "top1.value", "top1.interval95", 100.0, 2},
    {"top-5 %", "top5.value", "top5.interval95", 100.0, 2},
    {"agreement %", "agreement.value", "agreement.interval95", 100.0, 2},
    {"perplexity", "perplexity.token", "perplexity.interval95", 1.0, 4},
    {"ratio of perplexities", "perplexity.ratio.value", "perplexity.ratio.interval95", 1.0, 4},
    {"Spearman", "embedding.spearman", "embedding.spearman_interval95", 1.0, 4},
    {"cosine", "embedding.cosine.value", "", 1.0, 4},
    {"KL, nats", "kl", "", 1.0, 4},
    {"SQNR, dB", "sqnr_db", "", 1.0, 2},
    {"SQNR of embeddings, dB", "embedding.sqnr_db", "", 1.0, 2},
}};

/// The models with the reference before them.
std::vector<Json> all_models(const Json& result) {
  std::vector<Json> models;
  if (const Json& reference = value_at(result, "reference"); !reference.is_null()) {
    models.push_back(reference);
  }
  for (const Json& model : items_at(result, "models")) models.push_back(model);
  return models;
}

std::string name_of_model(const Json& model) {
  return model_name(text_at(model, "model"), text_at(model, "form"));
}

ReportTable metrics_table(const std::vector<Json>& models) {
  ReportTable table{.columns = {{"model"}, {"size", Align::kRight}}, .rows = {}};
  for (const Json& model : models) {
    table.rows.push_back({name_of_model(model), bytes_text(model, "file_bytes")});
  }
  const auto add = [&](const std::string& title, const auto& cell) {
    table.columns.push_back({title, Align::kRight});
    for (std::size_t i = 0; i < models.size(); ++i) table.rows[i].push_back(cell(models[i]));
  };
  for (const Metric& metric : kMetrics) {
    const auto has = [&](const char* path) {
      return *path != '\0' && std::any_of(models.begin(), models.end(), [&](const Json& model) {
        return !value_at(model, path).is_null();
      });
    };
    if (!has(metric.value)) continue;
    add(metric.title, [&](const Json& model) {
      const auto value = number_at(model, metric.value);
      return value ? format_number(metric.factor * *value, metric.decimals) : std::string("-");
    });
    if (!has(metric.interval)) continue;
    add("95 % interval", [&](const Json& model) {
      return interval_text(model, metric.interval, metric.factor, metric.decimals);
    });
  }
  return table;
}

/// The first metric with an interval, as bars.
std::optional<ReportBars> metric_bars(const std::vector<Json>& models) {
  for (const Metric& metric : kMetrics) {
    if (*metric.interval == '\0' || models.empty() || !number_at(models.back(), metric.value)) {
      continue;
    }
    ReportBars bars;
    double least = *number_at(models.back(), metric.value), most = least;
    for (const Json& model : models) {
      const auto value = number_at(model, metric.value);
      if (!value) continue;
      bars.bars.push_back({.label = name_of_model(model),
                           .value = std::max(0.0, *value),
                           .text = format_number(metric.factor * *value, metric.decimals),
                           .level = kNoLevel,
                           .interval = interval_at(model, metric.interval)});
      const auto ends = bars.bars.back().interval.value_or(std::pair(*value, *value));
      least = std::min({least, *value, ends.first});
      most = std::max({most, *value, ends.second});
    }
    // Bars of shares near each other are alike: the scale begins below the lowest interval.
    bars.from = std::max(0.0, least - (most - least) / 4);
    bars.caption = metric.title;
    bars.drawn = "with its 95 % interval, from " +
                 format_number(metric.factor * bars.from, metric.decimals) + " on";
    return bars;
  }
  return std::nullopt;
}

ReportTable recalls_table(const std::vector<Json>& models) {
  ReportTable table{.columns = {{"model"},
                                {"direction"},
                                {"k", Align::kRight},
                                {"recall %", Align::kRight},
                                {"95 % interval", Align::kRight}},
                    .rows = {}};
  for (const Json& model : models) {
    for (const Json& recall : items_at(model, "retrieval.recalls")) {
      table.rows.push_back({name_of_model(model), text_at(recall, "direction"),
                            number_text(recall, "k", 0), share_text(recall, "value", 2),
                            interval_text(recall, "interval95", 100.0, 1)});
    }
  }
  return table;
}

ReportTable gates_table(const Json& result) {
  ReportTable table{.columns = {{"gate"},
                                {"model"},
                                {"limit", Align::kRight},
                                {"measured", Align::kRight},
                                {"met"}},
                    .rows = {}};
  for (const Json& gate : items_at(result, "gates")) {
    table.rows.push_back({text_at(gate, "gate"), name_of_model(gate), number_text(gate, "limit", 4),
                          number_text(gate, "value", 4),
                          value_at(gate, "passed") == Json(true) ? "yes" : "NO"});
  }
  return table;
}

}  // namespace

Document evaluate_document(const Json& result) {
  const std::vector<Json> models = all_models(result);
  Document document{
      .title = "Evaluation: " + text_at(result, "task"), .headline = {}, .sections = {}};
  const bool one = number_at(result, "samples") == 1.0;
  document.headline.push_back({number_text(result, "samples", 0), one ? "sample" : "samples"});
  if (!models.empty()) {
    for (const Metric& metric : kMetrics) {
      const auto value = number_at(models.back(), metric.value);
      if (!value || document.headline.size() > 5) continue;
      document.headline.push_back(
          {format_number(metric.factor * *value, metric.decimals),
           std::string(metric.title) + " of " + name_of_model(models.back())});
    }
  }
  ReportSection results{.title = "Results", .blocks = {}};
  if (auto bars = metric_bars(models)) results.blocks.push_back(std::move(*bars));
  results.blocks.push_back(metrics_table(models));
  if (auto recalls = recalls_table(models); !recalls.rows.empty()) {
    results.blocks.push_back(std::move(recalls));
  }
  document.sections.push_back(std::move(results));
  if (auto gates = gates_table(result); !gates.rows.empty()) {
    document.sections.push_back({.title = "Gates", .blocks = {std::move(gates)}});
  }
  document.sections.push_back(
      {.title = "How each figure was measured",
       .blocks = {ReportText{text_at(result, "protocol")},
                  ReportText{"Every model ran on the same batches. Shares have Wilson's 95 % "
                             "interval; agreement, KL and SQNR compare with the reference."}}});
  return document;
}

}  // namespace repquant
