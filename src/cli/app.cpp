#include "cli/app.h"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <ostream>
#include <sstream>
#include <string_view>
#include <vector>

#include "base/pattern.h"
#include "base/text_table.h"
#include "cli/command.h"
#include "cli/help.h"
#include "cli/option_names.h"
#include "cli/render.h"
#include "recipe/resolve.h"
#include "repquant/error.h"
#include "repquant/load.h"
#include "repquant/version.h"
#include "tensor/current_error.h"

namespace repquant::cli {
namespace {

constexpr const char* kFooter = R"(Exit codes:
  0    done
  1    a gate was missed
  2    usage, recipe or option error
  4    unsupported model or operator
  5    input or output file error
  6    memory or resource limit
  7    numerical failure
  70   internal error
  130  interrupted

The result goes to stdout, log and progress to stderr. Options count in this order: command line,
REPQUANT_* environment variables, --recipe file, ready recipe, default.)";

constexpr const char* kCommandFooter =
    "\n\nAn option --NAME also takes its value from the variable REPQUANT_NAME. Exit codes: see "
    "repquant --help.";

/// The command that was chosen, or nullptr.
const Command* chosen_command(const std::vector<Command>& commands) {
  for (const Command& command : commands) {
    if (command.app->parsed()) return &command;
  }
  return nullptr;
}

/// The names that `word` may stand for: those that it begins, else the nearest one.
std::string guess(const std::string& word, const std::vector<std::string>& known) {
  std::string longer;
  for (const auto& name : known) {
    if (name.rfind(word, 0) == 0) longer += (longer.empty() ? "" : " or ") + name;
  }
  if (!longer.empty() && word.find_first_not_of('-') != std::string::npos) {
    return "did you mean " + longer + "?";
  }
  const std::vector<std::string> nearest = nearest_names(word, known, 1);
  return nearest.empty() ? "" : "did you mean " + nearest.front() + "?";
}

/// What a misspelt command or option was meant to be, as a question; empty if nothing is near.
std::string meant_word(int argc, const char* const* argv, const CLI::App& app) {
  std::vector<std::string> commands;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    commands.push_back(command->get_name());
  }
  std::vector<std::string> options;
  for (const CLI::Option* option : app.get_options()) {
    for (const auto& name : option->get_lnames()) options.push_back("--" + name);
  }
  for (int i = 1; i < argc; ++i) {
    const std::string word = std::string(argv[i]).substr(0, std::string(argv[i]).find('='));
    const bool option = word.rfind("--", 0) == 0;
    const bool command = i == 1 && !commands.empty();
    if (!option && !command) continue;
    if (word == "--device") return "--device is gone: repquant computes on the CPU";
    const auto& known = option ? options : commands;
    if (std::find(known.begin(), known.end(), word) != known.end()) continue;
    std::string hint = guess(word, known);
    if (!hint.empty()) return hint;
  }
  return "";
}

/// The command that is asked for and that there is not; empty if CLI11 does not mind the first
/// word.
std::string unknown_command(const std::vector<std::string>& words, const CLI::App& app) {
  const CLI::App* parent = &app;
  for (const std::string& word : words) {
    const auto all = parent->get_subcommands([](const CLI::App*) { return true; });
    if (all.empty() || word.empty() || word.front() == '-') return "";
    const auto found = std::find_if(all.begin(), all.end(), [&](const CLI::App* command) {
      return command->get_name() == word;
    });
    if (found == all.end()) return word;
    parent = *found;
  }
  return "";
}

/// What CLI11 says of the arguments, in the parts that other errors have. `command` is what was
/// parsed: an option that was not typed has its value from the environment.
ErrorParts parts_of(const CLI::ParseError& error, const std::vector<std::string>& words,
                    const CLI::App& command) {
  const std::string what = error.what();
  const std::size_t colon = what.find(": ");
  if (colon == std::string::npos || what.rfind("--", 0) != 0 || what.find(' ') < colon) {
    return {.what = what};
  }
  std::string where = what.substr(0, colon);
  const bool typed = std::any_of(words.begin(), words.end(), [&](const std::string& word) {
    return word == where || word.starts_with(where + "=");
  });
  const CLI::Option* option = typed ? nullptr : command.get_option_no_throw(where);
  if (option != nullptr && !option->get_envname().empty()) where = option->get_envname();
  return {.what = what.substr(colon + 2), .where = where};
}

/// True if the arguments ask for JSON, whether or not the rest of them makes sense.
bool wants_json(int argc, const char* const* argv) {
  return std::any_of(argv + 1, argv + argc,
                     [](const char* word) { return std::string_view(word) == "--json"; });
}

/// `repquant help quantize` as `repquant quantize --help`, `repquant` alone as `repquant --help`.
std::vector<std::string> arguments_of(int argc, const char* const* argv) {
  std::vector<std::string> arguments(argv + 1, argv + argc);
  const bool help = !arguments.empty() && arguments.front() == "help";
  if (help) arguments.erase(arguments.begin());
  if (help || arguments.empty()) arguments.emplace_back("--help");
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
  return arguments;
}

/// "; did you mean REPQUANT_THREADS?", if one of `known` is near.
std::string meant_variable(const std::string& name, const std::vector<std::string>& known) {
  constexpr std::string_view kPrefix = "REPQUANT_";  // which all have, so that it is nothing near
  std::vector<std::string> words;
  for (const std::string& variable : known) words.push_back(variable.substr(kPrefix.size()));
  const std::vector<std::string> nearest = nearest_names(name.substr(kPrefix.size()), words, 1);
  if (nearest.empty()) return "";
  return "; did you mean " + std::string(kPrefix) + nearest.front() + "?";
}

void warn_unused_environment(const std::vector<Command>& commands, const Log& log) {
  std::vector<std::string> known{"REPQUANT_CPU_LEVEL", "REPQUANT_LIBRARY"};  // the last of Python
  for (const Command& command : commands) {
    for (auto& name : environment_names(*command.app)) known.push_back(std::move(name));
  }
  for (const auto& name : unused_environment(repquant_environment(), known)) {
    log.warning("environment variable " + name + " names no setting and is ignored" +
                meant_variable(name, known));
  }
}

/// run() without what becomes of errors.
void run_command(int argc, const char* const* argv, std::ostream& out,
                 const InterruptToken& interrupt) {
  CLI::App app("Quantizes trained transformers from TorchScript to integers (RepQuant).",
               "repquant");
  app.set_version_flag("--version", std::string("repquant ") + kVersion);
  app.footer(kFooter);
  app.formatter(help_formatter(terminal_width()));
  app.require_subcommand(1);
  const std::vector<Command> commands{
      add_quantize(app), add_evaluate(app), add_inspect(app), add_benchmark(app), add_analyze(app),
      add_run(app),      add_verify(app),   add_compare(app), add_recipe(app),    add_doctor(app)};
  for (const Command& command : commands) {
    add_environment_names(*command.app);
    command.app->footer("Example:\n  " + command.example + kCommandFooter);
  }
  try {
    app.parse(arguments_of(argc, argv));
  } catch (const CLI::Success& e) {  // --help and --version
    app.exit(e, out, out);
    return;
  } catch (const CLI::ParseError& e) {
    const auto parsed = app.get_subcommands();
    const std::string meant = meant_word(argc, argv, parsed.empty() ? app : *parsed.front());
    const std::vector<std::string> words(argv + 1, argv + argc);
    ErrorParts parts = parts_of(e, words, parsed.empty() ? app : *parsed.front());
    const std::string unknown = unknown_command(words, app);
    if (!unknown.empty()) parts = {.what = "no such command", .got = unknown};
    parts.hint = (meant.empty() ? "" : meant + " ") + std::string("see repquant ") +
                 (parsed.empty() ? "" : parsed.front()->get_name() + " ") + "--help";
    throw Error(ErrorKind::kUsage, std::move(parts));
  }
  const Command& command = *chosen_command(commands);  // CLI11 has made sure that there is one
  check_values(*command.app);
  const Context context = make_context(*command.common, out, interrupt);
  warn_unused_environment(commands, context.log);
  try {
    cpu_level();  // a level that there is not fails now, not after long work
    command.run(context);
  } catch (...) {
    context.log.status("");  // the error starts on a line of its own
    throw;
  }
  context.progress.finish();
  context.log.status("");
}

}  // namespace

void write_error(int argc, const char* const* argv, std::ostream& out, const Error& error) {
  if (wants_json(argc, argv)) write_json(out, error_json(with_option_names(error)));
}

int run(int argc, const char* const* argv, std::ostream& out, const InterruptToken& interrupt) {
  // JSON escapes by itself.
  const auto shown = [&](const std::string& text) {
    return wants_json(argc, argv) ? text : without_control(text);
  };
  std::ostringstream result;  // so that under --json there is one object, of a result or an error
  try {
    run_command(argc, argv, result, interrupt);
  } catch (...) {
    if (result.str().empty()) write_error(argc, argv, result, current_error());
    out << shown(result.str()) << std::flush;
    throw;
  }
  out << shown(result.str()) << std::flush;
  if (!out) {
    throw Error(ErrorKind::kFile, {.what = "the result cannot be written to standard output"});
  }
  return 0;
}

}  // namespace repquant::cli
