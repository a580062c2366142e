#include <algorithm>

#include "report/documents.h"
#include "report/values.h"

namespace repquant {
namespace {

std::string name_of_row(const Json& row) {
  return model_name(text_at(row, "model"), text_at(row, "form"));
}

bool writes_text(const Json& result) { return text_at(result, "task") == "generate"; }

/// "a pass of 8 samples", or of a text "prefill", "decode".
std::string what_of(const Json& row) {
  const std::string size = number_text(row, "batch_size", 0);
  const std::string phase = text_at(row, "phase");
  if (!phase.empty()) return size == "1" ? phase : phase + " of " + size + " texts";
  return "a pass of " + size + (size == "1" ? " sample" : " samples");
}

std::string milliseconds_text(const Json& row, const char* path) {
  const auto seconds = number_at(row, path);
  return seconds ? format_number(1e3 * *seconds, 2) : "-";
}

/// Median latency of one thing that is timed: the interval drawn is from the fastest pass to the
/// 90th percentile.
ReportBars latency_bars(const Json& result, const std::string& what) {
  ReportBars bars{.caption = "median milliseconds of " + what +
                             "; the line is from the fastest pass to the 90th percentile",
                  .bars = {}};
  for (const Json& row : items_at(result, "rows")) {
    if (what_of(row) != what) continue;
    const double median = number_at(row, "seconds.median").value_or(0.0);
    bars.bars.push_back({.label = name_of_row(row),
                         .value = median,
                         .text = milliseconds_text(row, "seconds.median") + " ms, " +
                                 number_text(row, "speed_up.median", 2) + "x",
                         .level = kNoLevel,
                         .interval = std::pair(number_at(row, "seconds.minimum").value_or(median),
                                               number_at(row, "seconds.p90").value_or(median))});
  }
  return bars;
}

ReportTable latency_table(const Json& result) {
  const bool text = writes_text(result);
  ReportTable table{.columns = {{text ? "phase" : "batch", text ? Align::kLeft : Align::kRight},
                                {"model"},
                                {"median ms", Align::kRight},
                                {"p90", Align::kRight},
                                {"p99", Align::kRight},
                                {text ? "tokens/s" : "samples/s", Align::kRight},
                                {"peak memory", Align::kRight},
                                {"speed-up", Align::kRight},
                                {"95 % interval", Align::kRight}},
                    .rows = {}};
  for (const Json& row : items_at(result, "rows")) {
    table.rows.push_back(
        {text ? what_of(row) : number_text(row, "batch_size", 0), name_of_row(row),
         milliseconds_text(row, "seconds.median"), milliseconds_text(row, "seconds.p90"),
         milliseconds_text(row, "seconds.p99"),
         number_text(row, text ? "tokens_per_second" : "samples_per_second", 1),
         bytes_text(row, "peak_memory_bytes"), number_text(row, "speed_up.median", 2),
         interval_text(row, "speed_up.interval95", 1.0, 2)});
  }
  return table;
}

ReportTable models_table(const Json& result) {
  ReportTable table{.columns = {{"model"},
                                {"file", Align::kRight},
                                {"in memory", Align::kRight},
                                {"load", Align::kRight},
                                {"in integers", Align::kRight},
                                {"SQNR dB", Align::kRight},
                                {"agreement", Align::kRight}},
                    .rows = {}};
  for (const Json& model : items_at(result, "models")) {
    table.rows.push_back({model_name(text_at(model, "path"), text_at(model, "form")),
                          bytes_text(model, "file_bytes"), bytes_text(model, "resident_bytes"),
                          seconds_text(model, "load_seconds"), share_text(model, "integer_share"),
                          number_text(model, "sqnr_db", 1), share_text(model, "agreement")});
  }
  return table;
}

}  // namespace

Document benchmark_document(const Json& result) {
  Document document{.title = "Speed, memory and size", .headline = {}, .sections = {}};
  const Json* best = nullptr;
  std::vector<std::string> timed;
  for (const Json& row : items_at(result, "rows")) {
    if (std::find(timed.begin(), timed.end(), what_of(row)) == timed.end()) {
      timed.push_back(what_of(row));
    }
    const double speed_up = number_at(row, "speed_up.median").value_or(0.0);
    if (best == nullptr || speed_up > number_at(*best, "speed_up.median").value_or(0.0)) {
      best = &row;
    }
  }
  if (best != nullptr) {
    document.headline = {
        {number_text(*best, "speed_up.median", 2) + "x",
         "speed-up of " + name_of_row(*best) +
             (writes_text(result) ? " in " + what_of(*best)
                                  : " at batch " + number_text(*best, "batch_size", 0))},
        {interval_text(*best, "speed_up.interval95", 1.0, 2), "its 95 % interval"},
        {milliseconds_text(*best, "seconds.median") + " ms", "its median pass"}};
  }
  ReportSection latency{.title = "Latency", .blocks = {}};
  for (const std::string& what : timed) latency.blocks.push_back(latency_bars(result, what));
  latency.blocks.push_back(latency_table(result));
  document.sections.push_back(std::move(latency));
  document.sections.push_back({.title = "Models", .blocks = {models_table(result)}});
  const std::string level = text_at(result, "cpu_level");
  document.sections.push_back(
      {.title = "How each figure was measured",
       .blocks = {
           ReportText{text_at(result, "protocol") + "; " + number_text(result, "threads", 0) +
                      (number_at(result, "threads") == 1.0 ? " thread, " : " threads, ") +
                      number_text(result, "warmup", 0) + " passes of warm-up, " +
                      number_text(result, "rounds", 0) + " rounds" +
                      (level.empty() ? "" : ", fused operators on " + level) + "."},
           ReportText{"All models are timed interleaved: every round runs each of them once. The "
                      "speed-up is the median over the rounds of baseline over model, its interval "
                      "by order statistics. SQNR and agreement are against the first model."}}});
  return document;
}

}  // namespace repquant
