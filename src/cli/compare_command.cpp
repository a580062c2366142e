// repquant compare: two artifacts, or two results, side by side.
#include <cmath>
#include <filesystem>
#include <ostream>

#include "base/text_table.h"
#include "cli/command.h"
#include "cli/render.h"
#include "report/compare.h"
#include "report/values.h"
#include "repquant/artifact.h"
#include "repquant/error.h"

namespace repquant::cli {
namespace {

constexpr JsonLimits kResultLimits{.bytes = std::size_t{64} << 20U, .depth = 32};

/// What is known of an artifact without loading it.
Json artifact_json(const std::string& path) {
  const ArtifactInfo info = read_artifact(path);
  ArtifactReport report{.info = info, .runtime = {}};
  Json json = artifact_report_json(path, report);
  json.erase("model");    // the file's name
  json.erase("runtime");  // it was not loaded
  Json recipe = json["recipe"];
  json.erase("recipe");
  json["file_bytes"] = std::filesystem::file_size(path);
  json["recipe"] = std::move(recipe);
  return json;
}

Json load_result(const std::string& path) {
  if (is_artifact(path)) return artifact_json(path);
  Json json;
  try {
    json = read_json(path, kResultLimits);
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kUsage) throw;
    ErrorParts parts = e.parts();
    parts.hint = "give two artifacts, or two files that --json has written";
    throw Error(ErrorKind::kFile, std::move(parts));
  }
  if (!json.is_object() || !json.contains("command")) {
    throw Error(ErrorKind::kFile,
                {.what = "the file is no result of repquant",
                 .where = path,
                 .expected = "an artifact, or what a command writes with --json"});
  }
  return json;
}

std::string cell_of(const Json& value) {
  if (value.is_null()) return "-";
  if (value.is_number_float()) return format_significant(value.get<double>(), 5);
  if (value.is_string()) return value.get<std::string>();
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

/// Bits of each kind of sites are in the table of sites, too.
bool is_shown(const ComparedValue& value, const Layout& layout) {
  if (layout.verbose) return true;
  return value.differs() && !value.name.starts_with("coverage/rows/");
}

/// A value in at most `most` columns, its end left out.
std::string short_cell(const Json& value, std::size_t most) {
  const std::string cell = cell_of(value);
  return cell.size() <= most ? cell : cell.substr(0, most - 3) + "...";
}

/// The columns that a value of one side gets beside the names and the changes.
std::size_t room_for_values(const Comparison& comparison, const Layout& layout) {
  constexpr std::size_t kChange = 12, kGaps = 6, kLeast = 10;
  if (layout.width == std::string::npos) return layout.width;
  std::size_t name = 0;
  for (const ComparedValue& value : comparison.values) {
    if (is_shown(value, layout)) name = std::max(name, value.name.size());
  }
  const std::size_t others = name + kChange + kGaps;
  return std::max(kLeast, layout.width > others ? (layout.width - others) / 2 : 0);
}

std::string change_of(const Json& left, const Json& right) {
  const double change = difference_of(left, right);
  if (!std::isfinite(change)) return "";
  return (change > 0 ? "+" : "") + format_significant(change, 4);
}

std::string decibels_of(const Json& site, const char* key) {
  if (!site.is_object() || !site.contains(key) || !site[key].is_number()) return "-";
  return format_number(site[key].get<double>(), 1);
}

std::string sites_table(const Comparison& comparison, const Layout& layout) {
  const bool analysis = !comparison.sites.empty() &&
                        value_at(comparison.sites.front().left, "local_sqnr_db").is_number();
  const char* own = analysis ? "local_sqnr_db" : "own_sqnr_db";
  Table table({{"site"},
               {"bits A"},
               {"bits B"},
               {"own dB A", Align::kRight},
               {"B", Align::kRight},
               {"own change", Align::kRight},
               {"total dB A", Align::kRight, 2},
               {"B", Align::kRight, 2},
               {"total change", Align::kRight, 1}},
              layout);
  const char* all = analysis ? "cumulative_sqnr_db" : "output_sqnr_db";
  for (const ComparedSite& site : comparison.sites) {
    table.add_row({site.path, bits_of_site(site.left), bits_of_site(site.right),
                   decibels_of(site.left, own), decibels_of(site.right, own),
                   change_of(value_at(site.left, own), value_at(site.right, own)),
                   decibels_of(site.left, all), decibels_of(site.right, all),
                   change_of(value_at(site.left, all), value_at(site.right, all))});
  }
  return table.to_string();
}

std::string comparison_text(const Comparison& comparison, const Layout& layout) {
  Table table({{"value"}, {"A"}, {"B"}, {"change", Align::kRight}}, layout);
  const std::size_t room = room_for_values(comparison, layout);
  std::size_t same = 0, different = 0;
  for (const ComparedValue& value : comparison.values) {
    if (!value.differs()) ++same;
    if (!is_shown(value, layout)) continue;
    ++different;
    table.add_row({value.name, short_cell(value.left, room), short_cell(value.right, room),
                   change_of(value.left, value.right)});
  }
  std::string text = different > 0 ? table.to_string() : std::string();
  if (!comparison.sites.empty()) text += "\n" + sites_table(comparison, layout);
  if (same > 0 && !layout.verbose) {
    text += counted(same, "value is", "values are") + " the same on both sides" +
            (different > 0 ? "; -v shows them" : "") + "\n";
  }
  return text;
}

Json comparison_json(const std::string& left, const std::string& right,
                     const Comparison& comparison) {
  Json json = result_object("compare");
  json["a"] = left;
  json["b"] = right;
  json["values"] = Json::array();
  for (const ComparedValue& value : comparison.values) {
    const double change = difference_of(value.left, value.right);
    json["values"].push_back({{"name", value.name},
                              {"a", value.left},
                              {"b", value.right},
                              {"change", std::isfinite(change) ? Json(change) : Json(nullptr)},
                              {"differs", value.differs()}});
  }
  json["sites"] = Json::array();
  for (const ComparedSite& site : comparison.sites) {
    json["sites"].push_back({{"path", site.path}, {"a", site.left}, {"b", site.right}});
  }
  return json;
}

}  // namespace

Command add_compare(CLI::App& parent) {
  struct Files {
    std::string left, right;
  };
  Command command;
  command.app = parent.add_subcommand(
      "compare", "Show two artifacts, or two results of one command, side by side");
  auto files = std::make_shared<Files>();
  command.app->add_option("A", files->left, "artifact, or a file that --json has written")
      ->required();
  command.app->add_option("B", files->right, "another one of the same kind")->required();
  command.example = "repquant compare vit.w8a8.pt vit.w4a8.pt";
  command.common = add_common_options(*command.app);
  command.run = [files](const Context& context) {
    const Comparison comparison =
        compare_results(load_result(files->left), load_result(files->right));
    if (context.json) {
      write_json(*context.out, comparison_json(files->left, files->right, comparison));
    } else {
      *context.out << comparison_text(comparison, context.layout);
    }
  };
  return command;
}

}  // namespace repquant::cli
