#include "report/values.h"

#include "base/text_table.h"

#include <array>
#include <cmath>
#include <filesystem>

namespace repquant {

const Json& value_at(const Json& json, std::string_view path) {
  static const Json nothing;
  const Json* value = &json;
  while (!path.empty()) {
    const std::size_t dot = path.find('.');
    const std::string key(path.substr(0, dot));
    if (!value->is_object() || !value->contains(key)) return nothing;
    value = &(*value)[key];
    path = dot == path.npos ? std::string_view() : path.substr(dot + 1);
  }
  return *value;
}

std::optional<double> number_at(const Json& json, std::string_view path) {
  const Json& value = value_at(json, path);
  if (!value.is_number() || !std::isfinite(value.get<double>())) return std::nullopt;
  return value.get<double>();
}

std::string text_at(const Json& json, std::string_view path) {
  const Json& value = value_at(json, path);
  return value.is_string() ? value.get<std::string>() : std::string();
}

const std::vector<Json>& items_at(const Json& json, std::string_view path) {
  static const std::vector<Json> nothing;
  const Json& value = value_at(json, path);
  return value.is_array() ? value.get_ref<const Json::array_t&>() : nothing;
}

std::string number_text(const Json& json, std::string_view path, int decimals) {
  const auto value = number_at(json, path);
  return value ? format_number(*value, decimals) : "-";
}

std::string counted_text(const Json& json, std::string_view path, std::string_view one) {
  return counted(static_cast<std::int64_t>(number_at(json, path).value_or(0.0)), one);
}

std::string share_text(const Json& json, std::string_view path, int decimals) {
  const auto value = number_at(json, path);
  return value ? format_percent(*value, decimals) : "-";
}

std::optional<std::pair<double, double>> interval_at(const Json& json, std::string_view path) {
  const auto& ends = items_at(json, path);
  if (ends.size() != 2 || !ends[0].is_number() || !ends[1].is_number()) return std::nullopt;
  return std::pair(ends[0].get<double>(), ends[1].get<double>());
}

std::string interval_text(const Json& json, std::string_view path, double factor, int decimals) {
  const auto interval = interval_at(json, path);
  if (!interval) return "-";
  return format_number(factor * interval->first, decimals) + " - " +
         format_number(factor * interval->second, decimals);
}

std::string bytes_text(const Json& json, std::string_view path) {
  const auto value = number_at(json, path);
  return value && *value > 0 ? format_bytes(*value) : "-";
}

std::string seconds_text(const Json& json, std::string_view path) {
  const auto value = number_at(json, path);
  return value ? format_duration(*value) : "-";
}

std::string amount_text(const Json& json, std::string_view path) {
  const auto amount = number_at(json, path);
  return amount && *amount > 0 ? format_count(*amount) : "-";
}

std::string bits_of_site(const Json& site) {
  const double weight = number_at(site, "weight_bits").value_or(0);
  const double activation = number_at(site, "activation_bits").value_or(0);
  if (weight <= 0 && activation <= 0) return "-";
  return (weight > 0 ? "w" + format_number(weight, 0) : std::string()) + "a" +
         format_number(activation, 0);
}

std::string model_name(const std::string& path, const std::string& form) {
  return std::filesystem::path(path).filename().string() + (form == "fused" ? " (fused)" : "");
}

ReportSection recipe_section(const Json& result) {
  ReportSection section{.title = "Recipe " + text_at(result, "recipe"), .blocks = {}};
  const Json& settings = value_at(result, "settings");
  if (!settings.is_null()) {
    section.blocks.push_back(
        ReportCode{settings.dump(2, ' ', false, Json::error_handler_t::replace)});
  }
  return section;
}

ReportSection coverage_section(const Json& coverage) {
  ReportSection section{.title = "Coverage", .blocks = {}};
  section.blocks.push_back(
      ReportText{share_text(coverage, "parameter_share") + " of the parameters, " +
                 share_text(coverage, "mac_share") + " of the multiply-accumulates and " +
                 share_text(coverage, "byte_share") + " of the bytes are quantized; " +
                 number_text(coverage, "average_bits", 2) + " bits a parameter on average."});
  ReportTable rows{.columns = {{"kind"},
                               {"bits"},
                               {"sites", Align::kRight},
                               {"parameters", Align::kRight},
                               {"multiply-adds", Align::kRight}},
                   .rows = {}};
  for (const Json& row : items_at(coverage, "rows")) {
    rows.rows.push_back({text_at(row, "kind"), bits_of_site(row), number_text(row, "sites", 0),
                         amount_text(row, "parameters"), amount_text(row, "macs")});
  }
  section.blocks.push_back(std::move(rows));
  ReportTable gaps{.columns = {{"left in floating point"},
                               {"operator"},
                               {"multiply-adds", Align::kRight},
                               {"reason"}},
                   .rows = {}};
  for (const Json& gap : items_at(coverage, "not_quantized")) {
    gaps.rows.push_back({text_at(gap, "path"), text_at(gap, "op"), amount_text(gap, "macs"),
                         text_at(gap, "reason")});
  }
  if (!gaps.rows.empty()) section.blocks.push_back(std::move(gaps));
  return section;
}

}  // namespace repquant
