// Code of a loaded model that would run elsewhere, in training or in other types than it is run
// here.
#pragma once

#include <string>
#include <vector>

namespace torch::jit {
struct Module;
}  // namespace torch::jit

namespace repquant {

/// Rewrites the code and the tensors of a module that has not run yet, in place, so that it runs
/// on the CPU, in float32 and at inference; returns one sentence for each kind of change:
/// - devices that the exporter wrote down (cuda:0) become the CPU;
/// - dropout that was left in training mode is switched off, and batch norms take their running
///   statistics;
/// - bfloat16 and float16 weights and conversions become float32, float64 ones where most of the
///   weights are of that type; then floating-point inputs are converted, too;
/// - Python numbers that tracing made tensors of do not change the type of what they meet.
std::vector<std::string> make_portable(torch::jit::Module& module);

}  // namespace repquant
