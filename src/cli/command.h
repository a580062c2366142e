// What every command has: common options, and what it gets when it runs.
#pragma once

#include <CLI/App.hpp>
#include <cstdint>
#include <functional>
#include <iosfwd>
#include <memory>
#include <string>
#include <vector>

#include "base/interrupt.h"
#include "base/log.h"
#include "base/overwrite.h"
#include "base/progress.h"
#include "cli/layout.h"

namespace repquant::cli {

struct CommonOptions {
  bool json = false;
  bool quiet = false;
  bool verbose = false;
  bool wide = false;
  std::string log_file;
  bool trust = false;
  int threads = 0;         // 0: as many as LibTorch takes
  std::string max_memory;  // as typed; empty: no limit
};

/// Where a command writes and what it asks while it runs.
struct Context {
  std::ostream* out = nullptr;
  Log log;
  Progress progress;
  InterruptToken interrupt;
  int threads = 1;
  bool trust = false;
  Layout layout;
  bool json = false;
  bool verbose = false;
  std::string log_file{};  // empty: none
};

struct Command {
  CLI::App* app = nullptr;
  std::shared_ptr<CommonOptions> common;
  std::string example{};  // one line for the help
  std::function<void(const Context&)> run;
};

/// Adds --json, --quiet, --verbose, --wide, --log-file, --threads, --max-memory and --trust.
std::shared_ptr<CommonOptions> add_common_options(CLI::App& app);

/// Opens the log and limits the memory, if so asked. Throws Error kFile, and as parse_bytes() and
/// limit_memory().
Context make_context(const CommonOptions& common, std::ostream& out,
                     const InterruptToken& interrupt);

/// Heading of the options that are settings of the recipe, in the help.
inline constexpr const char* kRecipeGroup = "Recipe";

/// True for options that resolve_recipe() reads as settings: all of that group but --recipe, which
/// names a file of them.
bool is_recipe_setting(const CLI::Option& option);

/// Gives every long option of `app` that takes a value the environment variable REPQUANT_<NAME>,
/// except for settings of the recipe, whose variables resolve_recipe() reads.
void add_environment_names(CLI::App& app);

/// Throws Error kUsage for an option that was given an empty value, on the command line or in its
/// environment variable: a gate must not vanish because a variable was not set.
void check_values(const CLI::App& app);

/// check_distinct() of these and the log.
void check_outputs(const Context& context, std::vector<NamedPath> outputs);

/// The environment variables so named.
std::vector<std::string> environment_names(const CLI::App& app);

Command add_quantize(CLI::App& parent);
Command add_evaluate(CLI::App& parent);
Command add_analyze(CLI::App& parent);
Command add_inspect(CLI::App& parent);
Command add_benchmark(CLI::App& parent);
Command add_run(CLI::App& parent);
Command add_recipe(CLI::App& parent);
Command add_verify(CLI::App& parent);
Command add_compare(CLI::App& parent);
Command add_doctor(CLI::App& parent);

/// An average number of bits: a finite number. Throws Error kUsage naming --target-bits.
double parse_target_bits(const std::string& text);

/// A number of bytes given as 512MB or 2GiB. Throws Error kUsage naming `option` for anything else.
std::int64_t parse_bytes(const std::string& text, const std::string& option);

/// A share given as 0.97 or 97%. Throws Error kUsage naming `option` for anything else.
double parse_share(const std::string& text, const std::string& option);

}  // namespace repquant::cli
