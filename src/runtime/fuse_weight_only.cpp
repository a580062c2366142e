#include <ATen/ATen.h>

#include "ops/operators.h"
#include "runtime/epilogue.h"
#include "runtime/fuse.h"
#include "runtime/fuse_token.h"

namespace repquant {
namespace {

using torch::jit::NamedValue;
using torch::jit::Node;
using torch::jit::Value;

/// Inputs are rounded to 16 bits, by chunks whose largest value may be far above the others, and
/// outputs may be far below what they are the sum of.
constexpr double kRoundedInputsLimit = 0x1p-8;

using Pack = decltype(&ops::pack_weight_only_cpu);

/// Packed weight and scales; `kind` tells apart what several calls need of one submodule.
const std::pair<at::Tensor, at::Tensor>& packed_as(FusionContext& context,
                                                   const SubmoduleCall& linear, Pack pack,
                                                   std::int64_t group_size,
                                                   const std::string& kind) {
  const std::string key = linear.name + kind;
  const auto found = context.packed.find(key);
  if (found != context.packed.end()) return found->second;
  const StoredState& state = *linear.state;
  const std::int64_t bits = state.integer("bits");
  const auto [weight, scale] =
      pack(state.tensor("codes"), state.tensor("scale"), bits, state.integer("columns"), group_size,
           bits <= 4 ? std::optional(state.tensor("levels")) : std::nullopt);
  return context.packed[key] = {weight, scale};
}

/// A product and what it takes in from behind it, in the order of the data.
struct Product {
  Node* linear;
  Node* activation_node = nullptr;
  ops::Activation activation = ops::Activation::kNone;
  Node* add = nullptr;
  Value* residual = nullptr;
  Node* last;

  Product(const SubmoduleCall& call, bool takes_residual) : linear(call.node), last(call.node) {
    Node* next = only_reader(last->output());
    if (const auto function = next == nullptr ? std::nullopt : fusible_activation(next)) {
      activation = *function;
      last = activation_node = next;
      next = only_reader(last->output());
    }
    if (takes_residual && next != nullptr) residual = other_summand(next, last->output());
    if (residual != nullptr) last = add = next;
  }
  std::int64_t activation_number() const { return static_cast<std::int64_t>(activation); }
  std::string taken_in() const {
    if (add == nullptr) return activation_node == nullptr ? "" : "with activation";
    return activation_node == nullptr ? "with residual" : "with activation, residual";
  }
  void destroy() const {
    for (Node* node : {add, activation_node, linear}) {
      if (node != nullptr) node->destroy();
    }
  }
};

/// The call that puts the inputs on grids of groups, if the product can have their codes: its
/// scales are of the same groups, or of rows.
std::optional<SubmoduleCall> group_grids_before(const FusionContext& context,
                                                const SubmoduleCall& linear) {
  auto quantize = context.call_of(linear.argument(0)->node());
  if (!quantize || quantize->state->kind != "GroupQuantize") return {};
  const std::int64_t size = quantize->state->integer("group_size"),
                     own = linear.state->integer("group_size");
  const bool fits =
      (own == 0 || own == size) && ops::fits_group_linear(linear.state->integer("bits"), size);
  return fits ? quantize : std::nullopt;
}

Value* insert_group_linear(FusionContext& context, const SubmoduleCall& linear,
                           const SubmoduleCall& quantize, const Product& product) {
  const StoredState& state = *linear.state;
  const std::int64_t size = quantize.state->integer("group_size");
  const auto& [weight, scale] = packed_as(context, linear, &ops::pack_group_weight_cpu, size,
                                          " in groups of " + std::to_string(size));
  const std::int64_t channels = state.tensor("bias").numel();
  const GroupCodes& made = group_codes(context, quantize);
  return insert_operator(
      product.last, "repquant::group_linear",
      {made.codes, made.grids, weight, scale, padded(state.tensor("bias"), channels), channels,
       state.integer("columns"), state.integer("bits"), size, product.activation_number(),
       value_or_none(product.residual)});
}

Value* insert_weight_only(FusionContext& context, const SubmoduleCall& linear,
                          const Product& product) {
  const StoredState& state = *linear.state;
  const std::int64_t size = state.integer("group_size");
  const auto& [weight, scale] = packed_as(context, linear, &ops::pack_weight_only_cpu, size, "");
  const std::int64_t channels = state.tensor("bias").numel();
  return insert_operator(
      product.last, "repquant::weight_only_linear",
      {linear.argument(0), weight, scale, padded(state.tensor("bias"), channels), channels,
       state.integer("columns"), state.integer("bits"), size, product.activation_number()});
}

}  // namespace

bool fuse_weight_only(FusionContext& context, const SubmoduleCall& linear) {
  const auto quantize = group_grids_before(context, linear);
  const Product product(linear, /*takes_residual=*/quantize.has_value());
  Value* output = quantize ? insert_group_linear(context, linear, *quantize, product)
                           : insert_weight_only(context, linear, product);
  Replacement replacement{.module = linear.name};
  if (!quantize) replacement.relative_limit = kRoundedInputsLimit;
  context.replace(product.last->output(), output, std::move(replacement));
  const std::string op =
      quantize ? "repquant::group_linear u8 x s" : "repquant::weight_only_linear s16 x s";
  context.report_fused(linear.name, op + (linear.state->integer("bits") <= 4 ? "4" : "8"),
                       product.taken_in());
  product.destroy();
  return true;
}

namespace {

bool is_learned(const StoredState& quantize) {
  return quantize.tensor("levels").numel() != quantize.integer("top") + 1;
}

NamedValue codebook(const StoredState& quantize) {
  return NamedValue(is_learned(quantize) ? c10::IValue(quantize.tensor("levels")) : c10::IValue());
}

std::vector<NamedValue> grid_arguments(const SubmoduleCall& quantize) {
  const StoredState& state = *quantize.state;
  return {quantize.argument(0), state.integer("group_size"), state.integer("top"), codebook(state)};
}

}  // namespace

const GroupCodes& group_codes(FusionContext& context, const SubmoduleCall& quantize) {
  const auto found = context.group_codes.find(quantize.node);
  if (found != context.group_codes.end()) return found->second;
  const std::vector<Value*> made =
      insert_with_outputs(quantize.node, "repquant::group_codes", grid_arguments(quantize));
  return context.group_codes[quantize.node] = {made[0], made[1]};
}

namespace {

/// Takes in the norm in front of codes that nothing but them reads.
bool take_norm_in(FusionContext& context, const SubmoduleCall& quantize, const GroupCodes& made) {
  const auto norm = norm_of(quantize.argument(0)->node());
  if (!norm || reader_count(norm->node->output(0)) != 2) return false;  // the call and its codes
  std::vector<NamedValue> arguments = norm->arguments();
  const auto grid = grid_arguments(quantize);
  arguments.insert(arguments.end(), grid.begin() + 1, grid.end());
  const std::vector<Value*> codes =
      insert_with_outputs(norm->node, "repquant::norm_group_codes", arguments);
  Node* alone = made.codes->node();
  made.codes->replaceAllUsesWith(codes[0]);
  made.grids->replaceAllUsesWith(codes[1]);
  alone->destroy();
  const StoredState& state = *quantize.state;
  Replacement how{
      .module = quantize.name,
      .levels = is_learned(state) ? state.tensor("levels") : at::Tensor(),
      .groups = GroupGrid{
          .group_size = state.integer("group_size"), .top = state.integer("top"), .grids = true}};
  context.compare(norm->node->output(0), codes[1], how);
  how.groups->grids = false;
  quantize.node->output()->replaceAllUsesWith(codes[0]);
  quantize.node->destroy();
  context.replace(norm->node->output(0), codes[0], how);
  norm->node->destroy();
  context.report_fused(quantize.name, "repquant::norm_group_codes", "with the norm");
  return true;
}

}  // namespace

bool fuse_group_quantize(FusionContext& context, const SubmoduleCall& quantize) {
  const auto made = context.group_codes.find(quantize.node);
  const bool in_codes = made != context.group_codes.end();
  if (in_codes && reader_count(quantize.node->output()) == 0) {
    if (take_norm_in(context, quantize, made->second)) return true;
    // Codes have the shape of the values, for those that read no more.
    quantize.node->output()->replaceAllUsesWith(made->second.codes);
    context.report_fused(quantize.name, "repquant::group_codes");
  } else {
    Value* values =
        insert_operator(quantize.node, "repquant::group_quantize", grid_arguments(quantize));
    context.replace(quantize.node->output(), values, {.module = quantize.name});
    context.report_fused(quantize.name, "repquant::group_quantize",
                         in_codes ? "and repquant::group_codes" : "");
  }
  quantize.node->destroy();
  return true;
}

}  // namespace repquant
