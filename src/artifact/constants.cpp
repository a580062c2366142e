#include "artifact/constants.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
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

/// The constant as a file is to have it. A number that Python wrote (graph/portable_code.cpp marks
/// it; files do not keep the mark) becomes float32, which leaves and makes the same types: of
/// integers float32.
at::Tensor as_stored(const at::Tensor& tensor) {
  if (tensor.unsafeGetTensorImpl()->is_wrapped_number() && tensor.scalar_type() == at::kDouble) {
    at::Tensor number = tensor.to(at::kFloat);
    if (at::isinf(number).equal(at::isinf(tensor))) return number;
  }
  return tensor;
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
    const at::Tensor constant = constant_tensor(node->output());
    if (!constant.defined()) continue;
    const at::Tensor stored = as_stored(constant);
    const auto same = std::find_if(seen.begin(), seen.end(), [&](const at::Tensor& other) {
      return same_content(other, stored);
    });
    at::Tensor own;
    if (same != seen.end()) {
      own = *same;
    } else {
      own = stored.detach().clone(at::MemoryFormat::Contiguous);
      seen.push_back(own);
    }
    node->t_(c10::attr::value, own);
  }
}

}  // namespace repquant
