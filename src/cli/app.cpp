#include "cli/app.h"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <ostream>
#include <vector>

#include "base/pattern.h"
#include "cli/command.h"
#include "format/validate.h"
#include "recipe/resolve.h"
#include "repquant/error.h"
#include "repquant/version.h"

namespace repquant::cli {
namespace {

constexpr const char* kFooter = R"(Exit codes:
  0    done
  1    a gate was missed or a comparison failed
  2    usage, recipe or option error
  3    device not available
  4    unsupported model or operator
  5    input or output file error
  6    memory or resource limit
  7    numerical failure
  70   internal error
  130  interrupted

The result goes to stdout, log and progress to stderr. Options count in this order: command line,
REPQUANT_* environment variables, --recipe file, ready recipe, default.)";

/// The command that was chosen; CLI11 has made sure that there is exactly one.
const Command& chosen_command(const std::vector<Command>& commands) {
  for (const Command& command : commands) {
    if (command.app->parsed()) return command;
  }
  throw Error(ErrorKind::kUsage, {.what = "no command given", .hint = "repquant --help"});
}

/// What a misspelt command or option was meant to be, as a question; empty if nothing is near.
std::string meant_word(int argc, const char* const* argv, const CLI::App& app) {
  std::vector<std::string> known;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    known.push_back(command->get_name());
  }
  for (const CLI::Option* option : app.get_options()) {
    for (const auto& name : option->get_lnames()) known.push_back("--" + name);
  }
  for (int i = 1; i < argc; ++i) {
    const std::string word = std::string(argv[i]).substr(0, std::string(argv[i]).find('='));
    const bool option = word.rfind("--", 0) == 0;
    const bool command = i == 1 && !app.get_subcommands({}).empty();
    if (!option && !command) continue;
    if (std::find(known.begin(), known.end(), word) != known.end()) continue;
    std::string hint = nearest_hint(word, known);
    if (!hint.empty()) return hint;
  }
  return "";
}

void warn_unused_environment(const std::vector<Command>& commands, const Log& log) {
  std::vector<std::string> known;
  for (const Command& command : commands) {
    for (auto& name : environment_names(*command.app)) known.push_back(std::move(name));
  }
  for (const auto& name : unused_environment(repquant_environment(), known)) {
    log.debug("environment variable " + name + " names no setting and is ignored");
  }
}

}  // namespace

int run(int argc, const char* const* argv, std::ostream& out, const InterruptToken& interrupt) {
  CLI::App app("Quantizes trained transformers from TorchScript to integers (RepQuant).",
               "repquant");
  app.set_version_flag("--version", std::string("repquant ") + kVersion);
  app.footer(kFooter);
  app.require_subcommand(1);
  const std::vector<Command> commands{add_quantize(app),  add_evaluate(app), add_inspect(app),
                                      add_benchmark(app), add_analyze(app),  add_run(app),
                                      add_doctor(app)};
  for (const Command& command : commands) {
    add_environment_names(*command.app);
    command.app->footer(std::string("Exit codes: see repquant --help."));
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {  // --help and --version
    return app.exit(e, out, out);
  } catch (const CLI::ParseError& e) {
    const auto parsed = app.get_subcommands();
    const std::string meant = meant_word(argc, argv, parsed.empty() ? app : *parsed.front());
    throw Error(ErrorKind::kUsage,
                {.what = e.what(),
                 .hint = (meant.empty() ? "" : meant + "; ") + std::string("repquant ") +
                         (parsed.empty() ? "" : parsed.front()->get_name() + " ") + "--help"});
  }
  const Command& command = chosen_command(commands);
  const TrustCode trust(command.common->trust);
  const Context context = make_context(*command.common, out, interrupt);
  warn_unused_environment(commands, context.log);
  try {
    command.run(context);
  } catch (...) {
    context.log.status("");  // the error starts on a line of its own
    throw;
  }
  context.progress.finish();
  context.log.status("");
  out.flush();
  if (!out) {
    throw Error(ErrorKind::kFile, {.what = "the result cannot be written to standard output"});
  }
  return 0;
}

}  // namespace repquant::cli
