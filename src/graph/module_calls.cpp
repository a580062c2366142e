#include "graph/module_calls.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>

namespace repquant {

bool run_module_call(const torch::jit::Node* node, Values& values) {
  if (node->kind() == c10::prim::GetAttr) {
    values[node->output()] =
        values.at(node->input(0)).toObjectRef().getAttr(node->s(c10::attr::name));
    return true;
  }
  if (node->kind() != c10::prim::CallMethod) return false;
  torch::jit::Module module(values.at(node->input(0)).toObject());
  std::vector<c10::IValue> arguments;
  for (std::size_t i = 1; i < node->inputs().size(); ++i) {
    arguments.push_back(values.at(node->input(i)));
    if (arguments.back().isTensor()) arguments.back() = arguments.back().toTensor().clone();
  }
  values[node->output()] = module.get_method(node->s(c10::attr::name))(std::move(arguments));
  return true;
}

}  // namespace repquant
