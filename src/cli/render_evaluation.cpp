// Results of evaluate.
#include <cmath>
#include <filesystem>
#include <functional>

#include "base/text_table.h"
#include "cli/render.h"

namespace repquant::cli {
namespace {

/// A column of the table; an empty cell is shown as "-".
struct Figure {
  std::string title;
  std::function<std::string(const ModelEvaluation&)> cell;
  int rank = 0;  // see Column
};

std::string points(double share) { return format_number(100.0 * share, 2); }

std::string percent_interval(const Interval& interval) {
  return format_number(100.0 * interval.lower, 1) + " - " +
         format_number(100.0 * interval.upper, 1);
}

std::string number_interval(const Interval& interval, int decimals) {
  return format_number(interval.lower, decimals) + " - " + format_number(interval.upper, decimals);
}

std::string signed_points(double share) {
  const std::string sign = share > 0 ? "+" : "";
  return sign + points(share);
}

/// `cell` of an optional part of the result.
template <class Part, class Cell>
std::function<std::string(const ModelEvaluation&)> of(std::optional<Part> ModelEvaluation::*part,
                                                      Cell cell) {
  return [part, cell](const ModelEvaluation& model) {
    return model.*part ? cell(*(model.*part)) : std::string();
  };
}

void add_agreement(const EvaluationReport& report, std::vector<Figure>& columns) {
  if (!report.reference) return;
  const auto part = &ModelEvaluation::agreement;
  columns.push_back({"agreement %", of(part, [](const auto& a) {
                       return a.top1 ? points(a.top1->value) : std::string();
                     })});
  columns.push_back({"KL", of(part, [](const auto& a) {
                       return a.kl ? format_number(a.kl->value, 4) : std::string();
                     })});
  columns.push_back(
      {"SQNR dB", of(part, [](const auto& a) { return format_number(a.sqnr_db, 2); }), 1});
}

std::vector<Figure> classification_columns(const EvaluationReport& report) {
  std::vector<Figure> columns;
  const auto accuracy = &ModelEvaluation::accuracy;
  if (report.labelled) {
    columns.push_back(
        {"top-1 %", of(accuracy, [](const auto& a) { return points(a.top1.value); })});
    columns.push_back(
        {"95 % interval",
         of(accuracy, [](const auto& a) { return percent_interval(a.top1.interval); }), 5});
    columns.push_back(
        {"top-5 %",
         of(accuracy, [](const auto& a) { return a.top5 ? points(a.top5->value) : std::string(); }),
         6});
  }
  add_agreement(report, columns);
  if (report.labelled && report.reference) {
    const auto agreement = &ModelEvaluation::agreement;
    columns.push_back(
        {"top-1 change",
         of(agreement,
            [](const auto& a) { return signed_points(a.difference.value().difference); }),
         6});
    columns.push_back(
        {"95 % interval",
         of(agreement,
            [](const auto& a) { return percent_interval(a.difference.value().interval); }),
         4});
  }
  return columns;
}

std::vector<Figure> perplexity_columns(const EvaluationReport& report) {
  const auto part = &ModelEvaluation::perplexity;
  std::vector<Figure> columns{
      {"perplexity", of(part, [](const auto& p) { return format_number(p.token, 4); })},
      {"95 % interval", of(part, [](const auto& p) { return number_interval(p.interval, 3); }), 4}};
  if (report.models.front().perplexity->word) {
    columns.push_back({"per word", of(part, [](const auto& p) {
                         return p.word ? format_number(*p.word, 2) : std::string();
                       })});
  }
  if (report.reference) {
    columns.push_back({"ratio", of(part, [](const auto& p) {
                         return p.ratio ? format_number(*p.ratio, 4) : std::string();
                       })});
    columns.push_back({"95 % interval",
                       of(part,
                          [](const auto& p) {
                            return p.ratio_interval ? number_interval(*p.ratio_interval, 4)
                                                    : std::string();
                          }),
                       4});
  }
  add_agreement(report, columns);
  return columns;
}

std::vector<Figure> embedding_columns(const EvaluationReport& report) {
  const auto part = &ModelEvaluation::embedding;
  std::vector<Figure> columns;
  if (report.models.front().embedding->pairs > 0) {
    columns.push_back({"Spearman", of(part, [](const auto& e) {
                         return e.spearman ? format_number(*e.spearman, 4) : std::string();
                       })});
    columns.push_back({"95 % interval",
                       of(part,
                          [](const auto& e) {
                            return e.spearman_interval ? number_interval(*e.spearman_interval, 4)
                                                       : std::string();
                          }),
                       4});
  }
  if (report.reference) {
    columns.push_back({"cosine", of(part, [](const auto& e) {
                         return e.cosine ? format_number(e.cosine->value, 4) : std::string();
                       })});
    columns.push_back({"worst", of(part, [](const auto& e) {
                         return e.min_cosine ? format_number(*e.min_cosine, 4) : std::string();
                       })});
    columns.push_back({"SQNR dB", of(part, [](const auto& e) {
                         return e.sqnr_db ? format_number(*e.sqnr_db, 2) : std::string();
                       })});
  }
  return columns;
}

std::vector<Figure> retrieval_columns(const EvaluationReport& report) {
  const auto part = &ModelEvaluation::retrieval;
  std::vector<Figure> columns;
  const auto& recalls = report.models.front().retrieval->recalls;
  for (std::size_t i = 0; i < recalls.size(); ++i) {
    const std::string title = recalls[i].direction + " @" + std::to_string(recalls[i].k) + " %";
    columns.push_back({title,
                       of(part, [i](const auto& r) { return points(r.recalls[i].share.value); }),
                       recalls[i].k > 1 ? 5 : 0});
    if (recalls[i].k > 1) continue;
    columns.push_back(
        {"95 % interval",
         of(part, [i](const auto& r) { return percent_interval(r.recalls[i].share.interval); }),
         4});
  }
  if (report.reference) {
    columns.push_back({"cosine", of(part, [](const auto& r) {
                         return r.cosine ? format_number(r.cosine->value, 4) : std::string();
                       })});
  }
  return columns;
}

std::vector<Figure> columns_of(const EvaluationReport& report) {
  switch (report.task) {
    case Task::kPerplexity:
      return perplexity_columns(report);
    case Task::kEmbedding:
      return embedding_columns(report);
    case Task::kRetrieval:
      return retrieval_columns(report);
    default:
      return classification_columns(report);
  }
}

}  // namespace

std::string gate_text(const GateResult& gate) {
  return gate.gate + " " + format_number(gate.limit, 4) + ": " + format_number(gate.value, 4) +
         (gate.passed ? ", met" : ", MISSED");
}

std::string evaluation_text(const EvaluationReport& report, const Layout& layout) {
  const std::vector<Figure> columns = columns_of(report);
  std::vector<Column> titles{{"model"}, {"size", Align::kRight, 2}};
  for (const auto& column : columns) titles.push_back({column.title, Align::kRight, column.rank});
  titles.push_back({"ms/sample", Align::kRight, 3});
  Table table(titles, layout);
  const auto add = [&](const ModelEvaluation& model) {
    std::vector<std::string> cells{
        with_form(std::filesystem::path(model.model).filename().string(), model.form),
        format_bytes(static_cast<double>(model.file_bytes))};
    for (const auto& column : columns) {
      const std::string cell = column.cell(model);
      cells.push_back(cell.empty() ? "-" : cell);
    }
    const double milliseconds = 1e3 * model.seconds / static_cast<double>(report.samples);
    cells.push_back(format_number(milliseconds, 2));
    table.add_row(std::move(cells));
  };
  if (report.reference) {
    add(*report.reference);
    table.add_rule();
  }
  for (const auto& model : report.models) add(model);
  return wrapped("protocol: " + report.protocol, layout.width) + "\n" + table.to_string();
}

}  // namespace repquant::cli
