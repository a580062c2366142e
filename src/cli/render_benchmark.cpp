// Results of benchmark.
#include <filesystem>

#include "base/text_table.h"
#include "cli/render.h"

namespace repquant::cli {
namespace {

std::string milliseconds(double seconds) { return format_number(1e3 * seconds, 2); }

std::string name_of(const BenchmarkModel& model) {
  return with_form(std::filesystem::path(model.path).filename().string(), model.form);
}

}  // namespace

std::string benchmark_text(const BenchmarkReport& report, const Layout& layout) {
  const bool generate = report.task == BenchmarkTask::kGenerate;
  std::vector<Column> columns{{"model"},
                              {"file", Align::kRight},
                              {"in memory", Align::kRight, 3},
                              {"load s", Align::kRight, 2},
                              {"in integers", Align::kRight},
                              {"SQNR dB", Align::kRight},
                              {"agreement", Align::kRight}};
  if (generate) columns.push_back({"same text", Align::kRight});
  Table models(columns, layout);
  for (const auto& model : report.models) {
    std::vector<std::string> row{name_of(model),
                                 format_bytes(static_cast<double>(model.file_bytes)),
                                 format_bytes(static_cast<double>(model.resident_bytes)),
                                 format_number(model.load_seconds, 2),
                                 model.integer_share ? format_percent(*model.integer_share) : "-",
                                 format_number(model.sqnr_db, 1),
                                 model.agreement ? format_percent(model.agreement->value) : "-"};
    if (generate) {
      row.push_back(std::to_string(model.same_tokens.value_or(0)) + " of " +
                    std::to_string(report.tokens));
    }
    models.add_row(std::move(row));
  }
  Table rows({{generate ? "phase" : "batch", generate ? Align::kLeft : Align::kRight},
              {"model"},
              {"median ms", Align::kRight},
              {"p90", Align::kRight, 4},
              {"p99", Align::kRight, 5},
              {generate ? "tokens/s" : "samples/s", Align::kRight, generate ? 0 : 3},
              {"peak memory", Align::kRight, 2},
              {"speed-up", Align::kRight},
              {"95 % interval", Align::kRight, 1}},
             layout);
  for (std::size_t i = 0; i < report.rows.size(); ++i) {
    const auto& row = report.rows[i];
    if (i > 0 && row.model == 0) rows.add_rule();
    const std::string size = std::to_string(row.batch_size);
    const std::string phase = row.batch_size == 1 ? row.phase : row.phase + " x " + size;
    rows.add_row({generate ? phase : size, name_of(report.models[row.model]),
                  milliseconds(row.latency.median), milliseconds(row.latency.p90),
                  milliseconds(row.latency.p99), format_number(row.throughput, 1),
                  format_bytes(static_cast<double>(row.peak_memory_bytes)),
                  format_number(row.speed_up.median, 2) + "x",
                  format_number(row.speed_up.interval.lower, 2) + " - " +
                      format_number(row.speed_up.interval.upper, 2)});
  }
  const std::string protocol =
      "protocol: " + report.protocol + "; " + counted(report.threads, "thread") + ", " +
      counted(report.warmup, "pass", "passes") + " of warm-up, " + counted(report.rounds, "round") +
      ", models interleaved" +
      (report.cpu_level.empty() ? "" : "; fused operators on " + report.cpu_level);
  return wrapped(protocol, layout.width) + "\n" + models.to_string() + "\n" + rows.to_string();
}

Json benchmark_json(const BenchmarkReport& report) {
  Json json = result_object("benchmark");
  json["protocol"] = report.protocol;
  json["threads"] = report.threads;
  json["warmup"] = report.warmup;
  json["rounds"] = report.rounds;
  const bool generate = report.task == BenchmarkTask::kGenerate;
  json["task"] = generate ? "generate" : "forward";
  json["cpu_level"] = report.cpu_level.empty() ? Json(nullptr) : Json(report.cpu_level);
  json["models"] = Json::array();
  for (const auto& model : report.models) {
    json["models"].push_back(
        {{"path", model.path},
         {"form", name_of(model.form)},
         {"artifact", model.artifact},
         {"file_bytes", model.file_bytes},
         {"load_seconds", model.load_seconds},
         {"resident_bytes", model.resident_bytes},
         {"integer_share", model.integer_share ? Json(*model.integer_share) : Json(nullptr)},
         {"sqnr_db", model.sqnr_db},
         {"recorded_sqnr_db",
          model.recorded_sqnr_db ? Json(*model.recorded_sqnr_db) : Json(nullptr)},
         {"agreement", model.agreement ? Json(model.agreement->value) : Json(nullptr)}});
    if (!generate) continue;
    json["models"].back()["keeps_past"] = model.keeps_past;
    json["models"].back()["same_tokens"] = model.same_tokens.value_or(0);
  }
  json["rows"] = Json::array();
  for (const auto& row : report.rows) {
    json["rows"].push_back(
        {{"model", report.models[row.model].path},
         {"form", name_of(report.models[row.model].form)},
         {"batch_size", row.batch_size},
         {"seconds",
          {{"median", row.latency.median},
           {"p90", row.latency.p90},
           {"p99", row.latency.p99},
           {"minimum", row.latency.minimum}}},
         {generate ? "tokens_per_second" : "samples_per_second", row.throughput},
         {"peak_memory_bytes", row.peak_memory_bytes},
         {"speed_up",
          {{"median", row.speed_up.median},
           {"interval95", {row.speed_up.interval.lower, row.speed_up.interval.upper}}}}});
    if (generate) json["rows"].back()["phase"] = row.phase;
  }
  return json;
}

}  // namespace repquant::cli
