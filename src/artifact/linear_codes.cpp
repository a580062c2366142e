#include "artifact/linear_codes.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "artifact/dataflow.h"
#include "graph/normalize.h"
#include "graph/operator_kinds.h"
#include "graph/rewrite.h"
#include "graph/site_path.h"
#include "plan/simulate.h"

namespace repquant {

using torch::jit::Module;
using torch::jit::Node;
using torch::jit::Value;

namespace {

/// A norm with m and a in it.
struct FoldedNorm {
  at::Tensor weight, bias;  // float64: gamma m, beta m + a
  std::vector<std::int64_t> shape;
  bool root_mean_square = false;  // RMSNorm has no bias: a alone, which comes after it
};

FoldedNorm fold(const Node* norm, const InputQuantizer& quantizer) {
  FoldedNorm folded;
  folded.shape = torch::jit::toIValue(named_input(norm, "normalized_shape"))->toIntVector();
  const Value* bias = named_input(norm, "bias");
  folded.root_mean_square = bias == nullptr;
  const at::Tensor gamma = constant_tensor(named_input(norm, "weight"));
  const at::Tensor beta = bias != nullptr ? constant_tensor(bias) : at::Tensor();
  const std::int64_t width = folded.shape.back();
  const at::Tensor m = quantizer.multiplier.to(at::kDouble).expand({width});
  const at::Tensor a = quantizer.offset.to(at::kDouble).expand({width});
  folded.weight = gamma.defined() ? gamma.to(at::kDouble) * m : m;
  folded.bias = beta.defined() ? beta.to(at::kDouble) * m + a : a;
  return folded;
}

Module quantize_module(ModuleFactory& factory, const InputQuantizer& quantizer) {
  const bool quadratic = quantizer.form == CodeForm::kQuadratic;
  return factory.quantize(
      {quantizer.multiplier, quantizer.offset, quantizer.max_code(), quadratic, false, 0});
}

}  // namespace

void LinearCodes::pad_codes() {
  for (const auto& [padding, zero] : decisions_.paddings) {
    pad_with(lowered_.copy.node(padding), zero);
  }
}

/// The norm gives what a grid per token is found from, in floating point.
void LinearCodes::scale_norm(Node* original, const InputQuantizer& quantizer) {
  Node* norm = lowered_.copy.node(original);
  const FoldedNorm folded = fold(original, quantizer);
  const auto replace = [&](const char* name, const at::Tensor& tensor) {
    const auto index = norm->schema().argumentIndexWithName(name);
    const at::Tensor whole = tensor.to(at::kFloat).expand(folded.shape).contiguous();
    norm->replaceInput(static_cast<std::size_t>(*index), insert_tensor(norm, whole));
  };
  replace("weight", folded.weight);
  if (!folded.root_mean_square) {
    replace("bias", folded.bias);
  } else if (folded.bias.any().item<bool>()) {
    shifted_[original->output(0)] = folded.bias.to(at::kFloat);
  }
}

/// What a grid per token is found from: the input, after m and a unless a norm has them.
Value* LinearCodes::token_input(const PlannedSite& planned, Value* x, Node* before) {
  const LinearSite& site = *linear_of(*planned.site);
  const InputQuantizer& quantizer = planned.linear()->input;
  const auto apply = [&](c10::Symbol symbol, Value* value, const at::Tensor& vector) {
    return lowered_.apply(symbol, value, vector, before);
  };
  if (site.norm != nullptr && decisions_.norms.count(site.norm) > 0) {
    const auto shift = shifted_.find(site.norm->output(0));
    return shift == shifted_.end() ? x : apply(c10::aten::add, x, shift->second);
  }
  if (!quantizer.per_channel()) return x;
  Value* scaled = apply(c10::aten::mul, x, quantizer.multiplier);
  return quantizer.offset.any().item<bool>() ? apply(c10::aten::add, scaled, quantizer.offset)
                                             : scaled;
}

void LinearCodes::lower_norm(Node* original, const InputQuantizer& quantizer) {
  if (quantizer.per_token) return scale_norm(original, quantizer);
  Node* norm = lowered_.copy.node(original);
  const auto epsilon = torch::jit::toIValue(named_input(original, "eps"));
  const FoldedNorm folded = fold(original, quantizer);
  NormQuantizeState state;
  state.weight = folded.weight;
  state.bias = folded.bias;
  state.shape = folded.shape;
  state.root_mean_square = folded.root_mean_square;
  state.epsilon =
      epsilon->isNone() ? std::numeric_limits<float>::epsilon() : epsilon->toScalar().toDouble();
  state.max_code = quantizer.max_code();
  const std::string path = module_path(original);
  std::string name;
  Value* codes =
      lowered_.call(lowered_.factory.norm_quantize(state),
                    (path.empty() ? "norm" : path) + "_quantize", {norm->input(0)}, norm, &name);
  norm->output(0)->replaceAllUsesWith(codes);
  norm_modules_[original] = name;
  lowered_.emit_product_codes(codes, original->output(0), path, quantizer);
}

/// The u8 codes of a Linear's input; made here unless they arrive as codes.
MadeCodes LinearCodes::input_codes(Node* original, const PlannedSite& site, LoweredSite& form) {
  Node* linear = lowered_.copy.node(original);
  const Value* x = original->input(0);
  const LinearSite& linear_site = *linear_of(*site.site);
  const InputQuantizer& quantizer = site.linear()->input;
  if (decisions_.codes.count(x) > 0) {
    const auto norm = norm_modules_.find(linear_site.norm);
    if (norm != norm_modules_.end()) form.input_module = norm->second;
    form.input = norm != norm_modules_.end()                     ? SiteInput::kNorm
                 : linear_site.source == InputSource::kAttention ? SiteInput::kAttention
                                                                 : SiteInput::kActivation;
    return {.quantizer = &quantizer, .codes = linear->input(0)};
  }
  form.input = SiteInput::kQuantize;
  if (const auto source = decisions_.sources.find(original); source != decisions_.sources.end()) {
    MadeCodes made =
        codes_of(source->second, first_mover(x, source->second)->input(0), linear, site, form);
    made.codes = moved_as(x, source->second, made.codes, zero_code(quantizer), linear);
    return made;
  }
  return codes_of(x, linear->input(0), linear, site, form);
}

Value* LinearCodes::grouped_input(Node* original, const PlannedSite& site, LoweredSite& form) {
  const Value* x = original->input(0);
  const InputQuantizer& quantizer = site.linear()->input;
  form.input = SiteInput::kQuantize;
  if (const MadeCodes* made = find_made(x, quantizer)) {
    form.input_module = made->module;
    return made->codes;
  }
  Node* linear = lowered_.copy.node(original);
  Value* rows = token_input(site, linear->input(0), linear);
  MadeCodes made{.quantizer = &quantizer};
  made.codes =
      lowered_.call(lowered_.factory.group_quantize(quantizer.group_size,
                                                    quantizer.max_product_code(), quantizer.levels),
                    site.plan->path + "_input", {rows}, linear, &form.input_module);
  made.module = form.input_module;
  quantized_[x].push_back(made);
  return made.codes;
}

/// Several Linears may read the same codes.
const MadeCodes* LinearCodes::find_made(const Value* x, const InputQuantizer& quantizer) const {
  const auto found = quantized_.find(x);
  if (found == quantized_.end()) return nullptr;
  const auto made =
      std::find_if(found->second.begin(), found->second.end(),
                   [&](const MadeCodes& codes) { return same_codes(*codes.quantizer, quantizer); });
  return made == found->second.end() ? nullptr : &*made;
}

/// The copy of the node that reads `from` on the way to `to`: its input is what stands for `from`
/// by now, which may be what a submodule gives.
Node* LinearCodes::first_mover(const Value* to, const Value* from) const {
  const Node* node = to->node();
  while (node->input(0) != from) node = node->input(0)->node();
  return lowered_.copy.node(node);
}

/// The codes of `x`, a value of the original graph that is `now` in the copy, for a Linear.
MadeCodes LinearCodes::codes_of(const Value* x, Value* now, Node* before, const PlannedSite& site,
                                LoweredSite& form) {
  const InputQuantizer& quantizer = site.linear()->input;
  if (const MadeCodes* made = find_made(x, quantizer)) {
    form.input_module = made->module;
    return *made;
  }
  MadeCodes made{.quantizer = &quantizer};
  if (quantizer.per_token) {
    const std::int64_t top = quantizer.max_product_code();
    Value* rows = token_input(site, now, before);
    std::string range;
    made.rows = lowered_.call(lowered_.factory.token_range(top), site.plan->path + "_range", {rows},
                              before, &range);
    made.codes =
        lowered_.call(lowered_.factory.token_quantize(top, quantizer.levels),
                      site.plan->path + "_input", {rows, made.rows}, before, &form.input_module);
  } else {
    made.codes = lowered_.call(quantize_module(lowered_.factory, quantizer),
                               site.plan->path + "_input", {now}, before, &form.input_module);
  }
  lowered_.emit_product_codes(made.codes, x, site.plan->path, quantizer);
  made.module = form.input_module;
  quantized_[x].push_back(made);
  return made;
}

/// `codes` of `from` through copies of the operators that lead from there to `to`.
Value* LinearCodes::moved_as(const Value* to, const Value* from, Value* codes, std::int64_t zero,
                             Node* before) {
  if (to == from) return codes;
  const Node* original = to->node();
  Value* moved = moved_as(original->input(0), from, codes, zero, before);
  Node* clone = lowered_.copy.graph->createClone(lowered_.copy.node(original),
                                                 [](Value* value) { return value; });
  clone->insertBefore(before)->copyMetadata(lowered_.copy.node(original));
  clone->replaceInput(0, moved);
  if (is_zero_padding(original)) pad_with(clone, zero);
  return clone->output();
}

void LinearCodes::pad_with(Node* padding, std::int64_t code) {
  torch::jit::WithInsertPoint guard(padding);
  Value* value =
      lowered_.copy.graph->insertConstant(static_cast<double>(code));  // aten::pad takes no int
  padding->replaceInput(padding->inputs().size() - 1, value);
}

}  // namespace repquant
