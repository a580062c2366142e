// Transposed convolutions as a Linear that gives each element's part of the output, and their sum.
#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/ir.h>

#include <string>
#include <vector>

#include "graph/convolution.h"
#include "graph/normalize.h"
#include "graph/rewrite.h"

namespace repquant {
namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

/// [1, number] for one dimension, as col2im has two.
std::string pair_of(const std::vector<std::int64_t>& numbers, std::int64_t missing) {
  const std::string last = std::to_string(numbers.back());
  return "[" + std::to_string(numbers.size() == 1 ? missing : numbers.front()) + ", " + last + "]";
}

std::string text_of(const Convolution& convolution) {
  const auto size = [&](std::size_t d) {
    const std::int64_t constant = convolution.dilation[d] * (convolution.kernel[d] - 1) +
                                  convolution.after[d] + 1 - 2 * convolution.before[d];
    return "(x.size(" + std::to_string(d + 2) + ") - 1) * " +
           std::to_string(convolution.stride[d]) + " + " + std::to_string(constant);
  };
  const bool flat = convolution.dimensions() == 1;
  return "def spread(x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:\n"
         "    sizes = [" +
         (flat ? "1" : size(0)) + ", " + size(flat ? 0 : 1) +
         "]\n    y = torch.linear(x.flatten(2).transpose(1, 2), weight, None).transpose(1, 2)\n"
         "    y = torch.col2im(y, sizes, " +
         pair_of(convolution.kernel, 1) + ", " + pair_of(convolution.dilation, 1) + ", " +
         pair_of(convolution.before, 0) + ", " + pair_of(convolution.stride, 1) + ")\n" +
         (flat ? "    y = y.squeeze(2)\n" : "") +
         "    if bias is not None:\n        y = y + bias\n    return y\n";
}

}  // namespace

void decompose_transposed_convolutions(std::shared_ptr<Graph>& graph) {
  bool changed = false;
  for (Node* node : all_nodes(*graph)) {
    if (node->owningBlock() != graph->block()) continue;  // no site in a branch
    const auto convolution = read_transposed_convolution(node);
    if (!convolution || convolution->groups != 1 || convolution->dimensions() > 2) continue;
    const at::Tensor rows = convolution->weight.flatten(1).t().contiguous();
    Value* bias = node->input(2);
    if (convolution->bias.defined()) {
      std::vector<std::int64_t> shape(convolution->dimensions() + 1, 1);
      shape[0] = -1;
      bias = insert_tensor(node, convolution->bias.reshape(shape));
    }
    replace_node(node, *compile_function(text_of(*convolution), "spread"),
                 {node->input(0), insert_tensor(node, rows), bias});
    changed = true;
  }
  if (changed) clean_graph(graph);
}

}  // namespace repquant
