// Codes by Quantize, and what a decoder keeps of its keys and values.
#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "graph/rewrite.h"
#include "runtime/fuse.h"
#include "tensor/cache_codes.h"
#include "tensor/deviation.h"

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Value;

/// A grid as the operators take it.
struct Grid {
  at::Tensor multiplier, offset;  // [1], [D], or both of [H, 1, 1] and [H, 1, D]
};

/// The grid of a Quantize, for its input or, if `transposed`, for what is transposed to be that.
/// None if it goes by tokens.
std::optional<Grid> grid_of(const StoredState& state, bool transposed) {
  Grid grid{state.tensor("multiplier"), state.tensor("offset")};
  const std::array<at::Tensor*, 2> parts{&grid.multiplier, &grid.offset};
  const bool by_head = std::any_of(parts.begin(), parts.end(), [](const at::Tensor* part) {
    return part->numel() > 1 && part->dim() > 1;
  });
  for (at::Tensor* part : parts) {
    if (part->numel() == 1) *part = part->view({1});
    if (!by_head && !transposed) continue;
    if (part->dim() == 1 && part->numel() > 1 && transposed) return {};
    if (!by_head) continue;
    while (part->dim() < 3) *part = part->unsqueeze(0);
    if (transposed) *part = part->transpose(-2, -1).contiguous();
    if (part->dim() > 3 || part->size(1) != 1) return {};
  }
  return grid;
}

/// Quantize of `values`, perhaps transposed first: codes are made before, since grids of heads go
/// by the dimension that is last there.
struct Operand {
  SubmoduleCall quantize;
  Node* transpose = nullptr;  // or none
  Grid grid;
};

std::optional<Operand> operand_of(const SubmoduleCall& quantize) {
  Node* node = quantize.argument(0)->node();
  if (swaps_last(node)) {
    if (auto grid = grid_of(*quantize.state, true))
      return Operand{quantize, node, std::move(*grid)};
  }
  if (auto grid = grid_of(*quantize.state, false))
    return Operand{quantize, nullptr, std::move(*grid)};
  return {};
}

/// Puts the codes of what the operand is made of in the place of its call.
void replace_operand(FusionContext& context, const Operand& operand, Value* codes) {
  Node* node = operand.quantize.node;
  if (operand.transpose != nullptr) {
    codes = insert_operator(node, "aten::transpose", {codes, std::int64_t{-2}, std::int64_t{-1}});
  }
  const bool quadratic = operand.quantize.state->flag("quadratic");
  context.replace(
      node->output(), codes,
      {.module = operand.quantize.name, .levels = quadratic ? square_levels() : at::Tensor()});
  node->destroy();
  if (operand.transpose != nullptr && operand.transpose->output()->uses().empty()) {
    operand.transpose->destroy();
  }
}

/// The calls that make operands of the values that `read` gives.
std::vector<Operand> operands_of(const FusionContext& context, const Value* values) {
  std::vector<Operand> operands;
  const auto add = [&](Node* reader) {
    const auto call = context.call_of(reader);
    if (!call || call->state->kind != "Quantize" || !call->state->flag("signed_codes") ||
        call->state->flag("quadratic")) {
      return;
    }
    if (auto operand = operand_of(*call)) operands.push_back(std::move(*operand));
  };
  for (const auto& use : values->uses()) {
    if (!swaps_last(use.user)) {
      add(use.user);
    } else if (use.user->output()->uses().size() == 1) {
      add(use.user->output()->uses()[0].user);
    }
  }
  return operands;
}

/// Rows that are divided by their norms, as attention of cosines has them.
struct DividedRows {
  Value* x;
  Value* divisor;  // [.., 1], positive
};

std::optional<DividedRows> divided_rows(Value* value) {
  while (swaps_last(value->node()) && swaps_last(value->node()->input(0)->node())) {
    value = value->node()->input(0)->node()->input(0);
  }
  const Node* divide = value->node();
  if (!is_kind(divide, "aten::div") || divide->inputs().size() != 2) return {};
  DividedRows rows{divide->input(0), divide->input(1)};
  const Node* expand = rows.divisor->node();
  if (is_kind(expand, "aten::expand_as") && expand->input(1) == rows.x) {
    rows.divisor = expand->input(0);
  }
  const Node* norm = rows.divisor->node();
  if (is_kind(norm, "aten::clamp_min")) norm = norm->input(0)->node();
  if (!is_kind(norm, "aten::linalg_vector_norm") ||
      constant_ints(norm->input(2)) != std::vector<std::int64_t>{-1} ||
      torch::jit::constant_as<bool>(norm->input(3)) != true) {
    return {};
  }
  return rows;
}

}  // namespace

bool fuse_quantize(FusionContext& context, const SubmoduleCall& quantize) {
  const StoredState& state = *quantize.state;
  const auto operand = operand_of(quantize);
  if (!operand) {
    context.report_portable(quantize, "one grid per token");
    return false;
  }
  Value* input =
      operand->transpose != nullptr ? operand->transpose->input(0) : quantize.argument(0);
  Value* codes = insert_operator(
      quantize.node, "repquant::quantize",
      {input, operand->grid.multiplier, operand->grid.offset, state.integer("max_code"),
       state.flag("quadratic"), state.flag("signed_codes"), state.integer("shift")});
  replace_operand(context, *operand, codes);
  context.report_fused(quantize.name, "repquant::quantize");
  return true;
}

bool fuse_row_quantize(FusionContext& context, const SubmoduleCall& quantize) {
  const auto scale = context.call_of(quantize.argument(1)->node());
  if (!scale || scale->state->kind != "RowScale" || scale->argument(0) != quantize.argument(0)) {
    context.report_portable(quantize, "its scales come from elsewhere");
    return false;
  }
  // Rows have the same codes before they are divided, on scales that many times as large.
  const auto divided = divided_rows(quantize.argument(0));
  std::vector<Value*> outputs = insert_with_outputs(
      scale->node, "repquant::operand_rows",
      {divided ? divided->x : quantize.argument(0), quantize.state->integer("bits")});
  if (divided) {
    outputs[1] = insert_operator(scale->node, "aten::div", {outputs[1], divided->divisor});
  }
  context.replace(quantize.node->output(), outputs[0], {.module = quantize.name});
  context.replace(scale->node->output(), outputs[1], {.module = quantize.name});
  quantize.node->destroy();
  scale->node->destroy();
  context.report_fused(quantize.name, "repquant::operand_rows",
                       divided ? "of rows before they are divided by their norms" : "");
  context.report_fused_into(quantize.name, scale->name, "repquant::operand_rows");
  return true;
}

bool fuse_cache_write(FusionContext& context, const SubmoduleCall& write) {
  Value* codes = insert_operator(write.node, kCacheQuantizeOp, {write.argument(0)});
  context.replace(write.node->output(), codes, {.module = write.name});
  write.node->destroy();
  context.report_fused(write.name, kCacheQuantizeOp);
  return true;
}

bool fuse_cache_read(FusionContext& context, const SubmoduleCall& read) {
  Value* values = read.node->output();
  for (const Operand& operand : operands_of(context, values)) {
    const StoredState& state = *operand.quantize.state;
    Value* codes = insert_operator(operand.quantize.node, "repquant::cache_operand",
                                   {read.argument(0), operand.grid.multiplier, operand.grid.offset,
                                    state.integer("max_code"), state.integer("shift")});
    replace_operand(context, operand, codes);
    context.report_fused(operand.quantize.name, "repquant::cache_operand");
  }
  const bool read_on = !values->uses().empty();
  if (read_on) {
    Value* fused = insert_operator(read.node, kCacheDequantizeOp, {read.argument(0)});
    context.replace(values, fused, {.module = read.name});
  }
  read.node->destroy();
  context.report_fused(read.name, read_on ? kCacheDequantizeOp : "repquant::cache_operand");
  return true;
}

}  // namespace repquant
