// A softmax of its own for each reader, where one of them is a product that takes it over.
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <vector>

#include "graph/normalize.h"
#include "graph/operator_kinds.h"
#include "graph/rewrite.h"
#include "graph/site.h"

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Value;

/// True for what gives on the elements of its operand, in one tensor.
bool gives_on(const Node* node) {
  return node->outputs().size() == 1 &&
         (is_shape_only(node) || is_kind(node, "aten::to") || is_kind(node, "aten::type_as"));
}

std::vector<torch::jit::Use> element_uses(const Value* value) {
  std::vector<torch::jit::Use> result;
  for (const auto& use : value->uses()) {
    if (!reads_shape_only(use.user)) result.push_back(use);
  }
  return result;
}

bool reaches_product(const torch::jit::Use& use) {
  if (is_kind(use.user, "aten::matmul")) return true;
  if (use.offset != 0 || !gives_on(use.user)) return false;
  const auto uses = element_uses(use.user->output());
  return std::any_of(uses.begin(), uses.end(), reaches_product);
}

void separate_readers(Node* softmax) {
  constexpr std::size_t kMostReaders = 8;
  std::vector<Node*> chain{softmax};
  for (;;) {
    const auto uses = element_uses(chain.back()->output());
    if (uses.empty() || uses.size() > kMostReaders) return;
    if (uses.size() > 1 && std::any_of(uses.begin(), uses.end(), reaches_product)) {
      for (std::size_t i = 1; i < uses.size(); ++i) {
        Node* last = chain.back();
        std::vector<Node*> copies;
        for (Node* node : chain) {
          copies.push_back(softmax->owningGraph()->createClone(node, [](Value* v) { return v; }));
          copies.back()->insertAfter(last)->copyMetadata(node);
          if (copies.size() > 1)
            copies.back()->replaceInput(0, copies[copies.size() - 2]->output());
          last = copies.back();
        }
        uses[i].user->replaceInput(uses[i].offset, copies.back()->output());
        separate_readers(copies.front());
      }
    }
    if (uses[0].offset != 0 || !gives_on(uses[0].user)) return;
    chain.push_back(uses[0].user);
  }
}

}  // namespace

void separate_softmax_readers(std::shared_ptr<torch::jit::Graph>& graph) {
  for (Node* node : all_nodes(*graph)) {
    if (is_softmax(node)) separate_readers(node);
  }
}

}  // namespace repquant
