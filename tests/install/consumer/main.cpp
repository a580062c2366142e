// A project outside of the repository that calls everything in include/repquant on the digits
// model:
//   consumer FOLDER_OF_DIGITS FOLDER_TO_WRITE_TO
#include <ATen/Parallel.h>
#include <repquant/analyze.h>
#include <repquant/artifact.h>
#include <repquant/benchmark.h>
#include <repquant/error.h>
#include <repquant/evaluate.h>
#include <repquant/form.h>
#include <repquant/load.h>
#include <repquant/quantize.h>
#include <repquant/verify.h>
#include <repquant/version.h>
#include <torch/script.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

void check(bool holds, const char* what) {
  std::printf("%s: %s\n", what, holds ? "ok" : "WRONG");
  if (!holds) std::exit(1);
}

bool refuses_no_calibration(repquant::QuantizeOptions options) {
  options.calib = {};
  try {
    repquant::quantize(options);
  } catch (const repquant::Error& e) {
    return e.kind() == repquant::ErrorKind::kUsage && e.parts().where == "`calib`";
  }
  return false;
}

bool refuses_without_labels(repquant::EvaluationOptions options) {
  options.use_labels = false;
  options.required = {"top1"};
  try {
    repquant::check_evaluation(options);
  } catch (const repquant::Error& e) {
    return e.kind() == repquant::ErrorKind::kUsage && e.parts().where == "`required=top1`";
  }
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const std::string digits = argv[1], folder = argv[2];
  const std::string model = digits + "/digits_vit.pt", test = digits + "/digits_test.npz";
  const repquant::DataPath calib{digits + "/digits_calib.npz"};
  const int threads = at::get_num_threads();
  std::printf("repquant %s\n", repquant::kVersion);

  repquant::PreviewOptions preview;
  preview.model = model;
  preview.data = calib;
  check(repquant::preview(preview).proven, "preview");

  repquant::AnalyzeOptions analysis;
  analysis.model = model;
  analysis.calib = calib;
  analysis.recipe.calibration.samples = 8;
  check(!repquant::analyze(analysis).sites.empty(), "analyze");

  repquant::QuantizeOptions options;
  options.model = model;
  options.output = folder + "/digits.w4a8.pt";
  options.recipe.bits = {.weight_bits = 4, .activation_bits = 8};
  options.recipe.calibration.samples = 16;
  options.calib = calib;
  check(refuses_no_calibration(options), "no calibration is refused");
  std::size_t phases = 0;
  repquant::Observer observer;
  observer.on_phase = [&phases](const std::string&, std::size_t) { ++phases; };
  const repquant::QuantizeReport report = repquant::quantize(options, observer);
  check(report.coverage.mac_share() == 1.0 && !report.synthetic && phases > 1, "quantize");

  const repquant::ArtifactReport artifact = repquant::inspect_artifact(options.output);
  check(repquant::is_artifact(options.output) && artifact.info.samples == 14, "inspect_artifact");
  check(repquant::read_artifact(options.output).model_hash == artifact.info.model_hash,
        "read_artifact");
  check(repquant::inspect_fused(options.output, artifact).fused_share > 0.9, "inspect_fused");

  repquant::VerifyOptions verification;
  verification.artifact = options.output;
  verification.reference = model;
  verification.data = repquant::DataPath{test};
  const repquant::VerifyReport verified = repquant::verify(verification);
  check(verified.holds() && verified.claims.back().name == "outputs", "verify");

  const std::vector<repquant::ModelForm> forms = repquant::expand_forms(
      {model, options.output},
      {repquant::parse_form("portable", "here"), repquant::parse_form("fused", "here")});
  check(forms.size() == 3 && forms[0].form == repquant::Form::kFloat, "expand_forms, parse_form");
  repquant::EvaluationOptions evaluation;
  evaluation.task = repquant::parse_task("classification", "here");
  check(repquant::name_of(evaluation.task) == "classification", "parse_task");
  evaluation.models = {options.output};
  evaluation.forms = {repquant::Form::kPortable, repquant::Form::kFused};
  evaluation.reference = model;
  evaluation.data = test;
  repquant::check_evaluation(evaluation);
  check(refuses_without_labels(evaluation), "check_evaluation");
  for (const auto& row : repquant::evaluate(evaluation).models) {
    check(row.accuracy->top1.value > 0.9 && row.agreement->top1->value > 0.9,
          repquant::name_of(row.form).c_str());
  }

  repquant::BenchmarkOptions timing;
  timing.models = {model, options.output};
  timing.data = repquant::Synthetic{{1, 8, 8}};
  timing.rounds = 3;
  check(repquant::benchmark(timing).rows.size() == 2, "benchmark");

  const repquant::CpuLevelReport level = repquant::cpu_level_report();
  check(!level.level.empty() && !level.available.empty(), "cpu_level_report");
  check(repquant::cpu_level() == level.level, "cpu_level");
  bool right = true;
  for (const auto& test_of_level : repquant::test_kernels()) {
    right = right && test_of_level.passed();
  }
  check(right && repquant::cpu_level_report().level == level.level, "test_kernels");

  repquant::LoadReport loaded;
  torch::jit::Module module =
      repquant::load(options.output, {.fused = true, .trust = true}, &loaded);
  const c10::InferenceMode no_gradients;
  const at::Tensor logits = module.forward({at::zeros({2, 1, 8, 8})}).toTensor();
  check(logits.size(0) == 2 && !loaded.sites.empty() && loaded.cpu_level == level.level, "load");
  check(at::get_num_threads() == threads, "threads are as before");
  return 0;
}
