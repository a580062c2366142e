#include "format/description.h"

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "archive/zip_reader.h"
#include "base/json_text.h"
#include "format/names.h"
#include "format/report_json.h"
#include "repquant/error.h"

namespace repquant {
namespace {

// A row is about 600 bytes: room for models of twenty-five thousand sites. Parsed it takes some
// twenty times as much memory.
constexpr JsonLimits kLimits{.bytes = std::size_t{16} << 20U, .depth = 16};

Json site_row(const ArtifactSite& row) {
  Json json = site_json(row.site, true);
  json["module"] = row.module;
  json["input_module"] = row.input_module;
  json["side_module"] = row.side_module;
  json["scale_module"] = row.scale_module;
  json["input"] = name_of(row.input);
  json["output"] = name_of(row.output);
  return json;
}

ArtifactSite parse_row(const Json& json, const std::string& source) {
  const bool scaled = json.is_object() && json.contains("scale_module");  // since format 1.2
  const auto text = [&](const char* key) { return read_key<std::string>(json, key, source); };
  ArtifactSite row;
  row.site = parse_site(json, source);
  row.module = text("module");
  row.input_module = text("input_module");
  row.side_module = text("side_module");
  if (scaled) row.scale_module = text("scale_module");
  row.input = parse_site_input(text("input"), source);
  row.output = parse_site_output(text("output"), source);
  return row;
}

Json parse_text(const std::string& text, const std::string& source) {
  try {
    return parse_json(text, source, kLimits);
  } catch (const Error& e) {  // the file is at fault, not what the user typed
    throw Error(ErrorKind::kFile, e.parts());
  }
}

BitAllocationReport parse_bit_allocation(const Json& json, const std::string& source) {
  BitAllocationReport bit_allocation{
      .target_bits = read_key<double>(json, "target_bits", source),
      .weight_bits = read_key<double>(json, "weight_bits", source),
      .activation_bits = read_key<double>(json, "activation_bits", source),
      .estimated_sqnr_db = read_key<double>(json, "estimated_sqnr_db", source),
      .estimated_kl = read_key<double>(json, "estimated_kl", source)};
  if (json.contains("held_back")) {
    const Json held_back = read_key<Json>(json, "held_back", source);
    bit_allocation.held_back = {.max_kl = read_key<double>(held_back, "max_kl", source),
                                .kl = read_key<double>(held_back, "kl", source),
                                .samples = read_key<int>(held_back, "samples", source)};
  }
  return bit_allocation;
}

void check_version(const ArtifactInfo& info, const std::string& source) {
  if (info.major_version == kArtifactMajorVersion) return;
  throw Error(ErrorKind::kUnsupported,
              {.what = "the artifact has another format version",
               .where = source,
               .expected = "version " + std::to_string(kArtifactMajorVersion),
               .got = "version " + std::to_string(info.major_version),
               .hint = "use the release of repquant that wrote it, or quantize the model again"});
}

/// The archive's entry with the description; none: it is no artifact.
std::optional<std::string> description_entry(const ZipReader& archive) {
  const std::string ending = std::string("/extra/") + kArtifactFile;
  for (const auto& name : archive.names()) {
    const std::size_t slash = name.find('/');
    if (slash != std::string::npos && name.substr(slash) == ending) return name;
  }
  return std::nullopt;
}

}  // namespace

Json written_json(const ArtifactInfo& info) {
  return {{"repquant", info.tool_version}, {"libtorch", info.libtorch_version}};
}

Json results_json(const ArtifactInfo& info) {
  Json json;
  json["calibration"] = {{"sha256", info.calibration_hash},
                         {"samples", info.samples},
                         {"synthetic", info.synthetic},
                         {"protocol", info.protocol}};
  json["recipe_name"] = info.recipe_name;
  json["recipe"] = parse_json(info.recipe, "recipe");
  json["coverage"] = coverage_json(info.coverage);
  if (info.bit_allocation) json["mixed"] = bit_allocation_json(*info.bit_allocation);
  json["checks"] = {{"fold_deviation", info.fold_deviation},
                    {"output_sqnr_db", info.output_sqnr_db},
                    {"lowered_sqnr_db", info.lowered_sqnr_db},
                    {"changed_codes", info.changed_codes}};
  if (info.judgement) json["held_back"] = judgement_json(*info.judgement);
  if (!info.portable.empty()) json["portable"] = info.portable;
  return json;
}

std::string artifact_to_json(const ArtifactInfo& info) {
  Json json;
  json["format"] = {{"major", info.major_version}, {"minor", info.minor_version}};
  json["written_by"] = written_json(info);
  json["model"] = {{"sha256", info.model_hash}, {"inputs", info.inputs}};
  json.update(results_json(info));
  json["sites"] = Json::array();
  for (const auto& row : info.sites) json["sites"].push_back(site_row(row));
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

ArtifactInfo artifact_from_json(const std::string& text, const std::string& source) {
  const Json json = parse_text(text, source);
  ArtifactInfo info;
  const Json format = read_key<Json>(json, "format", source);
  info.major_version = read_key<int>(format, "major", source);
  info.minor_version = read_key<int>(format, "minor", source);
  check_version(info, source);
  const Json written = read_key<Json>(json, "written_by", source);
  info.tool_version = read_key<std::string>(written, "repquant", source);
  info.libtorch_version = read_key<std::string>(written, "libtorch", source);
  const Json model = read_key<Json>(json, "model", source);
  info.model_hash = read_key<std::string>(model, "sha256", source);
  for (const auto& name : read_key<Json>(model, "inputs", source)) {
    info.inputs.push_back(name.is_string() ? name.get<std::string>() : describe_json(name));
  }
  const Json calibration = read_key<Json>(json, "calibration", source);
  info.calibration_hash = read_key<std::string>(calibration, "sha256", source);
  info.samples = read_key<int>(calibration, "samples", source);
  info.synthetic = read_key<bool>(calibration, "synthetic", source);
  info.protocol = read_key<std::string>(calibration, "protocol", source);
  info.recipe_name = read_key<std::string>(json, "recipe_name", source);
  info.recipe = read_key<Json>(json, "recipe", source).dump(2);
  info.coverage = parse_coverage(read_key<Json>(json, "coverage", source), source);
  if (json.contains("mixed")) {
    info.bit_allocation = parse_bit_allocation(read_key<Json>(json, "mixed", source), source);
  }
  const Json checks = read_key<Json>(json, "checks", source);
  info.fold_deviation = read_key<double>(checks, "fold_deviation", source);
  info.output_sqnr_db = read_key<double>(checks, "output_sqnr_db", source);
  info.lowered_sqnr_db = read_key<double>(checks, "lowered_sqnr_db", source);
  info.changed_codes = read_key<double>(checks, "changed_codes", source);
  if (json.contains("held_back")) {  // since format 1.3
    info.judgement = parse_judgement(read_key<Json>(json, "held_back", source), source);
  }
  if (json.contains("portable")) {  // since format 1.3
    const Json portable = read_key<Json>(json, "portable", source);
    for (const auto& entry : portable.items()) {
      const std::string& module = entry.key();
      info.portable[module] = read_key<std::string>(portable, module.c_str(), source);
    }
  }
  for (const auto& row : read_key<Json>(json, "sites", source)) {
    info.sites.push_back(parse_row(row, source));
  }
  return info;
}

ArtifactInfo read_artifact(const std::string& path) {
  const ZipReader archive(path);
  const auto entry = description_entry(archive);
  if (!entry) {
    throw Error(ErrorKind::kUnsupported,
                {.what = "the file is not an artifact of repquant",
                 .where = path,
                 .expected = std::string("an archive with ") + kArtifactFile,
                 .hint = "make one with repquant quantize"});
  }
  const std::vector<std::uint8_t> bytes = archive.read(*entry, kLimits.bytes);
  return artifact_from_json({bytes.begin(), bytes.end()}, path + "#" + kArtifactFile);
}

bool is_artifact(const std::string& path) {
  try {
    return description_entry(ZipReader(path)).has_value();
  } catch (const Error&) {
    return false;  // whoever loads it says what is wrong
  }
}

}  // namespace repquant
