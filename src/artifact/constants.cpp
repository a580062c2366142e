#include "artifact/constants.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <vector>

#include "graph/rewrite.h"

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Value;

bool same_content(const at::Tensor& a, const at::Tensor& b) {
  return a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes() && a.layout() == b.layout() &&
         at::equal(a, b);
}

}  // namespace

void tidy_constants(torch::jit::Graph& graph) {
  std::vector<at::Tensor> seen;
  for (Node* node : all_nodes(graph)) {
    for (Value* output : node->outputs()) {
      if (output->type()->isSubtypeOf(*c10::TensorType::get())) {
        output->setType(c10::TensorType::get());
      }
    }
    if (node->kind() != c10::prim::Constant) continue;
    const at::Tensor tensor = constant_tensor(node->output());
    if (!tensor.defined()) continue;
    at::Tensor own;
    for (const auto& other : seen) {
      if (same_content(other, tensor)) own = other;
    }
    if (!own.defined()) {
      own = tensor.detach().clone(at::MemoryFormat::Contiguous);
      seen.push_back(own);
    }
    node->t_(c10::attr::value, own);
  }
}

}  // namespace repquant
