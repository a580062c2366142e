// repquant run: a plan of models and bit widths for CI, with one summary.
#include <ostream>

#include "base/atomic_file.h"
#include "base/overwrite.h"
#include "cli/command.h"
#include "cli/observer.h"
#include "cli/option_names.h"
#include "cli/render.h"
#include "cli/report_option.h"
#include "nightly/run_nightly.h"
#include "repquant/error.h"
#include "runtime/keep_memory.h"

namespace repquant::cli {
namespace {

struct RunOptions {
  std::string plan;
  std::string output;
  std::string markdown;
  std::string junit;
  std::shared_ptr<std::string> report;
  bool force = false;
  bool dry_run = false;
};

void run_plan(const Context& context, const RunOptions& options) {
  const NightlyPlan plan = read_plan(options.plan, options.output, context.threads, context.trust);
  // A summary that cannot be written should not cost a night's work first.
  if (!options.markdown.empty()) check_own_output(options.markdown, kMarkdownBeginning);
  if (!options.junit.empty()) check_own_output(options.junit, kJunitBeginning);
  std::vector<NamedPath> written;
  for (const NightlyRow& row : plan.rows) {
    written.push_back({"artifact of a row", row.quantize.output});
    written.push_back({"result of a row", row.result_file});
  }
  written.insert(written.end(), {{"summary as Markdown", options.markdown},
                                 {"summary as JUnit XML", options.junit},
                                 {"report", *options.report}});
  check_outputs(context, std::move(written));
  check_report(*options.report);
  keep_freed_memory();
  const Observer observer = observer_of(context);
  NightlyReport report = options.dry_run ? look_at_nightly(plan, options.force, observer)
                                         : run_nightly(plan, options.force, observer);
  context.progress.finish();
  for (RowResult& row : report.rows) row.error = with_option_names(row.error);
  if (!options.markdown.empty()) write_file(options.markdown, nightly_markdown(report), true);
  if (!options.junit.empty()) write_file(options.junit, nightly_junit(report), true);
  write_report(*options.report, nightly_json(report));
  if (context.json) {
    write_json(*context.out, nightly_json(report));
  } else {
    *context.out << nightly_text(report, context.layout);
    if (report.failed > 0) {
      *context.out << wrapped(
                          "next: mend what failed and give the same command; rows that are "
                          "done are not run again",
                          context.layout.width, 6)
                   << "\n";
    }
  }
  if (report.missed + report.failed == 0) return;
  const std::string counts = std::to_string(report.missed) + " missed, " +
                             std::to_string(report.failed) + " failed, of " +
                             std::to_string(report.rows.size());
  for (const RowResult& row : report.rows) {  // no gate: the code is that of the first error
    if (row.status != RowStatus::kFailed) continue;
    throw Error(row.error_kind, {.what = "rows of the plan could not run",
                                 .where = "first " + row.model + " " + row.label,
                                 .got = counts});
  }
  throw Error(ErrorKind::kGate, {.what = "rows of the plan missed a gate", .got = counts});
}

}  // namespace

Command add_run(CLI::App& parent) {
  Command command;
  command.app = parent.add_subcommand(
      "run", "Quantize and evaluate a plan of models and bit widths, with gates, for CI");
  CLI::App& app = *command.app;
  auto options = std::make_shared<RunOptions>();
  app.add_option("PLAN", options->plan, "plan (JSON), see docs/nightly.md")->required();
  app.add_option("-o,--output", options->output,
                 "folder of artifacts and results (default: as the plan says)")
      ->type_name("DIR");
  app.add_option("--markdown", options->markdown, "write the summary as Markdown, too")
      ->type_name("FILE");
  app.add_option("--junit", options->junit, "write the summary as JUnit XML, too")
      ->type_name("FILE");
  app.add_flag("--force", options->force, "replace artifacts that no earlier run has made");
  app.add_flag("--dry-run", options->dry_run,
               "check the plan and its files, and say what would be run");
  options->report = add_report_option(app);
  command.example = "repquant run plan.json --markdown summary.md --junit junit.xml";
  command.common = add_common_options(app);
  command.run = [options](const Context& context) { run_plan(context, *options); };
  return command;
}

}  // namespace repquant::cli
