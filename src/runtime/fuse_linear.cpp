#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>

#include "graph/rewrite.h"
#include "ops/kernels/kernels.h"
#include "ops/operators.h"
#include "runtime/epilogue.h"
#include "runtime/fuse.h"
#include "runtime/fuse_token.h"
#include "tensor/deviation.h"

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Value;

/// A Linear and what is taken into its epilogue, in the order of the data.
struct LinearPattern {
  Node* rows = nullptr;              // call of TokenScale
  Node* side = nullptr;              // call of SideColumns
  Node* activation = nullptr;        // aten::relu, gelu, .. that the Linear does not have itself
  Node* quantize = nullptr;          // call of Quantize, or repquant::quantize for a convolution
  std::optional<ChannelGrid> grid;   // of `quantize`
  std::optional<TokenCalls> tokens;  // the next Linear's grid per token
  Node* add = nullptr;
  Value* residual = nullptr;
  Node* last = nullptr;
};

ops::Activation activation_of(const StoredState& state) {
  if (state.text("activation") == "relu") return ops::Activation::kRelu;
  if (state.text("activation") != "gelu") return ops::Activation::kNone;
  return state.text("algorithm") == "tanh" ? ops::Activation::kGeluTanh : ops::Activation::kGelu;
}

/// Of a node repquant::quantize that makes codes of channels, as a convolution reads them.
std::optional<ChannelGrid> channel_grid(const Node* quantize) {
  if (!is_kind(quantize, "repquant::quantize")) return {};
  ChannelGrid grid{constant_tensor(quantize->input(1)), constant_tensor(quantize->input(2)),
                   constant_int(quantize->input(3)).value_or(0)};
  const auto is_plain = [&](std::size_t i) {
    const auto flag = torch::jit::constant_as<bool>(quantize->input(i));
    return flag && !*flag;
  };
  const bool fits = grid.multiplier.defined() && grid.offset.defined() && is_plain(4) &&
                    is_plain(5) && grid.multiplier.dim() == 1 && grid.offset.dim() == 1;
  return fits ? std::optional(grid) : std::nullopt;
}

/// True if these codes can be made in a Linear's epilogue.
bool fits_epilogue(const StoredState& quantize) {
  const auto fits = [](const at::Tensor& grid) { return grid.dim() <= 1 || grid.numel() == 1; };
  return !quantize.flag("signed_codes") && fits(quantize.tensor("multiplier")) &&
         fits(quantize.tensor("offset"));
}

LinearPattern match_linear(const FusionContext& context, const SubmoduleCall& linear) {
  LinearPattern pattern;
  pattern.last = linear.node;
  if (linear.state->integer("output") != 0) return pattern;
  const auto reader = [&] { return only_reader(pattern.last->output()); };
  if (const auto rows = context.call_of(reader()); rows && rows->state->kind == "TokenScale" &&
                                                   rows->argument(0) == pattern.last->output() &&
                                                   linear.state->text("activation") == "none") {
    pattern.last = pattern.rows = rows->node;
    if (rows->state->integer("output") != 0) return pattern;
  }
  if (const auto side = context.call_of(reader());
      pattern.rows == nullptr && side && side->state->kind == "SideColumns" &&
      side->argument(0) == pattern.last->output() && linear.state->text("activation") == "none") {
    pattern.last = pattern.side = side->node;
  } else if (Node* next = reader(); next != nullptr && fusible_activation(next) &&
                                    linear.state->text("activation") == "none") {
    pattern.last = pattern.activation = next;
  }
  pattern.tokens =
      pattern.side == nullptr ? only_token_calls(context, pattern.last->output()) : std::nullopt;
  if (pattern.tokens) return pattern;
  if (const auto quantize = context.call_of(reader()); pattern.side == nullptr && quantize &&
                                                       quantize->state->kind == "Quantize" &&
                                                       fits_epilogue(*quantize->state)) {
    pattern.last = pattern.quantize = quantize->node;
    pattern.grid = {quantize->state->tensor("multiplier"), quantize->state->tensor("offset"),
                    quantize->state->integer("max_code")};
    return pattern;
  }
  if (Node* next = reader(); next != nullptr) {
    if (pattern.side == nullptr) pattern.grid = channel_grid(next);
    if (pattern.grid) {
      pattern.quantize = next;
      return pattern;
    }
    pattern.residual = other_summand(next, pattern.last->output());
    if (pattern.residual != nullptr) pattern.last = pattern.add = next;
  }
  return pattern;
}

const std::pair<at::Tensor, at::Tensor>& packed_weight(FusionContext& context,
                                                       const SubmoduleCall& linear) {
  const auto found = context.packed.find(linear.name);
  if (found != context.packed.end()) return found->second;
  const StoredState& state = *linear.state;
  const std::int64_t bits = state.integer("bits");
  const auto [weight, sums] =
      ops::pack_weight_cpu(state.tensor("codes"), bits, state.integer("columns"),
                           bits <= 4 ? std::optional(state.tensor("levels")) : std::nullopt);
  return context.packed[linear.name] = {weight, sums * state.integer("zero_point")};
}

/// The operator's argument: what the pattern takes in, or the Linear has itself.
std::int64_t activation_of(const LinearPattern& pattern, const StoredState& state) {
  return static_cast<std::int64_t>(pattern.activation != nullptr
                                       ? *fusible_activation(pattern.activation)
                                       : activation_of(state));
}

/// Of the call that adds the bias and makes the output: TokenScale's under a grid per token.
const StoredState& last_state(const FusionContext& context, const SubmoduleCall& linear,
                              const LinearPattern& pattern) {
  return pattern.rows != nullptr ? *context.call_of(pattern.rows)->state : *linear.state;
}

/// The grids of the input's rows, or null.
Value* rows_of(const FusionContext& context, const LinearPattern& pattern) {
  return pattern.rows != nullptr ? context.call_of(pattern.rows)->argument(1) : nullptr;
}

/// Sums of the weight's rows, which these grids need.
c10::IValue sums_of(const FusionContext& context, const LinearPattern& pattern,
                    std::int64_t channels) {
  if (pattern.rows == nullptr) return {};
  return padded(context.call_of(pattern.rows)->state->tensor("sums"), channels);
}

Value* insert_side(FusionContext& context, const SubmoduleCall& linear,
                   const LinearPattern& pattern, std::int64_t channels) {
  const auto& [weight, compensation] = packed_weight(context, linear);
  const StoredState& state = *linear.state;
  const SubmoduleCall side = *context.call_of(pattern.side);
  const StoredState& columns = *side.state;
  // As prepare() of the portable class makes it.
  const at::Tensor rows =
      columns.tensor("codes").to(at::kFloat) * columns.tensor("weight_scale").unsqueeze(1);
  const at::Tensor side_weight = (rows * columns.tensor("scale")).t();
  const std::int64_t rest = (ops::kPanel - channels % ops::kPanel) % ops::kPanel;
  context.report_fused_into(linear.name, side.name, "repquant::linear_side");
  return insert_operator(
      pattern.last, "repquant::linear_side",
      {linear.argument(0), weight, compensation, padded(state.tensor("scale"), channels),
       padded(state.tensor("bias"), channels), side.argument(1), columns.tensor("channels"),
       columns.tensor("scale").reciprocal(), columns.tensor("zero_point"),
       at::constant_pad_nd(side_weight, {0, rest}).contiguous(),
       (std::int64_t{1} << columns.integer("bits")) - 1, value_or_none(pattern.residual), channels,
       state.integer("columns"), state.integer("bits")});
}

Value* insert_linear(FusionContext& context, const SubmoduleCall& linear,
                     const LinearPattern& pattern, std::int64_t channels) {
  const auto& [weight, compensation] = packed_weight(context, linear);
  const StoredState& state = *linear.state;
  const StoredState& last = last_state(context, linear, pattern);
  std::int64_t output = last.integer("output"), low = 0, high = 255;
  bool quadratic = false;
  c10::IValue multiplier, offset;
  if (output == static_cast<std::int64_t>(ops::Output::kOperandCodes)) {
    low = last.integer("output_low");
    high = last.integer("output_high");
  } else if (output == static_cast<std::int64_t>(ops::Output::kProductCodes)) {
    const auto inverse = static_cast<float>(1.0 / state.number("output_scale"));
    multiplier = padded(at::full({channels}, inverse, at::kFloat), channels);
    offset =
        padded(at::full({channels}, static_cast<double>(state.integer("output_zero")), at::kFloat),
               channels);
    high = state.integer("output_max_code");
    quadratic = state.flag("output_quadratic");
  } else if (pattern.grid) {
    output = static_cast<std::int64_t>(ops::Output::kProductCodes);
    multiplier = padded(pattern.grid->multiplier, channels);
    offset = padded(pattern.grid->offset, channels);
    high = pattern.grid->max_code;
    if (const auto quantize = context.call_of(pattern.quantize)) {
      quadratic = quantize->state->flag("quadratic");
      context.report_fused_into(linear.name, quantize->name, "repquant::linear");
    }
  }
  return insert_operator(
      pattern.last, "repquant::linear",
      {linear.argument(0), weight, compensation, padded(state.tensor("scale"), channels),
       padded(last.tensor("bias"), channels), multiplier, offset, value_or_none(pattern.residual),
       channels, state.integer("columns"), state.integer("bits"), activation_of(pattern, state),
       output, low, high, quadratic, value_or_none(rows_of(context, pattern)),
       sums_of(context, pattern, channels)});
}

/// With the codes of the next Linear and the grids of rows that these are on as outputs.
std::vector<Value*> insert_tokens(FusionContext& context, const SubmoduleCall& linear,
                                  const LinearPattern& pattern, std::int64_t channels) {
  const auto& [weight, compensation] = packed_weight(context, linear);
  const StoredState& state = *linear.state;
  const StoredState& last = last_state(context, linear, pattern);
  return insert_with_outputs(
      pattern.tokens->range.node, "repquant::linear_tokens",
      {linear.argument(0), weight, compensation, padded(state.tensor("scale"), channels),
       padded(last.tensor("bias"), channels), channels, state.integer("columns"),
       state.integer("bits"), activation_of(pattern, state),
       value_or_none(rows_of(context, pattern)), sums_of(context, pattern, channels),
       pattern.tokens->top, pattern.tokens->codebook(), pattern.tokens->multiplier(),
       pattern.tokens->offset()});
}

/// True if the codes that it writes are squares (quadratic form).
bool writes_squares(const FusionContext& context, const SubmoduleCall& linear,
                    const LinearPattern& pattern) {
  if (const auto quantize = context.call_of(pattern.quantize)) {
    return quantize->state->flag("quadratic");
  }
  return linear.state->integer("output") == static_cast<std::int64_t>(ops::Output::kProductCodes) &&
         linear.state->flag("output_quadratic");
}

}  // namespace

bool fuse_linear(FusionContext& context, const SubmoduleCall& linear) {
  const LinearPattern pattern = match_linear(context, linear);
  const std::int64_t channels = linear.state->tensor("scale").numel();
  std::string taken_in;
  const auto note = [&](const Node* node, const char* text) {
    if (node != nullptr) taken_in += (taken_in.empty() ? "with " : ", ") + std::string(text);
  };
  note(pattern.rows, "scales of rows");
  note(pattern.side, "side columns");
  note(pattern.activation, "activation");
  const bool stored = context.call_of(pattern.quantize).has_value();
  note(pattern.quantize, stored ? "requantization" : "codes of the convolution behind it");
  note(pattern.tokens && pattern.tokens->scale ? pattern.last : nullptr, "scales of channels");
  note(pattern.tokens ? pattern.tokens->quantize.node : nullptr, "grids of rows");
  note(pattern.add, "residual");
  const bool nibbles = linear.state->integer("bits") <= 4;  // in memory, as of weights alone
  context.report_fused(linear.name,
                       nibbles ? "repquant::linear u8 x s4" : "repquant::linear u8 x s8", taken_in);
  if (pattern.tokens) {
    for (const auto* call : {&pattern.tokens->range, &pattern.tokens->quantize}) {
      context.report_fused_into(linear.name, call->name, "repquant::linear_tokens");
    }
    const std::vector<Value*> made = insert_tokens(context, linear, pattern, channels);
    replace_token_calls(context, *pattern.tokens, made[0], made[1], linear.name);
  } else {
    Value* output = pattern.side != nullptr ? insert_side(context, linear, pattern, channels)
                                            : insert_linear(context, linear, pattern, channels);
    Replacement replacement{
        .module = linear.name,
        .levels = writes_squares(context, linear, pattern) ? square_levels() : at::Tensor()};
    if (pattern.quantize != nullptr && !stored) {
      replacement.grid = pattern.grid;
      pattern.quantize->output()->replaceAllUsesWith(output);
    }
    context.replace(pattern.last->output(), output, std::move(replacement));
  }
  if (pattern.rows != nullptr) {
    context.report_fused_into(linear.name, context.call_of(pattern.rows)->name, "repquant::linear");
  }
  for (Node* node : {pattern.add, pattern.quantize, pattern.activation, pattern.side, pattern.rows,
                     linear.node}) {
    if (node != nullptr) node->destroy();
  }
  return true;
}

}  // namespace repquant
