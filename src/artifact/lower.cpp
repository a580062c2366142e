#include "artifact/lower.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <cmath>
#include <unordered_map>

#include "artifact/classes.h"
#include "artifact/decide.h"
#include "artifact/linear_codes.h"
#include "artifact/linear_state.h"
#include "artifact/lower_attention.h"
#include "artifact/lowered_graph.h"
#include "base/overloaded.h"
#include "graph/rewrite.h"
#include "plan/simulate.h"
#include "repquant/error.h"
#include "tensor/current_error.h"

namespace repquant {
namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

constexpr double kLog2E = 1.4426950408889634074;

at::Tensor to_double(const at::Tensor& tensor) { return tensor.to(at::kDouble); }

class Lowering {
 public:
  Lowering(Model model, const std::vector<Site>& sites, const std::vector<SitePlan>& plans,
           const LowerOptions& options)
      : options_(options), lowered_(std::move(model)) {
    match(sites, plans);
    decisions_ = decide(planned_, options.observed);
  }

  Lowered run() {
    codes_.pad_codes();
    for (Node* node : lowered_.result.model.graph->nodes()) {
      if (const auto norm = decisions_.norms.find(node); norm != decisions_.norms.end()) {
        codes_.lower_norm(node, *norm->second);
      }
      lower_cache(lowered_, node);
      const auto planned = planned_.find(node);
      if (planned == planned_.end()) continue;
      lower_site(node, planned->second);
    }
    return lowered_.finish(options_);
  }

 private:
  /// The float constant of the site goes once its integer form exists.
  void lower_site(Node* node, const PlannedSite& site) {
    std::visit(Overloaded{[&](const LinearPlan&) {
                            lower_linear(node, site);
                            lowered_.release(node->input(1));
                          },
                          [&](const ScoresPlan&) { lower_scores(node, site); },
                          [&](const AttendPlan&) { lower_attend(node, site); },
                          [&](const EmbeddingPlan&) {
                            lower_embedding(node, site);
                            lowered_.release(node->input(0));
                          },
                          [&](const GroupedConvolutionPlan&) {
                            lower_convolution(node, site);
                            lowered_.release(node->input(1));
                          }},
               site.plan->plan);
  }

  void match(const std::vector<Site>& sites, const std::vector<SitePlan>& plans) {
    std::unordered_map<std::string, const Site*> by_path;
    for (const auto& site : sites) by_path[site.path] = &site;
    for (const auto& plan : plans) {
      const auto found = by_path.find(plan.path);
      if (found == by_path.end() || kind_of(*found->second) != plan.kind) {
        throw Error(ErrorKind::kInternal,
                    {.what = "a site plan fits no site of the model", .where = plan.path});
      }
      planned_[found->second->node] = {found->second, &plan};
    }
  }

  void lower_convolution(Node* original, const PlannedSite& site) {
    const GroupedConvolutionPlan& plan = *site.convolution();
    LoweredSite form{{}, site.plan->path};
    form.input = SiteInput::kFloat;
    form.output = SiteOutput::kFloat;
    ConvolutionState state{.weight_codes = plan.weight.codes,
                           .bits = plan.weight.bits,
                           .scale = plan.output_scale(),
                           .bias = plan.bias,
                           .multiplier = at::ones({1}),
                           .zero_point = at::zeros({1}),
                           .max_code = 0,
                           .shape = plan.shape};
    if (plan.quantized_input) {
      state.multiplier = plan.input.multiplier;
      state.zero_point = plan.input.zero_point;
      state.max_code = plan.input.max_code();
    }
    Node* convolution = lowered_.copy.node(original);
    Value* output = lowered_.call(lowered_.factory.convolution(state), form.path,
                                  {convolution->input(0)}, convolution, &form.module);
    convolution->output()->replaceAllUsesWith(output);
    // Its codes are made inside: one at a tie changes several outputs.
    lowered_.emit(output, original->output(), form.path,
                  plan.quantized_input ? Emission::Kind::kRounded : Emission::Kind::kFloat);
    lowered_.result.sites.push_back(form);
  }

  void lower_linear(Node* original, const PlannedSite& site) {
    const LinearPlan& plan = *site.linear();
    Node* linear = lowered_.copy.node(original);
    LoweredSite form{{}, site.plan->path};
    if (!plan.quantized_input || plan.input.group_size > 0) {
      Value* input = linear->input(0);
      form.input = SiteInput::kFloat;
      form.output = SiteOutput::kFloat;
      if (plan.quantized_input) input = codes_.grouped_input(original, site, form);
      Value* output =
          lowered_.call(lowered_.factory.weight_only(weight_only_state(plan, form.path)), form.path,
                        {input}, linear, &form.module);
      linear->output()->replaceAllUsesWith(output);
      // Codes of groups are made inside: one at a tie changes several outputs.
      lowered_.emit(output, original->output(), form.path,
                    plan.quantized_input ? Emission::Kind::kRounded : Emission::Kind::kFloat);
      lowered_.result.sites.push_back(form);
      return;
    }
    Value* x = linear->input(0);
    const MadeCodes input = codes_.input_codes(original, site, form);
    const LinearDecision& decision = decisions_.linears.at(original);
    LinearState state = linear_state(plan, form.path);
    form.output = SiteOutput::kFloat;
    const Value* replaced = original->output();
    std::optional<TokenScaleState> rescaled;
    if (plan.input.per_token) rescaled = token_scale_state(plan);
    if (decision.operands) {
      if (rescaled) {
        write_operands(*decision.operands, state, *rescaled);
      } else {
        write_operands(*decision.operands, state);
      }
      form.output = SiteOutput::kOperandCodes;
    } else if (decision.activation != nullptr) {
      replaced = decision.activation->output();
      write_activation(*decision.activation, decision.product, state);
      if (decision.product) form.output = SiteOutput::kProductCodes;
    }
    Value* output = lowered_.call(lowered_.factory.linear(state), form.path, {input.codes}, linear,
                                  &form.module);
    if (rescaled) {
      output = lowered_.call(lowered_.factory.token_scale(*rescaled), form.path + "_scale",
                             {output, input.rows}, linear, &form.scale_module);
    }
    if (decision.operands) {
      lowered_.emit_operand_codes(output, replaced, form.path, *decision.operands);
      for (Node* scaling : scalings_after(original->output())) {
        const std::size_t operand = constant_scaling(scaling)->operand;
        Node* node = lowered_.copy.node(scaling);
        node->output()->replaceAllUsesWith(node->input(operand));
      }
    } else if (decision.product) {
      lowered_.emit_product_codes(output, replaced, form.path, *decision.product->next);
    } else if (plan.side.channels.empty()) {
      lowered_.emit(output, replaced, form.path, Emission::Kind::kFloat);
    } else {
      output = lowered_.call(
          lowered_.factory.side({at::tensor(plan.side.channels, at::kLong), plan.side.scale,
                                 plan.side.zero_point, plan.side.bits, plan.side.weight.codes,
                                 plan.side.weight.scale}),
          form.path + "_side", {output, x}, linear, &form.side_module);
      lowered_.emit(output, replaced, form.path, Emission::Kind::kFloat);
    }
    lowered_.copy.value(replaced)->replaceAllUsesWith(output);
    lowered_.result.sites.push_back(form);
  }

  /// The int8 codes of an attention operand; made here unless they arrive as codes.
  Value* operand_codes(Node* original, std::size_t offset, const OperandQuantizer& operand,
                       const PlannedSite& site, const std::string& suffix) {
    Node* product = lowered_.copy.node(original);
    if (decisions_.codes.count(original->input(offset)) > 0) return product->input(offset);
    const QuantizeState state{
        operand.multiplier,    operand.zero_point, operand.max_code(), false, true,
        operand_shift(operand)};
    std::string name;
    Value* codes = lowered_.call(lowered_.factory.quantize(state), site.plan->path + suffix,
                                 {product->input(offset)}, product, &name);
    lowered_.emit_operand_codes(codes, original->input(offset), site.plan->path,
                                {.multiplier = to_double(operand.multiplier),
                                 .factor = at::ones({1}, at::kDouble),
                                 .zero_point = to_double(operand.zero_point),
                                 .max_code = operand.max_code(),
                                 .shift = operand_shift(operand)});
    return codes;
  }

  static at::Tensor stored_zero(const OperandQuantizer& operand) {
    return operand.zero_point - static_cast<double>(operand_shift(operand));
  }

  void lower_embedding(Node* original, const PlannedSite& site) {
    const QuantizedWeight& table = site.embedding()->table;
    LoweredSite form{{}, site.plan->path};
    form.input = SiteInput::kIndices;
    form.output = SiteOutput::kFloat;
    Node* embedding = lowered_.copy.node(original);
    Value* output =
        lowered_.call(lowered_.factory.embedding({table.codes, table.bits, table.scale}), form.path,
                      {embedding->input(1)}, embedding, &form.module);
    embedding->output()->replaceAllUsesWith(output);
    lowered_.emit(output, original->output(), form.path, Emission::Kind::kFloat);
    lowered_.result.sites.push_back(form);
  }

  void lower_scores(Node* original, const PlannedSite& site) {
    const ScoresPlan& plan = *site.scores();
    if (plan.left.per_token) {
      lowered_.result.sites.push_back(
          lower_token_scores(lowered_, original, plan, site.plan->path));
      return;
    }
    LoweredSite form{{}, site.plan->path};
    form.input = SiteInput::kOperands;
    Value* left = operand_codes(original, 0, plan.left, site, "_left");
    Value* right = operand_codes(original, 1, plan.right, site, "_right");
    ScoresState state;
    state.left_zero = stored_zero(plan.left);
    // As the rows of keys [.., S, d] have it.
    state.right_zero = stored_zero(plan.right);
    if (state.right_zero.dim() > 1) state.right_zero = state.right_zero.transpose(-2, -1);
    state.left_bits = plan.left.bits;
    state.right_bits = plan.right.bits;
    state.scale = plan.scale();
    for (const auto& [attend, decision] : decisions_.attends) {
      state.raw = state.raw || decision.raw_scores == original;
    }
    form.output = state.raw ? SiteOutput::kIntegerProducts : SiteOutput::kFloat;
    Node* scores = lowered_.copy.node(original);
    Value* output = lowered_.call(lowered_.factory.scores(state), form.path, {left, right}, scores,
                                  &form.module);
    Emission& emission =
        lowered_.emit(output, original->output(), form.path,
                      state.raw ? Emission::Kind::kRowRelative : Emission::Kind::kFloat);
    emission.scale = state.scale;
    scores->output()->replaceAllUsesWith(output);
    raw_outputs_[original] = output;
    lowered_.result.sites.push_back(form);
  }

  void lower_attend(Node* original, const PlannedSite& site) {
    const AttendPlan& plan = *site.attend();
    const AttendDecision& decision = decisions_.attends.at(original);
    LoweredSite form{{}, site.plan->path};
    form.input = SiteInput::kOperands;
    Value* codes = operand_codes(original, 1, plan.value, site, "_value");
    AttendState state;
    const double steps = plan.uniform ? 1.0 : plan.grid.steps_per_octave;
    state.factor = at::full({1}, kLog2E * steps, at::kDouble);
    state.bits = plan.bits;
    state.uniform = plan.uniform;
    state.u8_table = !plan.uniform && plan.grid.u8_table;
    state.zero_code = plan.uniform || plan.grid.zero_code;
    state.steps_per_octave = plan.grid.steps_per_octave;
    state.row_maximum = plan.row_maximum;
    state.softmax_scale = plan.softmax_scale;
    state.value_zero = stored_zero(plan.value);
    state.multiplier = to_double(plan.value.scale);
    if (!plan.row_maximum) {
      state.multiplier = state.multiplier * plan.softmax_scale;
      if (plan.uniform) state.multiplier = state.multiplier / ((1 << plan.bits) - 1);
      if (state.u8_table) state.multiplier = state.multiplier / 255.0;
    }
    if (decision.raw_scores != nullptr) {
      const auto& scores = *planned_.at(decision.raw_scores).scores();
      state.factor = state.factor * scores.scale() * decision.score_factor;
      state.fresh = true;
    }
    form.output = SiteOutput::kFloat;
    if (decision.next != nullptr) {
      state.multiplier = state.multiplier * to_double(decision.multiplier);
      state.offset = decision.offset;
      state.output_max_code = decision.next->max_code();
      form.output = SiteOutput::kProductCodes;
    }
    Node* attend = lowered_.copy.node(original);
    // The module takes scores: softmax becomes part of it.
    Node* softmax = lowered_.copy.node(std::get<AttendSite>(site.site->kind).softmax);
    softmax->output()->replaceAllUsesWith(
        decision.raw_scores != nullptr ? raw_outputs_.at(decision.raw_scores) : softmax->input(0));
    Value* output = lowered_.call(lowered_.factory.attend(state), form.path,
                                  {attend->input(0), codes, score_factor(decision, attend)}, attend,
                                  &form.module);
    if (decision.next != nullptr) {
      const at::Tensor m = decision.multiplier, a = decision.offset;
      const std::int64_t top = decision.next->max_code();
      Emission& emission =
          lowered_.emit(output, original->output(), form.path, Emission::Kind::kCodes);
      emission.behind_softmax = true;
      emission.reference = [m, a, top](const at::Tensor& x) {
        return at::round(x * m + a).clamp(0, top).to(at::kByte);
      };
    } else {
      lowered_.emit(output, original->output(), form.path, Emission::Kind::kRounded);
    }
    attend->output()->replaceAllUsesWith(output);
    lowered_.result.sites.push_back(form);
  }

  /// Product of the factors that the model computes between scores and softmax.
  Value* score_factor(const AttendDecision& decision, Node* before) {
    Graph& graph = *lowered_.copy.graph;
    torch::jit::WithInsertPoint guard(before);
    Value* product = graph.insertConstant(1.0);
    if (decision.raw_scores == nullptr) return product;
    for (const auto& scaling : decision.score_numbers) {
      const auto symbol = scaling.divides ? c10::aten::div : c10::aten::mul;
      product = graph.insert(symbol, {product, lowered_.copy.value(scaling.number)});
    }
    return product;
  }

  const LowerOptions& options_;
  LoweredGraph lowered_;
  PlannedSites planned_;
  Decisions decisions_;
  LinearCodes codes_{lowered_, decisions_};
  std::unordered_map<const Node*, Value*> raw_outputs_;
};

}  // namespace

std::int64_t operand_shift(const OperandQuantizer& operand) { return operand.bits == 8 ? 128 : 0; }

Lowered lower(Model model, const std::vector<Site>& sites, const std::vector<SitePlan>& plans,
              const LowerOptions& options) {
  at::NoGradGuard no_grad;
  const std::string path = model.path;
  try {
    return Lowering(std::move(model), sites, plans, options).run();
  } catch (const c10::Error& e) {
    rethrow_if_out_of_memory(path);
    throw Error(
        ErrorKind::kInternal,
        {.what = std::string("lowering failed: ") + e.what_without_backtrace(), .where = path});
  }
}

}  // namespace repquant
