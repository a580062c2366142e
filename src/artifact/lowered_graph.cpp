#include "artifact/lowered_graph.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>

#include <utility>

#include "artifact/constants.h"
#include "plan/simulate.h"
#include "tensor/deviation.h"

namespace repquant {

using torch::jit::Graph;
using torch::jit::Module;
using torch::jit::Node;
using torch::jit::Value;

std::string PartNames::unique(const std::string& path) {
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

LoweredGraph::LoweredGraph(Model model)
    : copy(*model.graph),
      root_(c10::QualifiedName("__torch__.repquant.QuantizedModel"), factory.unit()) {
  result.model = std::move(model);
  root_.register_attribute("training", c10::BoolType::get(), false);
  self_ = copy.graph->insertInput(0, "self");
  self_->setType(root_.type());
}

Value* LoweredGraph::call(const Module& module, const std::string& path,
                          const std::vector<Value*>& inputs, Node* before, std::string* name) {
  *name = names_.unique(path);
  root_.register_module(*name, module);
  Graph& graph = *copy.graph;
  torch::jit::WithInsertPoint guard(before);
  Value* object = graph.insertGetAttr(self_, *name);
  std::vector<Value*> arguments{object};
  arguments.insert(arguments.end(), inputs.begin(), inputs.end());
  Node* node = graph.insertNode(graph.create(c10::prim::CallMethod, arguments));
  node->s_(c10::attr::name, "forward");
  node->output()->setType(c10::TensorType::get());
  return node->output();
}

Value* LoweredGraph::apply(c10::Symbol symbol, Value* x, const at::Tensor& constant, Node* before) {
  torch::jit::WithInsertPoint guard(before);
  return copy.graph->insert(symbol, {x, copy.graph->insertConstant(constant)});
}

Emission& LoweredGraph::emit(Value* output, const Value* original, const std::string& path,
                             Emission::Kind kind) {
  Emission emission;
  emission.call = output->node();
  emission.original = original;
  emission.path = path;
  emission.kind = kind;
  result.emissions.push_back(std::move(emission));
  return result.emissions.back();
}

void LoweredGraph::emit_product_codes(Value* output, const Value* original, const std::string& path,
                                      const InputQuantizer& quantizer) {
  Emission& emission = emit(output, original, path, Emission::Kind::kCodes);
  emission.levels = quantizer.form == CodeForm::kQuadratic ? square_levels() : quantizer.levels;
  emission.reference = [quantizer](const at::Tensor& x) {
    return product_codes(encode(x, quantizer), quantizer).to(at::kByte);
  };
}

/// The reference must be the very codes that the simulation computes, in its order of roundings:
/// the factor first. One code at a tie moves a row or a column of the scores.
void LoweredGraph::emit_operand_codes(Value* output, const Value* original, const std::string& path,
                                      const OperandCodes& operand) {
  Emission& emission = emit(output, original, path, Emission::Kind::kCodes);
  const at::Tensor m = (operand.multiplier / operand.factor).to(at::kFloat);
  const at::Tensor f = operand.factor.to(at::kFloat), z = operand.zero_point.to(at::kFloat);
  emission.reference = [m, f, z, max_code = operand.max_code,
                        shift = operand.shift](const at::Tensor& x) {
    return (at::round(x * f * m + z).clamp(0, max_code) - shift).to(at::kChar);
  };
}

void LoweredGraph::release(Value* weight) {
  if (result.model.graph.use_count() > 1) return;
  if (weight->node()->kind() != c10::prim::Constant) return;
  if (++lowered_readers_[weight] < weight->uses().size()) return;
  for (Value* value : {weight, copy.value(weight)}) {
    value->node()->t_(c10::attr::value, at::empty({0}, at::kFloat));
  }
}

Lowered LoweredGraph::finish(const LowerOptions& options) {
  auto& graph = copy.graph;
  torch::jit::EliminateDeadCode(graph);
  tidy_constants(*graph);
  graph->lint();
  auto* function =
      factory.unit()->create_function(c10::QualifiedName(*root_.type()->name(), "forward"), graph);
  std::vector<c10::Argument> arguments{c10::Argument("self", root_.type())};
  for (std::size_t i = 0; i < result.model.argument_names.size(); ++i) {
    std::optional<c10::IValue> fallback;
    if (i < options.defaults.size()) fallback = options.defaults[i];
    arguments.emplace_back(result.model.argument_names[i], graph->inputs()[i + 1]->type(),
                           std::nullopt, std::move(fallback));
  }
  std::vector<c10::Argument> returns;
  for (const Value* output : graph->outputs()) returns.emplace_back("", output->type());
  function->setSchema(c10::FunctionSchema("forward", "", arguments, returns));
  root_.type()->addMethod(function);
  result.graph = graph;
  result.module = root_;
  return std::move(result);
}

}  // namespace repquant
