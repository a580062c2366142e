#include "cli/command.h"

#include <ATen/Parallel.h>
#include <torch/csrc/jit/runtime/print_handler.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <map>

#include "base/limits.h"
#include "base/memory.h"
#include "base/parse_number.h"
#include "base/text_table.h"
#include "repquant/error.h"

namespace repquant::cli {
std::shared_ptr<CommonOptions> add_common_options(CLI::App& app) {
  auto common = std::make_shared<CommonOptions>();
  const std::string group = "Common options";
  app.add_flag("--json", common->json, "write the result as one JSON object")->group(group);
  auto* quiet = app.add_flag("-q,--quiet", common->quiet, "no progress, only errors on stderr");
  auto* verbose = app.add_flag("-v,--verbose", common->verbose, "more detail");
  quiet->group(group)->excludes(verbose);
  verbose->group(group);
  app.add_flag("--wide", common->wide, "tables with all columns, however wide")->group(group);
  app.add_option("--log-file", common->log_file, "write the whole log to FILE")
      ->group(group)
      ->type_name("FILE");
  app.add_option("--threads", common->threads, "threads to use (default: one per core)")
      ->group(group)
      ->type_name("N")
      ->check(CLI::Range(1, kMostThreads));
  app.add_option("--max-memory", common->max_memory,
                 "most memory to allocate, such as 2GB or 512MiB; what does not fit fails")
      ->group(group)
      ->type_name("SIZE");
  app.add_flag("--trust", common->trust,
               "allow the code of models to use operators that reach files and processes")
      ->group(group);
  return common;
}

Context make_context(const CommonOptions& common, std::ostream& out,
                     const InterruptToken& interrupt) {
  // What a model prints is no part of the result.
  torch::jit::setPrintHandler([](const std::string& text) { std::cerr << without_control(text); });
  if (!common.max_memory.empty()) limit_memory(parse_bytes(common.max_memory, "--max-memory"));
  Context context;
  context.out = &out;
  context.interrupt = interrupt;
  context.json = common.json;
  context.verbose = common.verbose;
  context.trust = common.trust;
  context.log_file = common.log_file;
  context.layout = {.width = common.wide ? std::string::npos : terminal_width(),
                    .verbose = common.verbose};
  context.threads = common.threads > 0 ? common.threads : at::get_num_threads();
  LogOptions log;
  if (common.quiet) log.level = LogLevel::kError;
  if (common.verbose) log.level = LogLevel::kDebug;
  if (!common.log_file.empty()) log.file = common.log_file;
  context.log = Log(log);
  context.progress = Progress(context.log);
  return context;
}

bool is_recipe_setting(const CLI::Option& option) {
  return option.get_group() == kRecipeGroup && !option.check_lname("recipe");
}

void add_environment_names(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) {
    if (option->get_lnames().empty() || option->get_expected_min() == 0) continue;
    std::string variable = "REPQUANT_";
    for (const char c : option->get_lnames().front()) {
      variable += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    }
    if (!is_recipe_setting(*option)) option->envname(variable);  // settings have their own
  }
}

void check_values(const CLI::App& app) {
  for (const CLI::Option* option : app.get_options()) {
    const std::string& variable = option->get_envname();
    const char* value = variable.empty() ? nullptr : std::getenv(variable.c_str());
    const bool unset = option->count() == 0 && value != nullptr && *value == '\0';
    const auto& results = option->results();
    const bool empty = option->get_expected_max() > 0 &&
                       std::find(results.begin(), results.end(), "") != results.end();
    if (!unset && !empty) continue;
    throw Error(ErrorKind::kUsage,
                {.what = "an option with an empty value",
                 .where = unset ? variable : option->get_name(),
                 .hint = unset ? "unset the variable, or give it a value" : "leave it out"});
  }
}

void check_outputs(const Context& context, std::vector<NamedPath> outputs) {
  outputs.push_back({"log", context.log_file});
  check_distinct(outputs);
}

std::vector<std::string> environment_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    if (!option->get_envname().empty()) names.push_back(option->get_envname());
  }
  return names;
}

double parse_target_bits(const std::string& text) {
  const auto value = parse_number<double>(text);
  if (!value || !std::isfinite(*value)) {
    throw Error(ErrorKind::kUsage, {.what = "not a number of bits",
                                    .where = "--target-bits",
                                    .expected = "a number up to 8, such as 4.5",
                                    .got = text});
  }
  return *value;
}

std::int64_t parse_bytes(const std::string& text, const std::string& option) {
  // "2G" counts as "2GB": sizes that the program prints are decimal, too.
  static const std::map<std::string, double> kUnits{{"", 1.0},
                                                    {"B", 1.0},
                                                    {"K", 1e3},
                                                    {"KB", 1e3},
                                                    {"M", 1e6},
                                                    {"MB", 1e6},
                                                    {"G", 1e9},
                                                    {"GB", 1e9},
                                                    {"T", 1e12},
                                                    {"TB", 1e12},
                                                    {"KiB", 1024.0},
                                                    {"MiB", 1048576.0},
                                                    {"GiB", 1073741824.0},
                                                    {"TiB", 1099511627776.0}};
  double value = 0.0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  const auto unit = kUnits.find(std::string(end, text.data() + text.size()));
  constexpr double kMost = 1e18;
  const double bytes = unit == kUnits.end() ? -1.0 : value * unit->second;
  if (code == std::errc{} && bytes >= 1.0 && bytes <= kMost) {
    return static_cast<std::int64_t>(bytes);
  }
  throw Error(ErrorKind::kUsage, {.what = "not a number of bytes",
                                  .where = option,
                                  .expected = "a number with a unit: 2GB, 1.5GiB, 512MB",
                                  .got = text});
}

double parse_share(const std::string& text, const std::string& option) {
  const bool percent = !text.empty() && text.back() == '%';
  const std::string digits = percent ? text.substr(0, text.size() - 1) : text;
  double value = parse_number<double>(digits).value_or(-1.0);
  if (percent) value /= 100.0;
  if (!(value >= 0.0 && value <= 1.0)) {
    throw Error(ErrorKind::kUsage,
                {.what = "not a share",
                 .where = option,
                 .expected = "a number from 0 to 1, or a percentage: 0.97 or 97%",
                 .got = text});
  }
  return value;
}

}  // namespace repquant::cli
