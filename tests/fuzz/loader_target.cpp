// The whole way of an artifact into the process: checks, LibTorch, fused operators, and a call.
#include "repquant/load.h"

#include <torch/script.h>

#include <numeric>

#include "fuzz/input.h"

namespace repquant::fuzz {
namespace {

/// The artifacts of the corpus take ids of tokens, shape [batch, tokens].
void call(torch::jit::Module& module) {
  const c10::InferenceMode guard;
  try {
    module.forward({torch::arange(12).view({2, 6})});
  } catch (const std::exception&) {
    // Operators refuse what they are given; what must not happen ends the process.
  }
}

}  // namespace

void fuzz_loader(Input input) {
  // One of the forms, by chance but the same each time: what both check first takes most of the
  // time.
  const bool fused = std::accumulate(input.begin(), input.end(), 0U) % 2 == 0;
  const InputFile file(input);
  survive([&] {
    torch::jit::Module module = load(file.path(), {.fused = fused});
    call(module);
  });
}

}  // namespace repquant::fuzz
