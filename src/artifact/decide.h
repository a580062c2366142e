// Decides, before anything is rewritten, which float values of the model travel as codes.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "artifact/dataflow.h"
#include "graph/site.h"
#include "plan/site_plan.h"

namespace repquant {

/// Planned sites by node.
struct PlannedSite {
  const Site* site = nullptr;
  const SitePlan* plan = nullptr;

  const LinearPlan* linear() const { return std::get_if<LinearPlan>(&plan->plan); }
  const ScoresPlan* scores() const { return std::get_if<ScoresPlan>(&plan->plan); }
  const AttendPlan* attend() const { return std::get_if<AttendPlan>(&plan->plan); }
  const EmbeddingPlan* embedding() const { return std::get_if<EmbeddingPlan>(&plan->plan); }
  const GroupedConvolutionPlan* convolution() const {
    return std::get_if<GroupedConvolutionPlan>(&plan->plan);
  }
};
using PlannedSites = std::map<const torch::jit::Node*, PlannedSite>;

/// A Linear writes the int8 codes of the attention operands that it feeds, one grid per channel.
struct OperandCodes {
  at::Tensor multiplier;  // float64 [N], constant factors between Linear and operand included
  at::Tensor factor;      // float64 [N], those factors alone
  at::Tensor zero_point;  // float64 [N]
  std::int64_t max_code = 255;
  std::int64_t shift = 0;
};

/// A Linear writes the u8 codes of the next Linear's input, through an activation function.
struct ProductCodes {
  const InputQuantizer* next = nullptr;
};

/// What one planned Linear writes.
struct LinearDecision {
  torch::jit::Node* activation = nullptr;  // gelu or relu fused into the epilogue, or null
  std::optional<OperandCodes> operands;
  std::optional<ProductCodes> product;
};

/// An attention product writes the codes of the next Linear's input.
struct AttendDecision {
  const InputQuantizer* next = nullptr;      // null: float output
  at::Tensor multiplier, offset;             // [1] or [H, 1, d]
  torch::jit::Node* raw_scores = nullptr;    // this scores site feeds it raw integer products
  double score_factor = 1.0;                 // product of the constant factors between the two
  std::vector<NumberScaling> score_numbers;  // factors between them that the model computes
};

struct Decisions {
  std::map<const torch::jit::Node*, LinearDecision> linears;
  std::map<const torch::jit::Node*, AttendDecision> attends;
  /// Norm nodes that write codes, or what a grid per token is found from, with the quantizer of all
  /// their Linear readers.
  std::map<const torch::jit::Node*, const InputQuantizer*> norms;
  /// Linears whose codes are made of an earlier value, with that value: what lies between them only
  /// moves elements, pads with zeros, or repeats them.
  std::map<const torch::jit::Node*, torch::jit::Value*> sources;
  /// Paddings that codes go through, with the code of zero.
  std::map<const torch::jit::Node*, std::int64_t> paddings;
  /// Values that are codes in the lowered graph: inputs of Linears and of attention products.
  std::set<const torch::jit::Value*> codes;
};

/// The code of zero under a grid per tensor, as it enters the product.
std::int64_t zero_code(const InputQuantizer& quantizer);

Decisions decide(const PlannedSites& planned, const Observed& observed);

}  // namespace repquant
