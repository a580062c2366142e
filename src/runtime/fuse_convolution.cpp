// A convolution of codes whose channels stay apart -> repquant::depthwise, between values in
// channels-last order. Its input becomes codes in front of it, where the Linear that makes it can
// write them; its output becomes codes behind it, where only a grid per token reads it.
#include <ATen/ATen.h>

#include "format/codes.h"
#include "graph/operator_kinds.h"
#include "graph/rewrite.h"
#include "graph/site.h"
#include "runtime/epilogue.h"
#include "runtime/fuse.h"
#include "runtime/fuse_token.h"

namespace repquant {
namespace {

using torch::jit::NamedValue;
using torch::jit::Node;
using torch::jit::Value;
using List = std::vector<std::int64_t>;

constexpr std::int64_t kLanes = 16;

/// A transposition of the last two of three dimensions.
bool swaps_rows(const Node* node) {
  if (!is_kind(node, "aten::transpose")) return false;
  const auto a = constant_int(node->input(1)), b = constant_int(node->input(2));
  return swaps_last(node) || (a && b && *a + *b == 3 && (*a == 1 || *a == 2));
}

/// The activation that alone reads `value`, or views of it; or null.
Node* activation_behind(Value* value) {
  Node* node = only_reader(value);
  while (node != nullptr && is_shape_only(node) && node->outputs().size() == 1) {
    node = only_reader(node->output());
  }
  return node != nullptr && fusible_activation(node) ? node : nullptr;
}

/// True if a fused Linear can write codes in the place of `value`, which nothing else reads.
bool made_by_linear(const FusionContext& context, Value* value) {
  if (only_reader(value) == nullptr) return false;
  Node* node = value->node();
  if (fusible_activation(node)) node = node->input(0)->node();
  auto call = context.call_of(node);
  if (call && call->state->kind == "TokenScale" && call->state->integer("output") == 0) {
    call = context.call_of(call->argument(0)->node());
  }
  return call && call->state->kind == "Linear" && call->state->integer("output") == 0;
}

/// float32 [C / 16, taps, 16] of codes [C, taps].
at::Tensor packed_taps(const at::Tensor& codes) {
  const std::int64_t channels = codes.size(0), taps = codes.size(1);
  const std::int64_t rest = (kLanes - channels % kLanes) % kLanes;
  return at::constant_pad_nd(codes.to(at::kFloat), {0, 0, 0, rest})
      .view({-1, kLanes, taps})
      .transpose(1, 2)
      .contiguous();
}

/// A convolution while it is replaced.
struct Convolution {
  const SubmoduleCall& call;
  std::size_t dimensions;
  Value* rows = nullptr;   // the operator's output, [B, sizes.., C]
  Value* image = nullptr;  // a view of it, [B, C, sizes..]
  /// What stands for it, in the portable graph and in this one.
  Replacement replacement{};
};

/// The input in channels-last order, which the call reads from here on.
Value* take_input(FusionContext& context, const SubmoduleCall& call, std::size_t dimensions) {
  Node* view = call.argument(0)->node();
  if (permute_order(view) != channels_first_order(dimensions)) {
    return insert_operator(call.node, "aten::permute",
                           {call.argument(0), channels_last_order(dimensions)});
  }
  Value* input = view->input(0);
  call.node->replaceInput(1, input);  // so that the view is not in the way
  if (view->output()->uses().empty()) context.drop(view);
  return input;
}

/// All arguments of the operator but the activation.
std::vector<NamedValue> arguments_of(const FusionContext& context, const SubmoduleCall& call,
                                     Value* input) {
  const StoredState& state = *call.state;
  const std::int64_t channels = state.tensor("scale").numel(), most = state.integer("max_code");
  c10::IValue multiplier, zero_point;
  if (most > 0) {
    const at::Tensor scales = padded(state.tensor("multiplier").flatten(), channels, kLanes);
    const at::Tensor zeros = padded(state.tensor("zero_point").flatten(), channels, kLanes);
    zero_point = zeros;
    if (made_by_linear(context, input)) {
      input = insert_operator(call.node, "repquant::quantize",
                              {input, scales.slice(0, 0, channels), zeros.slice(0, 0, channels),
                               most, false, false, std::int64_t{0}});
    } else {
      multiplier = scales;
    }
  }
  const at::Tensor codes =
      unpack_levels(state.tensor("codes"), static_cast<int>(state.integer("bits")),
                    state.integer("columns"), nibble_levels({}));
  return {input,
          packed_taps(codes),
          padded(state.tensor("scale"), channels, kLanes),
          padded(state.tensor("bias"), channels, kLanes),
          multiplier,
          zero_point,
          most,
          state.values.at("kernel"),
          state.values.at("stride"),
          state.values.at("padding"),
          state.values.at("dilation")};
}

/// Views of the image that bring it back into the order of `rows` -> `rows`, or a view of these.
void skip_views(const FusionContext& context, Convolution& c) {
  const std::vector<torch::jit::Use> uses(c.image->uses());
  for (const torch::jit::Use& use : uses) {
    Node* view = use.user;
    Value* same = nullptr;
    if (permute_order(view) == channels_last_order(c.dimensions)) {
      same = c.rows;
    } else if (c.dimensions == 2 && is_kind(view, "aten::flatten") &&
               constant_int(view->input(1)) == 2 && constant_int(view->input(2)) == -1) {
      Node* transpose = only_reader(view->output());
      if (transpose == nullptr || !swaps_rows(transpose)) continue;
      same =
          insert_operator(transpose, "aten::flatten", {c.rows, std::int64_t{1}, std::int64_t{2}});
      view = transpose;
    }
    if (same == nullptr) continue;
    Value* flat = view->input(0);
    if (c.replacement.fused == view->output()) {
      c.replacement.fused = same;
    } else if (c.replacement.fused == c.image || c.replacement.fused == flat) {
      c.replacement.portable = context.copy.original(view->output());
      c.replacement.fused = same;
    }
    view->output()->replaceAllUsesWith(same);
    view->destroy();
    if (flat != c.image && flat->uses().empty()) flat->node()->destroy();
  }
  if (c.image->uses().empty() && c.replacement.fused != c.image) c.image->node()->destroy();
}

/// Gives codes and grids of pixels where these alone are read. Returns false if they are not.
bool take_tokens(FusionContext& context, Convolution& c, std::vector<NamedValue> arguments) {
  Value* read = c.rows;
  Node* flatten = only_reader(read);
  if (flatten != nullptr && is_kind(flatten, "aten::flatten")) {
    read = flatten->output();
  } else {
    flatten = nullptr;
  }
  const auto tokens = only_token_calls(context, read);
  if (!tokens) return false;
  arguments.insert(arguments.end(),
                   {tokens->top, tokens->codebook(), tokens->multiplier(), tokens->offset()});
  std::vector<Value*> made =
      insert_with_outputs(tokens->range.node, "repquant::depthwise_tokens", arguments);
  if (flatten != nullptr) {
    for (Value*& value : made) {
      value = insert_operator(tokens->range.node, "aten::flatten",
                              {value, std::int64_t{1}, std::int64_t{2}});
    }
  }
  for (const auto* call : {&tokens->range, &tokens->quantize}) {
    context.report_fused_into(c.call.name, call->name, "repquant::depthwise_tokens");
  }
  replace_token_calls(context, *tokens, made[0], made[1], c.call.name);
  if (flatten != nullptr) flatten->destroy();
  c.rows->node()->destroy();
  return true;
}

}  // namespace

bool fuse_convolution(FusionContext& context, const SubmoduleCall& call) {
  const StoredState& state = *call.state;
  const List kernel = state.values.at("kernel").toIntVector();
  std::int64_t taps = 1;
  for (const std::int64_t size : kernel) taps *= size;
  if (kernel.size() > 2 || state.integer("groups") != state.tensor("scale").numel() ||
      state.integer("columns") != taps) {
    context.report_portable(call, "a convolution of groups of several channels");
    return false;
  }
  Value* input = take_input(context, call, kernel.size());
  std::vector<NamedValue> arguments = arguments_of(context, call, input);
  Node* activation = activation_behind(call.node->output());
  arguments.emplace_back(activation == nullptr
                             ? std::int64_t{0}
                             : static_cast<std::int64_t>(*fusible_activation(activation)));
  Convolution c{call, kernel.size()};
  c.rows = insert_operator(call.node, "repquant::depthwise", arguments);
  c.image =
      insert_operator(call.node, "aten::permute", {c.rows, channels_first_order(c.dimensions)});
  Value* stands_for = activation != nullptr ? activation->output() : call.node->output();
  c.replacement = {.module = call.name, .portable = context.copy.original(stands_for)};
  call.node->output()->replaceAllUsesWith(c.image);
  c.replacement.fused = activation != nullptr ? activation->input(0) : c.image;
  if (activation != nullptr) {
    activation->output()->replaceAllUsesWith(activation->input(0));
    activation->destroy();
  }
  call.node->destroy();
  skip_views(context, c);
  const bool tokens = take_tokens(context, c, std::move(arguments));
  if (!tokens) context.replaced.push_back(std::move(c.replacement));
  std::string taken_in = activation != nullptr ? "with activation" : "";
  if (tokens) taken_in += (taken_in.empty() ? "with " : ", ") + std::string("grids of rows");
  context.report_fused(call.name, "repquant::depthwise", taken_in);
  return true;
}

}  // namespace repquant
