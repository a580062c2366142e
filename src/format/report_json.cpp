#include "format/report_json.h"

#include <limits>

#include "repquant/error.h"
#include "repquant/recipe.h"

namespace repquant {
namespace {

[[noreturn]] void wrong_key(const Json& json, const char* key, const std::string& source) {
  throw Error(ErrorKind::kFile,
              {.what = "the artifact's description is damaged",
               .where = source,
               .expected = std::string("a key \"") + key + "\" of the right type",
               .got = json.is_object() && json.contains(key) ? describe_json(json[key]) : "none",
               .hint = "quantize the model again"});
}

}  // namespace

template <typename T>
T read_key(const Json& json, const char* key, const std::string& source) {
  if (json.is_object() && json.contains(key)) {
    const Json& value = json[key];
    if constexpr (std::is_same_v<T, double>) {
      if (value.is_null()) return std::numeric_limits<double>::infinity();
      if (value.is_number()) return value.get<double>();
    } else if constexpr (std::is_same_v<T, bool>) {
      if (value.is_boolean()) return value.get<bool>();
    } else if constexpr (std::is_same_v<T, std::string>) {
      if (value.is_string()) return value.get<std::string>();
    } else if constexpr (std::is_same_v<T, Json>) {
      return value;
    } else {
      if (value.is_number_integer()) {
        const auto number = value.get<std::int64_t>();
        if (number >= std::numeric_limits<T>::min() && number <= std::numeric_limits<T>::max()) {
          return static_cast<T>(number);
        }
      }
    }
  }
  wrong_key(json, key, source);
}

template bool read_key<bool>(const Json&, const char*, const std::string&);
template int read_key<int>(const Json&, const char*, const std::string&);
template std::int64_t read_key<std::int64_t>(const Json&, const char*, const std::string&);
template double read_key<double>(const Json&, const char*, const std::string&);
template std::string read_key<std::string>(const Json&, const char*, const std::string&);
template Json read_key<Json>(const Json&, const char*, const std::string&);

Json result_object(const std::string& command) {
  Json json;
  json["schema_version"] = kResultSchemaVersion;
  json["command"] = command;
  return json;
}

Json coverage_json(const Coverage& coverage) {
  Json json;
  json["rows"] = Json::array();
  for (const auto& row : coverage.rows) {
    json["rows"].push_back({{"kind", row.kind},
                            {"weight_bits", row.weight_bits},
                            {"activation_bits", row.activation_bits},
                            {"sites", row.sites},
                            {"parameters", row.parameters},
                            {"macs", row.macs}});
  }
  json["not_quantized"] = Json::array();
  for (const auto& gap : coverage.gaps) {
    json["not_quantized"].push_back({{"path", gap.path},
                                     {"op", gap.op},
                                     {"reason", gap.reason},
                                     {"requested", gap.requested},
                                     {"parameters", gap.parameters},
                                     {"macs", gap.macs}});
  }
  json["parameters"] = coverage.parameters;
  json["quantized_parameters"] = coverage.quantized_parameters;
  json["parameter_share"] = coverage.parameter_share();
  json["macs"] = coverage.macs;
  json["quantized_macs"] = coverage.quantized_macs;
  json["mac_share"] = coverage.macs > 0 ? Json(coverage.mac_share()) : Json(nullptr);
  json["other_bytes"] = coverage.other_bytes;
  json["byte_share"] = coverage.byte_share();
  json["smallest_share"] = coverage.smallest_share();
  json["unread_parameters"] = coverage.unread_parameters;
  json["average_bits"] = coverage.average_bits;
  json["notes"] = coverage.notes;
  return json;
}

namespace {

int read_bits(const Json& json, const char* key, const std::string& source) {
  const int bits = read_key<int>(json, key, source);
  if (bits >= 0 && bits <= kWeightOnlyBits) return bits;
  throw Error(ErrorKind::kFile, {.what = "a number of bits out of range",
                                 .where = source + ": " + key,
                                 .expected = "0 to " + std::to_string(kWeightOnlyBits),
                                 .got = std::to_string(bits)});
}

}  // namespace

Coverage parse_coverage(const Json& json, const std::string& source) {
  Coverage coverage;
  for (const auto& row : read_key<Json>(json, "rows", source)) {
    coverage.rows.push_back({.kind = read_key<std::string>(row, "kind", source),
                             .weight_bits = read_bits(row, "weight_bits", source),
                             .activation_bits = read_bits(row, "activation_bits", source),
                             .sites = read_key<int>(row, "sites", source),
                             .parameters = read_key<std::int64_t>(row, "parameters", source),
                             .macs = read_key<std::int64_t>(row, "macs", source)});
  }
  for (const auto& gap : read_key<Json>(json, "not_quantized", source)) {
    coverage.gaps.push_back({.path = read_key<std::string>(gap, "path", source),
                             .op = read_key<std::string>(gap, "op", source),
                             .reason = read_key<std::string>(gap, "reason", source),
                             .requested = read_key<bool>(gap, "requested", source),
                             .parameters = read_key<std::int64_t>(gap, "parameters", source),
                             .macs = read_key<std::int64_t>(gap, "macs", source)});
  }
  coverage.parameters = read_key<std::int64_t>(json, "parameters", source);
  coverage.quantized_parameters = read_key<std::int64_t>(json, "quantized_parameters", source);
  coverage.macs = read_key<std::int64_t>(json, "macs", source);
  coverage.quantized_macs = read_key<std::int64_t>(json, "quantized_macs", source);
  coverage.average_bits = read_key<double>(json, "average_bits", source);
  // Since format 1.3.
  if (json.contains("other_bytes")) {
    coverage.other_bytes = read_key<std::int64_t>(json, "other_bytes", source);
  }
  if (json.contains("unread_parameters")) {
    coverage.unread_parameters = read_key<std::int64_t>(json, "unread_parameters", source);
  }
  if (json.contains("notes")) {
    const Json notes = read_key<Json>(json, "notes", source);
    if (!notes.is_array()) wrong_key(json, "notes", source);
    for (const Json& note : notes) {
      if (!note.is_string()) wrong_key(json, "notes", source);
      coverage.notes.push_back(note.get<std::string>());
    }
  }
  return coverage;
}

Json bit_allocation_json(const BitAllocationReport& bit_allocation) {
  Json json{{"target_bits", bit_allocation.target_bits},
            {"weight_bits", bit_allocation.weight_bits},
            {"activation_bits", bit_allocation.activation_bits},
            {"estimated_sqnr_db", bit_allocation.estimated_sqnr_db},
            {"estimated_kl", bit_allocation.estimated_kl}};
  if (bit_allocation.held_back) {
    json["held_back"] = {{"max_kl", bit_allocation.held_back->max_kl},
                         {"kl", bit_allocation.held_back->kl},
                         {"samples", bit_allocation.held_back->samples}};
  }
  return json;
}

Json judgement_json(const HeldBackReport& judgement) {
  Json json{{"samples", judgement.samples},
            {"sqnr_db", judgement.sqnr_db},
            {"floor_db", judgement.floor_db}};
  if (judgement.agreement) json["agreement"] = *judgement.agreement;
  if (judgement.fitted_agreement) json["fitted_agreement"] = *judgement.fitted_agreement;
  return json;
}

HeldBackReport parse_judgement(const Json& json, const std::string& source) {
  HeldBackReport judgement{.samples = read_key<int>(json, "samples", source),
                           .sqnr_db = read_key<double>(json, "sqnr_db", source),
                           .floor_db = read_key<double>(json, "floor_db", source)};
  const auto share = [&](const char* key) -> std::optional<double> {
    if (!json.contains(key)) return {};
    return read_key<double>(json, key, source);
  };
  judgement.agreement = share("agreement");
  judgement.fitted_agreement = share("fitted_agreement");
  return judgement;
}

Json site_json(const SiteReport& site, bool errors) {
  Json json{{"path", site.path},
            {"kind", site.kind},
            {"weight_bits", site.weight_bits},
            {"activation_bits", site.activation_bits},
            {"form", site.grids},
            {"parameters", site.parameters},
            {"macs", site.macs}};
  if (errors) {
    json["side_columns"] = site.side_columns;
    json["own_sqnr_db"] = site.own_sqnr_db;
    json["output_sqnr_db"] = site.output_sqnr_db;
    json["rounding"] = site.rounding;
  }
  json["note"] = site.note;
  return json;
}

Json sites_json(const std::vector<SiteReport>& sites, bool errors) {
  Json json = Json::array();
  for (const auto& site : sites) json.push_back(site_json(site, errors));
  return json;
}

SiteReport parse_site(const Json& json, const std::string& source) {
  SiteReport site;
  site.path = read_key<std::string>(json, "path", source);
  site.kind = read_key<std::string>(json, "kind", source);
  site.weight_bits = read_bits(json, "weight_bits", source);
  site.activation_bits = read_bits(json, "activation_bits", source);
  site.grids = read_key<std::string>(json, "form", source);
  site.parameters = read_key<std::int64_t>(json, "parameters", source);
  site.macs = read_key<std::int64_t>(json, "macs", source);
  site.side_columns = read_key<int>(json, "side_columns", source);
  site.own_sqnr_db = read_key<double>(json, "own_sqnr_db", source);
  site.output_sqnr_db = read_key<double>(json, "output_sqnr_db", source);
  site.rounding = read_key<std::string>(json, "rounding", source);
  site.note = read_key<std::string>(json, "note", source);
  return site;
}

}  // namespace repquant
