// repquant evaluate: accuracy, perplexity, embeddings or retrieval, and agreement with a reference.
#include "repquant/evaluate.h"

#include <cmath>
#include <limits>
#include <map>
#include <ostream>

#include "base/limits.h"
#include "base/parse_number.h"
#include "cli/command.h"
#include "cli/form_options.h"
#include "cli/lost_results.h"
#include "cli/observer.h"
#include "cli/render.h"
#include "cli/report_option.h"
#include "cli/sample_options.h"
#include "evaluate/gates.h"
#include "evaluate/result_json.h"
#include "repquant/error.h"

namespace repquant::cli {
namespace {

constexpr std::int64_t kMostSamples = std::numeric_limits<std::int32_t>::max();

struct EvaluateOptions {
  EvaluationOptions evaluation;
  std::string task = "classification";
  std::map<std::string_view, std::string> gates;  // limits as typed; empty: no gate
};

double parse_limit(const GateRule& rule, const std::string& text) {
  const std::string option = "--" + std::string(rule.name);
  if (rule.share) return parse_share(text, option);
  const double value = parse_number<double>(text).value_or(std::nan(""));
  const std::string expected = limit_problem(rule, value);
  if (expected.empty()) return value;
  throw Error(ErrorKind::kUsage,
              {.what = "not a limit", .where = option, .expected = expected, .got = text});
}

std::vector<Gate> parse_gates(const EvaluateOptions& options) {
  std::vector<Gate> gates;
  for (const GateRule& rule : gate_rules()) {
    const auto typed = options.gates.find(rule.name);
    if (typed->second.empty()) continue;  // not given: empty values are refused
    gates.push_back({&rule, parse_limit(rule, typed->second)});
  }
  return gates;
}

/// The gates on one model in one form.
struct Judgement {
  std::string model;
  Form form = Form::kFloat;
  std::vector<GateResult> gates;
};

Json judged_json(const EvaluationReport& report, const std::vector<Judgement>& judgements) {
  Json json = evaluation_json(report);
  json["gates"] = Json::array();
  for (const auto& judgement : judgements) {
    for (const auto& gate : judgement.gates) {
      json["gates"].push_back(gate_json(gate));
      json["gates"].back()["model"] = judgement.model;
      json["gates"].back()["form"] = name_of(judgement.form);
    }
  }
  return json;
}

void write_result(const Context& context, const EvaluationReport& report,
                  const std::vector<Judgement>& judgements) {
  if (context.json) {
    write_json(*context.out, judged_json(report, judgements));
    return;
  }
  *context.out << evaluation_text(report, context.layout);
  for (const auto& judgement : judgements) {
    for (const auto& gate : judgement.gates) {
      *context.out << "gate " << gate_text(gate) << " ("
                   << with_form(judgement.model, judgement.form) << ")\n";
    }
  }
}

/// Speed for an artifact, else an artifact.
std::string next_step(const EvaluationReport& report, const Layout& layout) {
  std::vector<std::string> words{"benchmark"};
  if (report.reference) words.push_back(report.reference->model);
  for (const auto& model : report.models) {
    if (model.form == Form::kFloat) continue;
    if (words.back() != model.model) words.push_back(model.model);
  }
  if (words.size() == (report.reference ? 2U : 1U)) {
    return next_command(
        {"quantize", report.models.front().model, "--bits", "w8a8", "--calib", "DATA"}, layout);
  }
  words.insert(words.end(), {"--form", "portable,fused", "--data", "DATA"});
  return next_command(words, layout);
}

void run_evaluate(const Context& context, EvaluateOptions options, const std::string& page) {
  check_outputs(context, {{"report", page}});
  check_report(page);
  const std::vector<Gate> gates = parse_gates(options);
  options.evaluation.task = parse_task(options.task, "--task");
  options.evaluation.threads = context.threads;
  options.evaluation.trust = context.trust;
  if (options.evaluation.labels == kNoLabels) {
    options.evaluation.labels.clear();
    options.evaluation.use_labels = false;
  }
  for (const Gate& gate : gates) options.evaluation.required.emplace_back(gate.rule->metric);
  const EvaluationReport report = evaluate(options.evaluation, observer_of(context));
  context.progress.finish();
  for (const auto& warning : lost_results(report)) context.log.warning(warning);
  std::vector<Judgement> judgements;
  std::string missed;
  for (const auto& model : report.models) {
    judgements.push_back({model.model, model.form, judge(metrics_of(model), gates)});
    for (const auto& gate : judgements.back().gates) {
      if (gate.passed) continue;
      missed +=
          (missed.empty() ? "" : "; ") + gate.gate + " of " + with_form(model.model, model.form);
    }
  }
  write_result(context, report, judgements);
  write_report(page, judged_json(report, judgements));
  if (!context.json) *context.out << next_step(report, context.layout);
  if (!missed.empty()) {
    throw Error(ErrorKind::kGate, {.what = "a gate was missed", .where = missed});
  }
}

}  // namespace

Command add_evaluate(CLI::App& parent) {
  Command command;
  command.app = parent.add_subcommand(
      "evaluate",
      "Measure accuracy, perplexity or retrieval, and agreement with a reference, on data");
  auto options = std::make_shared<EvaluateOptions>();
  CLI::App& app = *command.app;
  EvaluationOptions& evaluation = options->evaluation;
  app.add_option("MODEL", evaluation.models, "TorchScript files, quantized or not")
      ->required()
      ->expected(1, -1);
  app.add_option("--task", options->task,
                 "classification, perplexity (language model), embedding (pooled sentences) or "
                 "retrieval (two towers, zero-shot)")
      ->type_name("TASK")
      ->capture_default_str();
  app.add_option("--data", evaluation.data,
                 "image folder, .npy, .npz, saved tensors, folder of those, list file, or token "
                 "ids with --window")
      ->required()
      ->type_name("DATA");
  app.add_option("--reference", evaluation.reference, "floating-point model to compare with")
      ->type_name("FILE");
  app.add_option("--labels", evaluation.labels,
                 "labels: one index a line, in the order of the samples (files sorted by path), or "
                 "path<TAB>index; or the word none, for agreement alone")
      ->type_name("FILE");
  app.add_option("--classes", evaluation.classes,
                 "maps class folders to logits: index<TAB>folder<TAB>name a line")
      ->type_name("FILE");
  app.add_option("--words", evaluation.words,
                 "perplexity of a word, too: their number, or the text to count them in")
      ->type_name("N|FILE");
  app.add_option("--texts", evaluation.texts,
                 "retrieval: .npz of the text inputs, one row for each class or image")
      ->type_name("FILE");
  app.add_option("--outputs", evaluation.outputs,
                 "output tensors to look at, from 0 (retrieval: IMAGE,TEXT)")
      ->type_name("POSITIONS")
      ->delimiter(',');
  app.add_option("--preprocess", evaluation.preset,
                 "preprocessing preset (default: that of the first model)")
      ->type_name("FILE");
  app.add_option("--samples", evaluation.samples, "evaluate on a seeded draw of N (default: all)")
      ->type_name("N")
      ->check(CLI::Range(std::int64_t{1}, kMostSamples));
  app.add_option("--seed", evaluation.seed, "seed of the draw")
      ->type_name("N")
      ->check(CLI::Range(std::int64_t{0}, kMostSamples));
  app.add_option("--batch-size", evaluation.batch_size, "samples at a time")
      ->type_name("N")
      ->check(CLI::Range(1, kMostBatchSize))
      ->capture_default_str();
  add_token_options(app, evaluation.tokens);
  const std::string group = "Gates (exit code 1 when missed)";
  for (const GateRule& rule : gate_rules()) {
    app.add_option("--" + std::string(rule.name), options->gates[rule.name], std::string(rule.help))
        ->group(group)
        ->type_name(rule.share ? "SHARE" : "NUMBER");
  }
  const auto forms = add_form_options(app);
  const auto page = add_report_option(app);
  command.example = "repquant evaluate vit.w8a8.pt --reference vit.pt --data images/";
  command.common = add_common_options(app);
  command.run = [options, forms, page](const Context& context) {
    options->evaluation.forms = forms_of(*forms);
    run_evaluate(context, *options, *page);
  };
  return command;
}

}  // namespace repquant::cli
