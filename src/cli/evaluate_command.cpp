// repquant evaluate: accuracy, and agreement with a reference, on data.
#include "repquant/evaluate.h"

#include <ostream>

#include "base/text_table.h"
#include "cli/command.h"
#include "cli/render.h"
#include "repquant/error.h"

namespace repquant::cli {
namespace {

struct GateOptions {
  std::string min_top1;
  std::string min_agreement;
  double max_kl = 0.0;
  bool has_max_kl = false;
};

struct EvaluateOptions {
  EvaluationOptions evaluation;
  GateOptions gates;
};

/// One gate on one model.
struct GateResult {
  std::string gate;
  std::string model;
  double limit = 0.0;
  double value = 0.0;
  bool passed = false;
};

struct Gates {
  std::optional<double> min_top1;
  std::optional<double> min_agreement;
  std::optional<double> max_kl;
};

Gates parse_gates(const GateOptions& options, bool has_reference) {
  Gates gates;
  if (!options.min_top1.empty()) gates.min_top1 = parse_share(options.min_top1, "--min-top1");
  if (!options.min_agreement.empty()) {
    gates.min_agreement = parse_share(options.min_agreement, "--min-agreement");
  }
  if (options.has_max_kl) gates.max_kl = options.max_kl;
  if ((gates.min_agreement || gates.max_kl) && !has_reference) {
    throw Error(ErrorKind::kUsage, {.what = "a gate on agreement needs a model to agree with",
                                    .where = gates.min_agreement ? "--min-agreement" : "--max-kl",
                                    .hint = "give the floating-point model as --reference FILE"});
  }
  return gates;
}

std::vector<GateResult> judge(const EvaluationReport& report, const Gates& gates) {
  if (gates.min_top1 && !report.labelled) {
    throw Error(ErrorKind::kUsage,
                {.what = "a gate on accuracy needs labels",
                 .where = "--min-top1",
                 .hint = "give class folders, an array named labels, or --labels FILE"});
  }
  std::vector<GateResult> results;
  for (const auto& model : report.models) {
    const auto at_least = [&](const char* gate, double limit, double value) {
      results.push_back({gate, model.model, limit, value, value >= limit});
    };
    if (gates.min_top1) at_least("min-top1", *gates.min_top1, model.accuracy->top1.value);
    if (gates.min_agreement) {
      at_least("min-agreement", *gates.min_agreement, model.agreement->top1.value);
    }
    if (gates.max_kl) {
      const double kl = model.agreement->mean_kl;
      results.push_back({"max-kl", model.model, *gates.max_kl, kl, kl <= *gates.max_kl});
    }
  }
  return results;
}

void write_report(const Context& context, const EvaluationReport& report,
                  const std::vector<GateResult>& gates) {
  if (context.json) {
    Json json = evaluation_json(report);
    json["gates"] = Json::array();
    for (const auto& gate : gates) {
      json["gates"].push_back({{"gate", gate.gate},
                               {"model", gate.model},
                               {"limit", gate.limit},
                               {"value", gate.value},
                               {"passed", gate.passed}});
    }
    write_json(*context.out, json);
    return;
  }
  *context.out << evaluation_text(report);
  for (const auto& gate : gates) {
    *context.out << "gate " << gate.gate << " " << format_number(gate.limit, 4) << ": "
                 << format_number(gate.value, 4) << (gate.passed ? ", met" : ", MISSED") << " ("
                 << gate.model << ")\n";
  }
}

void run_evaluate(const Context& context, EvaluateOptions options) {
  const Gates gates = parse_gates(options.gates, !options.evaluation.reference.empty());
  options.evaluation.threads = context.threads;
  std::int64_t reported = 0;
  EvaluationHooks hooks;
  hooks.on_progress = [&](std::int64_t done, std::int64_t samples) {
    if (reported == 0) context.progress.begin("evaluate", static_cast<std::size_t>(samples));
    context.progress.advance(static_cast<std::size_t>(done - reported));
    reported = done;
  };
  hooks.check_interrupt = [&] { context.interrupt.throw_if_interrupted(); };
  hooks.warn = [&](const std::string& text) { context.log.warning(text); };
  const EvaluationReport report = evaluate(options.evaluation, hooks);
  context.progress.finish();
  const std::vector<GateResult> results = judge(report, gates);
  write_report(context, report, results);
  std::string missed;
  for (const auto& gate : results) {
    if (!gate.passed) missed += (missed.empty() ? "" : "; ") + gate.gate + " of " + gate.model;
  }
  if (!missed.empty()) {
    throw Error(ErrorKind::kGate, {.what = "a gate was missed", .where = missed});
  }
}

}  // namespace

Command add_evaluate(CLI::App& parent) {
  Command command;
  command.app = parent.add_subcommand("evaluate",
                                      "Measure accuracy, and agreement with a reference, on data");
  auto options = std::make_shared<EvaluateOptions>();
  CLI::App& app = *command.app;
  EvaluationOptions& evaluation = options->evaluation;
  app.add_option("MODEL", evaluation.models, "TorchScript files, quantized or not")
      ->required()
      ->expected(1, -1);
  app.add_option("--data", evaluation.data,
                 "image folder, .npy, .npz, saved tensors, folder of those, or list file")
      ->required()
      ->type_name("DATA");
  app.add_option("--reference", evaluation.reference, "floating-point model to compare with")
      ->type_name("FILE");
  app.add_option("--labels", evaluation.labels, "labels: one index a line, or path<TAB>index")
      ->type_name("FILE");
  app.add_option("--classes", evaluation.classes,
                 "maps class folders to logits: index<TAB>folder<TAB>name a line")
      ->type_name("FILE");
  app.add_option("--preprocess", evaluation.preset,
                 "preprocessing preset (default: that of the first model)")
      ->type_name("FILE");
  app.add_option("--samples", evaluation.samples, "evaluate on a seeded draw of N (default: all)")
      ->type_name("N")
      ->check(CLI::PositiveNumber);
  app.add_option("--seed", evaluation.seed, "seed of the draw")->type_name("N");
  app.add_option("--batch-size", evaluation.batch_size, "samples at a time")
      ->type_name("N")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  const std::string group = "Gates (exit code 1 when missed)";
  app.add_option("--min-top1", options->gates.min_top1, "smallest top-1 accuracy: 0.80 or 80%")
      ->group(group)
      ->type_name("SHARE");
  app.add_option("--min-agreement", options->gates.min_agreement,
                 "smallest top-1 agreement with the reference")
      ->group(group)
      ->type_name("SHARE");
  CLI::Option* max_kl =
      app.add_option("--max-kl", options->gates.max_kl, "largest mean KL divergence, nats")
          ->group(group)
          ->type_name("NATS")
          ->check(CLI::NonNegativeNumber);
  command.common = add_common_options(app);
  command.run = [options, max_kl](const Context& context) {
    options->gates.has_max_kl = max_kl->count() > 0;
    run_evaluate(context, *options);
  };
  return command;
}

}  // namespace repquant::cli
