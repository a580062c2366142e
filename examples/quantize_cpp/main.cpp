// Quantizes a model, measures and times the result, and runs it:
//   quantize_cpp digits_vit.pt digits_calib.npz digits_test.npz digits_vit.w4a8.pt
#include <repquant/benchmark.h>
#include <repquant/error.h>
#include <repquant/evaluate.h>
#include <repquant/load.h>
#include <repquant/quantize.h>
#include <torch/script.h>

#include <cstdio>
#include <string>

namespace {

void run(const std::string& model, const std::string& calib, const std::string& test,
         const std::string& artifact) {
  repquant::QuantizeOptions options;
  options.model = model;
  options.output = artifact;
  options.recipe.bits = {.weight_bits = 4, .activation_bits = 8};
  options.recipe.calibration.samples = 32;
  options.calib = repquant::DataPath{calib};
  options.force = true;
  repquant::Observer observer;
  observer.warn = [](const std::string& text) { std::fprintf(stderr, "%s\n", text.c_str()); };
  const repquant::QuantizeReport report = repquant::quantize(options, observer);
  std::printf("quantized %.1f %% of the multiply-accumulates, file %.2f of its size\n",
              100.0 * report.coverage.mac_share(),
              static_cast<double>(report.output_bytes) / static_cast<double>(report.model_bytes));

  repquant::EvaluationOptions evaluation;
  evaluation.models = {artifact};
  evaluation.forms = {repquant::Form::kFused};
  evaluation.reference = model;
  evaluation.data = test;
  const auto measured = repquant::evaluate(evaluation).models.at(0);
  std::printf("top-1 %.4f, agrees with FP32 on %.4f\n", measured.accuracy->top1.value,
              measured.agreement->top1->value);

  repquant::BenchmarkOptions timing;
  timing.models = {model, artifact};
  timing.forms = {repquant::Form::kFused};
  timing.data = repquant::DataPath{test};
  timing.rounds = 5;
  for (const auto& row : repquant::benchmark(timing).rows) {
    std::printf("%s: %.3f ms\n", timing.models.at(row.model).c_str(), 1e3 * row.latency.median);
  }

  torch::jit::Module loaded = repquant::load(artifact);
  const c10::InferenceMode no_gradients;
  const at::Tensor logits = loaded.forward({at::zeros({2, 1, 8, 8})}).toTensor();
  std::printf("logits of %lld samples\n", static_cast<long long>(logits.size(0)));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: quantize_cpp MODEL CALIBRATION TEST ARTIFACT\n");
    return 2;
  }
  try {
    run(argv[1], argv[2], argv[3], argv[4]);
  } catch (const repquant::Error& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
  return 0;
}
