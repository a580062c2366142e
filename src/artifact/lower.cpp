#include "artifact/lower.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>

#include <cmath>
#include <limits>
#include <set>
#include <unordered_map>

#include "artifact/classes.h"
#include "artifact/constants.h"
#include "artifact/decide.h"
#include "artifact/graph_copy.h"
#include "artifact/linear_state.h"
#include "graph/normalize.h"
#include "graph/rewrite.h"
#include "graph/site_path.h"
#include "plan/simulate.h"
#include "repquant/error.h"
#include "tensor/current_error.h"
#include "tensor/deviation.h"

namespace repquant {
namespace {

using torch::jit::Graph;
using torch::jit::Module;
using torch::jit::Node;
using torch::jit::Value;

constexpr double kLog2E = 1.4426950408889634074;

/// Keeps every part's name a TorchScript identifier, and each name once.
class Names {
 public:
  std::string unique(const std::string& path) {
    std::string name;
    for (const char c : path) {
      const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
      name += plain ? c : '_';
    }
    if (name.empty() || (name[0] >= '0' && name[0] <= '9')) name = "site_" + name;
    const std::string stem = name;
    for (int i = 2; !used_.insert(name).second; ++i) name = stem + "_" + std::to_string(i);
    return name;
  }

 private:
  std::set<std::string> used_{"training", "forward", "self"};
};

at::Tensor to_double(const at::Tensor& tensor) { return tensor.to(at::kDouble); }

class Lowering {
 public:
  Lowering(Model model, const std::vector<Site>& sites, const std::vector<SitePlan>& plans,
           const LowerOptions& options)
      : options_(options),
        root_(c10::QualifiedName("__torch__.repquant.QuantizedModel"), factory_.unit()),
        copy_(*model.graph) {
    result_.model = std::move(model);
    match(sites, plans);
    const Observed observed = observe(result_.model, options.example);
    decisions_ = decide(planned_, observed);
    root_.register_attribute("training", c10::BoolType::get(), false);
    self_ = copy_.graph->insertInput(0, "self");
    self_->setType(root_.type());
  }

  Lowered run() {
    for (const auto& [padding, zero] : decisions_.paddings) pad_with(copy_.node(padding), zero);
    for (Node* node : result_.model.graph->nodes()) {
      if (const auto norm = decisions_.norms.find(node); norm != decisions_.norms.end()) {
        lower_norm(node, *norm->second);
      }
      const auto planned = planned_.find(node);
      if (planned == planned_.end()) continue;
      const PlannedSite& site = planned->second;
      if (site.linear() != nullptr) {
        lower_linear(node, site);
        release(node->input(1));
      } else if (site.scores() != nullptr) {
        lower_scores(node, site);
      } else if (site.embedding() != nullptr) {
        lower_embedding(node, site);
        release(node->input(0));
      } else if (site.convolution() != nullptr) {
        lower_convolution(node, site);
        release(node->input(1));
      } else {
        lower_attend(node, site);
      }
    }
    finish();
    return std::move(result_);
  }

 private:
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

  /// Notes that one reader of a constant has its integer form, and empties the constant in both
  /// graphs when the last one has. A graph that others hold, too, is not touched.
  void release(Value* weight) {
    if (result_.model.graph.use_count() > 1) return;
    if (weight->node()->kind() != c10::prim::Constant) return;
    if (++lowered_readers_[weight] < weight->uses().size()) return;
    for (Value* value : {weight, copy_.value(weight)}) {
      value->node()->t_(c10::attr::value, at::empty({0}, at::kFloat));
    }
  }

  /// Adds `module` under a name made from `path` and calls it before `before`.
  Value* call(const Module& module, const std::string& path, const std::vector<Value*>& inputs,
              Node* before, std::string* name) {
    *name = names_.unique(path);
    root_.register_module(*name, module);
    Graph& graph = *copy_.graph;
    torch::jit::WithInsertPoint guard(before);
    Value* object = graph.insertGetAttr(self_, *name);
    std::vector<Value*> arguments{object};
    arguments.insert(arguments.end(), inputs.begin(), inputs.end());
    Node* node = graph.insertNode(graph.create(c10::prim::CallMethod, arguments));
    node->s_(c10::attr::name, "forward");
    node->output()->setType(c10::TensorType::get());
    return node->output();
  }

  Emission& emit(Value* output, const Value* original, const std::string& path,
                 Emission::Kind kind) {
    Emission emission;
    emission.call = output->node();
    emission.original = original;
    emission.path = path;
    emission.kind = kind;
    result_.emissions.push_back(std::move(emission));
    return result_.emissions.back();
  }

  void emit_product_codes(Value* output, const Value* original, const std::string& path,
                          const InputQuantizer& quantizer) {
    Emission& emission = emit(output, original, path, Emission::Kind::kCodes);
    emission.levels = quantizer.form == CodeForm::kQuadratic ? square_levels() : quantizer.levels;
    emission.reference = [quantizer](const at::Tensor& x) {
      return product_codes(encode(x, quantizer), quantizer).to(at::kByte);
    };
  }

  /// The reference must be the very codes that the simulation computes, in its order of roundings:
  /// the factor first. One code at a tie moves a row or a column of the scores.
  void emit_operand_codes(Value* output, const Value* original, const std::string& path,
                          const OperandCodes& operand) {
    Emission& emission = emit(output, original, path, Emission::Kind::kCodes);
    const at::Tensor m = (operand.multiplier / operand.factor).to(at::kFloat);
    const at::Tensor f = operand.factor.to(at::kFloat), z = operand.zero_point.to(at::kFloat);
    emission.reference = [m, f, z, max_code = operand.max_code,
                          shift = operand.shift](const at::Tensor& x) {
      return (at::round(x * f * m + z).clamp(0, max_code) - shift).to(at::kChar);
    };
  }

  /// The norm gives what a grid per token is found from, in floating point.
  void scale_norm(Node* original, const InputQuantizer& quantizer) {
    Node* norm = copy_.node(original);
    const auto constant = [&](const char* name) {
      const Value* value = named_input(original, name);
      return value != nullptr ? constant_tensor(value) : at::Tensor();
    };
    const auto replace = [&](const char* name, const at::Tensor& tensor) {
      const auto index = norm->schema().argumentIndexWithName(name);
      norm->replaceInput(static_cast<std::size_t>(*index),
                         insert_tensor(norm, tensor.to(at::kFloat).contiguous()));
    };
    const at::Tensor m = to_double(quantizer.multiplier), a = to_double(quantizer.offset);
    const at::Tensor gamma = constant("weight"), beta = constant("bias");
    const auto shape = torch::jit::toIValue(named_input(original, "normalized_shape"));
    const at::Tensor weight = gamma.defined() ? to_double(gamma) * m : m;
    replace("weight", weight.expand(shape->toIntVector()));
    if (named_input(original, "bias") != nullptr) {
      const at::Tensor bias = beta.defined() ? to_double(beta) * m + a : a;
      replace("bias", bias.expand(shape->toIntVector()));
    } else if (a.any().item<bool>()) {  // RMSNorm has none
      shifted_[original->output(0)] = a.to(at::kFloat);
    }
  }

  /// What a grid per token is found from: the input, after m and a unless a norm has them.
  Value* token_input(const PlannedSite& planned, Value* x, Node* before) {
    const LinearSite& site = *linear_of(*planned.site);
    const InputQuantizer& quantizer = planned.linear()->input;
    torch::jit::WithInsertPoint guard(before);
    Graph& graph = *copy_.graph;
    const auto apply = [&](c10::Symbol symbol, Value* value, const at::Tensor& vector) {
      return graph.insert(symbol, {value, graph.insertConstant(vector)});
    };
    if (site.norm != nullptr && decisions_.norms.count(site.norm) > 0) {
      const auto shift = shifted_.find(site.norm->output(0));
      return shift == shifted_.end() ? x : apply(c10::aten::add, x, shift->second);
    }
    if (!quantizer.per_channel()) return x;
    return apply(c10::aten::add, apply(c10::aten::mul, x, quantizer.multiplier), quantizer.offset);
  }

  void lower_norm(Node* original, const InputQuantizer& quantizer) {
    if (quantizer.per_token) return scale_norm(original, quantizer);
    Node* norm = copy_.node(original);
    const auto shape = torch::jit::toIValue(named_input(original, "normalized_shape"));
    const auto epsilon = torch::jit::toIValue(named_input(original, "eps"));
    const auto gamma = constant_tensor(named_input(original, "weight"));
    const Value* bias = named_input(original, "bias");  // none: RMSNorm
    const auto beta = bias != nullptr ? constant_tensor(bias) : at::Tensor();
    const std::int64_t width = shape->toIntVector().back();
    NormQuantizeState state;
    const at::Tensor m = to_double(quantizer.multiplier).expand({width});
    const at::Tensor a = to_double(quantizer.offset).expand({width});
    state.weight = gamma.defined() ? to_double(gamma) * m : m;
    state.bias = beta.defined() ? to_double(beta) * m + a : a;
    state.shape = shape->toIntVector();
    state.root_mean_square = bias == nullptr;
    state.epsilon =
        epsilon->isNone() ? std::numeric_limits<float>::epsilon() : epsilon->toScalar().toDouble();
    state.max_code = quantizer.max_code();
    const std::string path = module_path(original);
    std::string name;
    Value* codes = call(factory_.norm_quantize(state), (path.empty() ? "norm" : path) + "_quantize",
                        {norm->input(0)}, norm, &name);
    norm->output(0)->replaceAllUsesWith(codes);
    norm_modules_[original] = name;
    emit_product_codes(codes, original->output(0), path, quantizer);
  }

  Module quantize_module(const InputQuantizer& quantizer) {
    const bool quadratic = quantizer.form == CodeForm::kQuadratic;
    return factory_.quantize(
        {quantizer.multiplier, quantizer.offset, quantizer.max_code(), quadratic, false, 0});
  }

  struct MadeCodes {
    const InputQuantizer* quantizer = nullptr;
    Value* codes = nullptr;
    Value* rows = nullptr;  // the grids of rows that they are on, per token
    std::string module{};
  };

  /// The u8 codes of a Linear's input; made here unless they arrive as codes.
  MadeCodes input_codes(Node* original, const PlannedSite& site, LoweredSite& form) {
    Node* linear = copy_.node(original);
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

  /// The copy of the node that reads `from` on the way to `to`: its input is what stands for `from`
  /// by now, which may be what a submodule gives.
  Node* first_mover(const Value* to, const Value* from) const {
    const Node* node = to->node();
    while (node->input(0) != from) node = node->input(0)->node();
    return copy_.node(node);
  }

  /// The codes of `x`, a value of the original graph that is `now` in the copy, for a Linear.
  MadeCodes codes_of(const Value* x, Value* now, Node* before, const PlannedSite& site,
                     LoweredSite& form) {
    const InputQuantizer& quantizer = site.linear()->input;
    for (const auto& made : quantized_[x]) {  // several Linears may read the same codes
      if (same_codes(*made.quantizer, quantizer)) {
        form.input_module = made.module;
        return made;
      }
    }
    MadeCodes made{.quantizer = &quantizer};
    if (quantizer.per_token) {
      const std::int64_t top = quantizer.max_product_code();
      Value* rows = token_input(site, now, before);
      std::string range;
      made.rows =
          call(factory_.token_range(top), site.plan->path + "_range", {rows}, before, &range);
      made.codes = call(factory_.token_quantize(top, quantizer.levels), site.plan->path + "_input",
                        {rows, made.rows}, before, &form.input_module);
    } else {
      made.codes = call(quantize_module(quantizer), site.plan->path + "_input", {now}, before,
                        &form.input_module);
    }
    emit_product_codes(made.codes, x, site.plan->path, quantizer);
    made.module = form.input_module;
    quantized_[x].push_back(made);
    return made;
  }

  /// `codes` of `from` through copies of the operators that lead from there to `to`.
  Value* moved_as(const Value* to, const Value* from, Value* codes, std::int64_t zero,
                  Node* before) {
    if (to == from) return codes;
    const Node* original = to->node();
    Value* moved = moved_as(original->input(0), from, codes, zero, before);
    Node* clone =
        copy_.graph->createClone(copy_.node(original), [](Value* value) { return value; });
    clone->insertBefore(before)->copyMetadata(copy_.node(original));
    clone->replaceInput(0, moved);
    if (is_zero_padding(original)) pad_with(clone, zero);
    return clone->output();
  }

  void pad_with(Node* padding, std::int64_t code) {
    torch::jit::WithInsertPoint guard(padding);
    Value* value =
        copy_.graph->insertConstant(static_cast<double>(code));  // aten::pad takes no int
    padding->replaceInput(padding->inputs().size() - 1, value);
  }

  void lower_convolution(Node* original, const PlannedSite& site) {
    const ConvolutionPlan& plan = *site.convolution();
    LoweredSite form = form_of(site);
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
    Node* convolution = copy_.node(original);
    Value* output = call(factory_.convolution(state), form.path, {convolution->input(0)},
                         convolution, &form.module);
    convolution->output()->replaceAllUsesWith(output);
    // Its codes are made inside: one at a tie changes several outputs.
    emit(output, original->output(), form.path,
         plan.quantized_input ? Emission::Kind::kRounded : Emission::Kind::kFloat);
    result_.sites.push_back(form);
  }

  void lower_linear(Node* original, const PlannedSite& site) {
    const LinearPlan& plan = *site.linear();
    Node* linear = copy_.node(original);
    LoweredSite form = form_of(site);
    if (!plan.quantized_input) {
      form.input = SiteInput::kFloat;
      form.output = SiteOutput::kFloat;
      Value* output =
          call(factory_.weight_only({plan.weight.codes, plan.weight.bits, plan.weight.scale,
                                     plan.bias, plan.weight.group_size}),
               form.path, {linear->input(0)}, linear, &form.module);
      linear->output()->replaceAllUsesWith(output);
      emit(output, original->output(), form.path, Emission::Kind::kFloat);
      result_.sites.push_back(form);
      return;
    }
    Value* x = linear->input(0);
    const MadeCodes input = input_codes(original, site, form);
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
    Value* output = call(factory_.linear(state), form.path, {input.codes}, linear, &form.module);
    if (rescaled) {
      output = call(factory_.token_scale(*rescaled), form.path + "_scale", {output, input.rows},
                    linear, &form.scale_module);
    }
    if (decision.operands) {
      emit_operand_codes(output, replaced, form.path, *decision.operands);
      for (Node* scaling : scalings_after(original->output())) {
        const std::size_t operand = constant_scaling(scaling)->operand;
        Node* node = copy_.node(scaling);
        node->output()->replaceAllUsesWith(node->input(operand));
      }
    } else if (decision.product) {
      emit_product_codes(output, replaced, form.path, *decision.product->next);
    } else if (plan.side.channels.empty()) {
      emit(output, replaced, form.path, Emission::Kind::kFloat);
    } else {
      output = call(factory_.side({at::tensor(plan.side.channels, at::kLong), plan.side.scale,
                                   plan.side.zero_point, plan.side.bits, plan.side.weight.codes,
                                   plan.side.weight.scale}),
                    form.path + "_side", {output, x}, linear, &form.side_module);
      emit(output, replaced, form.path, Emission::Kind::kFloat);
    }
    copy_.value(replaced)->replaceAllUsesWith(output);
    result_.sites.push_back(form);
  }

  /// The int8 codes of an attention operand; made here unless they arrive as codes.
  Value* operand_codes(Node* original, std::size_t offset, const OperandQuantizer& operand,
                       const PlannedSite& site, const std::string& suffix) {
    Node* product = copy_.node(original);
    if (decisions_.codes.count(original->input(offset)) > 0) return product->input(offset);
    const QuantizeState state{
        operand.multiplier,    operand.zero_point, operand.max_code(), false, true,
        operand_shift(operand)};
    std::string name;
    Value* codes = call(factory_.quantize(state), site.plan->path + suffix,
                        {product->input(offset)}, product, &name);
    emit_operand_codes(codes, original->input(offset), site.plan->path,
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

  LoweredSite form_of(const PlannedSite& site) const {
    LoweredSite form;
    form.path = site.plan->path;
    form.kind = site.plan->kind;
    return form;
  }

  void lower_embedding(Node* original, const PlannedSite& site) {
    const QuantizedWeight& table = site.embedding()->table;
    LoweredSite form = form_of(site);
    form.input = SiteInput::kIndices;
    form.output = SiteOutput::kFloat;
    Node* embedding = copy_.node(original);
    Value* output = call(factory_.embedding({table.codes, table.bits, table.scale}), form.path,
                         {embedding->input(1)}, embedding, &form.module);
    embedding->output()->replaceAllUsesWith(output);
    emit(output, original->output(), form.path, Emission::Kind::kFloat);
    result_.sites.push_back(form);
  }

  void lower_scores(Node* original, const PlannedSite& site) {
    const ScoresPlan& plan = *site.scores();
    LoweredSite form = form_of(site);
    form.input = SiteInput::kOperands;
    Value* left = operand_codes(original, 0, plan.left, site, "_left");
    Value* right = operand_codes(original, 1, plan.right, site, "_right");
    ScoresState state;
    state.left_zero = stored_zero(plan.left);
    state.right_zero = stored_zero(plan.right);
    state.left_bits = plan.left.bits;
    state.right_bits = plan.right.bits;
    state.scale = plan.left.scale * plan.right.scale;
    for (const auto& [attend, decision] : decisions_.attends) {
      state.raw = state.raw || decision.raw_scores == original;
    }
    form.output = state.raw ? SiteOutput::kIntegerProducts : SiteOutput::kFloat;
    Node* scores = copy_.node(original);
    Value* output = call(factory_.scores(state), form.path, {left, right}, scores, &form.module);
    Emission& emission = emit(output, original->output(), form.path,
                              state.raw ? Emission::Kind::kRowRelative : Emission::Kind::kFloat);
    emission.scale = state.scale;
    scores->output()->replaceAllUsesWith(output);
    raw_outputs_[original] = output;
    result_.sites.push_back(form);
  }

  void lower_attend(Node* original, const PlannedSite& site) {
    const AttendPlan& plan = *site.attend();
    const AttendDecision& decision = decisions_.attends.at(original);
    LoweredSite form = form_of(site);
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
      state.factor = state.factor * to_double(scores.left.scale) * to_double(scores.right.scale) *
                     decision.score_factor;
      state.fresh = true;
    }
    form.output = SiteOutput::kFloat;
    if (decision.next != nullptr) {
      state.multiplier = state.multiplier * to_double(decision.multiplier);
      state.offset = decision.offset;
      state.output_max_code = decision.next->max_code();
      form.output = SiteOutput::kProductCodes;
    }
    Node* attend = copy_.node(original);
    // The module takes scores: softmax becomes part of it.
    Node* softmax = copy_.node(std::get<AttendSite>(site.site->kind).softmax);
    softmax->output()->replaceAllUsesWith(
        decision.raw_scores != nullptr ? raw_outputs_.at(decision.raw_scores) : softmax->input(0));
    Value* output =
        call(factory_.attend(state), form.path,
             {attend->input(0), codes, score_factor(decision, attend)}, attend, &form.module);
    if (decision.next != nullptr) {
      const at::Tensor m = decision.multiplier, a = decision.offset;
      const std::int64_t top = decision.next->max_code();
      Emission& emission = emit(output, original->output(), form.path, Emission::Kind::kCodes);
      emission.behind_softmax = true;
      emission.reference = [m, a, top](const at::Tensor& x) {
        return at::round(x * m + a).clamp(0, top).to(at::kByte);
      };
    } else {
      emit(output, original->output(), form.path, Emission::Kind::kRounded);
    }
    attend->output()->replaceAllUsesWith(output);
    result_.sites.push_back(form);
  }

  /// Product of the factors that the model computes between scores and softmax.
  Value* score_factor(const AttendDecision& decision, Node* before) {
    Graph& graph = *copy_.graph;
    torch::jit::WithInsertPoint guard(before);
    Value* product = graph.insertConstant(1.0);
    if (decision.raw_scores == nullptr) return product;
    for (const auto& scaling : decision.score_numbers) {
      const auto symbol = scaling.divides ? c10::aten::div : c10::aten::mul;
      product = graph.insert(symbol, {product, copy_.value(scaling.number)});
    }
    return product;
  }

  void finish() {
    auto& graph = copy_.graph;
    torch::jit::EliminateDeadCode(graph);
    tidy_constants(*graph);
    graph->lint();
    auto* function = factory_.unit()->create_function(
        c10::QualifiedName(*root_.type()->name(), "forward"), graph);
    std::vector<c10::Argument> arguments{c10::Argument("self", root_.type())};
    for (std::size_t i = 0; i < result_.model.argument_names.size(); ++i) {
      std::optional<c10::IValue> fallback;
      if (i < options_.defaults.size()) fallback = options_.defaults[i];
      arguments.emplace_back(result_.model.argument_names[i], graph->inputs()[i + 1]->type(),
                             std::nullopt, std::move(fallback));
    }
    std::vector<c10::Argument> returns;
    for (const Value* output : graph->outputs()) returns.emplace_back("", output->type());
    function->setSchema(c10::FunctionSchema("forward", "", arguments, returns));
    root_.type()->addMethod(function);
    result_.graph = graph;
    result_.module = root_;
  }

  const LowerOptions& options_;
  ModuleFactory factory_;
  Module root_;
  GraphCopy copy_;
  Value* self_ = nullptr;
  PlannedSites planned_;
  Decisions decisions_;
  Names names_;
  std::unordered_map<const Node*, std::string> norm_modules_;
  std::unordered_map<const Value*, at::Tensor> shifted_;  // outputs of norms that have no bias
  std::unordered_map<const Node*, Value*> raw_outputs_;
  std::unordered_map<const Value*, std::size_t> lowered_readers_;  // of a constant
  std::unordered_map<const Value*, std::vector<MadeCodes>> quantized_;
  Lowered result_;
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
