// repquant benchmark: speed and memory of models side by side.
#include "repquant/benchmark.h"

#include <ostream>

#include "base/limits.h"
#include "cli/command.h"
#include "cli/form_options.h"
#include "cli/observer.h"
#include "cli/render.h"
#include "cli/report_option.h"
#include "cli/sample_options.h"

namespace repquant::cli {
namespace {

void run_benchmark(const Context& context, BenchmarkOptions options, const std::string& page) {
  check_outputs(context, {{"report", page}});
  check_report(page);
  options.threads = context.threads;
  options.trust = context.trust;
  const BenchmarkReport report = benchmark(options, observer_of(context));
  context.progress.finish();
  write_report(page, benchmark_json(report));
  if (context.json) {
    write_json(*context.out, benchmark_json(report));
  } else {
    *context.out << benchmark_text(report, context.layout);
  }
}

}  // namespace

Command add_benchmark(CLI::App& parent) {
  Command command;
  command.app =
      parent.add_subcommand("benchmark", "Measure latency, memory and size of models side by side");
  auto options = std::make_shared<BenchmarkOptions>();
  auto samples = std::make_shared<SampleOptions>();
  CLI::App& app = *command.app;
  app.add_option("MODEL", options->models,
                 "TorchScript files; the first one is what the others are compared with")
      ->required()
      ->expected(1, -1);
  auto task = std::make_shared<std::string>("forward");
  CLI::Option* tasks =
      app.add_option("--task", *task,
                     "what is timed: forward passes, or writing text with generate")
          ->type_name("NAME")
          ->check(CLI::IsMember({"forward", "generate"}))
          ->capture_default_str();
  constexpr std::int64_t kLongest = std::int64_t{1} << 20;
  app.add_option("--prompt", options->prompt, "generate: tokens of the prompt")
      ->type_name("N")
      ->check(CLI::Range(std::int64_t{2}, kLongest))
      ->needs(tasks)
      ->capture_default_str();
  app.add_option("--tokens", options->tokens, "generate: tokens written behind it")
      ->type_name("N")
      ->check(CLI::Range(std::int64_t{1}, kLongest))
      ->needs(tasks)
      ->capture_default_str();
  app.add_option("--data", samples->data,
                 "data to run on (default: random numbers of the preset's shape)")
      ->type_name("DATA");
  app.add_option("--input-shape", samples->input_shape,
                 "shape of one random sample, such as 3,224,224")
      ->type_name("SIZES")
      ->delimiter(',');
  app.add_option("--preprocess", options->preset,
                 "preprocessing preset (default: that of the first model)")
      ->type_name("FILE");
  app.add_option("--batch-sizes,--batch-size", options->batch_sizes,
                 "samples in a pass, such as 1,8,16")
      ->type_name("SIZES")
      ->delimiter(',')
      ->check(CLI::Range(1, kMostBatchSize))
      ->capture_default_str();
  app.add_option("--warmup", options->warmup, "passes of each model that are not timed")
      ->type_name("N")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--rounds", options->rounds, "timed passes of each model, interleaved")
      ->type_name("N")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  const auto forms = add_form_options(app);
  const auto page = add_report_option(app);
  command.example = "repquant benchmark vit.pt vit.w8a8.pt --form fused --data images/";
  command.common = add_common_options(app);
  command.run = [options, samples, task, forms, page](const Context& context) {
    if (*task == "generate") options->task = BenchmarkTask::kGenerate;
    options->data = samples_of(*samples).value_or(Synthetic{});
    options->forms = forms_of(*forms);
    run_benchmark(context, *options, *page);
  };
  return command;
}

}  // namespace repquant::cli
