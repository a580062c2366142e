#include <ATen/ATen.h>

#include "ops/operators.h"
#include "runtime/epilogue.h"
#include "runtime/fuse.h"

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Value;

/// Inputs are rounded to 16 bits, by chunks whose largest value may be far above the others, and
/// outputs may be far below what they are the sum of.
constexpr double kRoundedInputsLimit = 0x1p-8;

/// Packed weight and scales.
const std::pair<at::Tensor, at::Tensor>& packed_weight_only(FusionContext& context,
                                                            const SubmoduleCall& linear) {
  const auto found = context.packed.find(linear.name);
  if (found != context.packed.end()) return found->second;
  const StoredState& state = *linear.state;
  const std::int64_t bits = state.integer("bits");
  const auto [weight, scale] =
      ops::pack_weight_only_cpu(state.tensor("codes"), state.tensor("scale"), bits,
                                state.integer("columns"), state.integer("group_size"),
                                bits <= 4 ? std::optional(state.tensor("levels")) : std::nullopt);
  return context.packed[linear.name] = {weight, scale};
}

}  // namespace

bool fuse_weight_only(FusionContext& context, const SubmoduleCall& linear) {
  const StoredState& state = *linear.state;
  const auto& [weight, scale] = packed_weight_only(context, linear);
  const std::int64_t channels = state.tensor("bias").numel();
  Node* last = only_reader(linear.node->output());
  auto activation = ops::Activation::kNone;
  const bool taken_in = last != nullptr && fusible_activation(last);
  if (taken_in) {
    activation = *fusible_activation(last);
  } else {
    last = linear.node;
  }
  Value* output =
      insert_operator(last, "repquant::weight_only_linear",
                      {linear.argument(0), weight, scale, padded(state.tensor("bias"), channels),
                       channels, state.integer("columns"), state.integer("bits"),
                       state.integer("group_size"), static_cast<std::int64_t>(activation)});
  context.replace(last->output(), output,
                  {.module = linear.name, .relative_limit = kRoundedInputsLimit});
  context.report_fused(
      linear.name,
      "repquant::weight_only_linear s16 x s" + std::string(state.integer("bits") <= 4 ? "4" : "8"),
      taken_in ? "with activation" : "");
  if (taken_in) last->destroy();
  linear.node->destroy();
  return true;
}

}  // namespace repquant
