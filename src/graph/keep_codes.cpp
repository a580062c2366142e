#include "graph/keep_codes.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "graph/results.h"
#include "graph/rewrite.h"
#include "repquant/error.h"
#include "tensor/cache_codes.h"

namespace repquant {
namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

[[noreturn]] void fail(const std::string& where, std::size_t index, std::string got) {
  throw Error(ErrorKind::kUnsupported,
              {.what = "keys and values cannot be kept as codes",
               .where = where + ", kept tensor " + std::to_string(index),
               .expected = "torch.cat([past, new], tokens) that is given back, with values of a "
                           "token in the last dimension, and nothing else that reads the past",
               .got = std::move(got),
               .hint = "leave `attention.cache_bits` at 0"});
}

/// What a graph gives back.
struct Results {
  std::vector<Value*> values;        // in order
  std::set<const Node*> constructs;  // that put tuples and lists of them together, and the end

  void add(Value* value) {
    Node* node = value->node();
    if (!is_kind(node, "prim::TupleConstruct") && !is_kind(node, "prim::ListConstruct")) {
      values.push_back(value);
      return;
    }
    constructs.insert(node);
    for (Value* item : node->inputs()) add(item);
  }
};

/// Sizes other than the last one: the same for codes.
bool reads_other_sizes(const Node* node, std::size_t dimensions) {
  if (!is_kind(node, "aten::size")) return false;
  const auto other = [&](const Value* axis) {
    const auto number = constant_int(axis);
    return number && *number != -1 && *number != static_cast<std::int64_t>(dimensions) - 1;
  };
  if (node->inputs().size() == 2) return other(node->input(1));
  const auto& uses = node->output()->uses();  // of all sizes
  return std::all_of(uses.begin(), uses.end(), [&](const auto& use) {
    return is_kind(use.user, "aten::__getitem__") && other(use.user->input(1));
  });
}

struct Kept {
  Node* join = nullptr;  // cat([past, new], tokens)
  Value* past = nullptr;
  Value* fresh = nullptr;
};

std::optional<Kept> kept_by(Value* output) {
  Node* join = output->node();
  if (!is_kind(join, "aten::cat") || join->owningBlock() != output->owningGraph()->block()) {
    return {};
  }
  Node* parts = join->input(0)->node();
  if (!is_kind(parts, "prim::ListConstruct") || parts->inputs().size() != 2 ||
      parts->output()->uses().size() != 1 || !is_given(parts->input(0))) {
    return {};
  }
  return Kept{join, parts->input(0), parts->input(1)};
}

/// Why reading `past` at `use` would not be the same with codes; empty if it would.
std::string reader_in_the_way(const Node* user, const std::set<const Node*>& joins,
                              std::size_t dimensions) {
  if (is_kind(user, "prim::ListConstruct") && user->output()->uses().size() == 1 &&
      joins.count(user->output()->uses()[0].user) > 0) {
    return "";
  }
  return reads_other_sizes(user, dimensions) ? "" : "the past is read by " + kind_name(user);
}

/// Throws if anything reads `past`, or another element of its list, that would not be the same.
void check_readers(const Value* past, const std::set<const Node*>& joins, std::size_t dimensions,
                   const std::string& where, std::size_t index) {
  std::vector<const Value*> elements{past};
  if (past->node()->kind() != c10::prim::Param) {
    elements.clear();
    for (const auto& use : past->node()->input(0)->uses()) {
      for (const Value* element : use.user->outputs()) {
        if (element->type()->isSubtypeOf(*c10::TensorType::get())) elements.push_back(element);
      }
    }
  }
  for (const Value* element : elements) {
    for (const auto& use : element->uses()) {
      std::string reason = reader_in_the_way(use.user, joins, dimensions);
      if (!reason.empty()) fail(where, index, std::move(reason));
    }
  }
}

Value* insert_node(Node* before, const char* kind, Value* input) {
  Graph& graph = *before->owningGraph();
  Node* node = graph.create(c10::Symbol::fromQualString(kind), {input});
  node->output()->setType(c10::TensorType::get());
  node->insertBefore(before);
  return node->output();
}

/// codes = cat([past, cache_quantize(new)], tokens); all readers of the joined values but the
/// outputs read cache_dequantize(codes).
void rewrite(const Kept& kept, const std::set<const Node*>& constructs) {
  Node* join = kept.join;
  Node* parts = join->input(0)->node();
  parts->replaceInput(1, insert_node(parts, kCacheQuantizeOp, kept.fresh));
  Value* codes = join->output();
  const std::vector<torch::jit::Use> uses = codes->uses();
  Value* values = nullptr;
  for (const auto& use : uses) {
    if (constructs.count(use.user) > 0) continue;
    if (values == nullptr) {
      values = insert_node(join->next(), kCacheDequantizeOp, codes);
      values->node()->moveAfter(join);
    }
    use.user->replaceInput(use.offset, values);
  }
}

}  // namespace

void keep_codes(Graph& graph, const KeptShapes& shapes, const std::string& where) {
  const std::size_t count = shapes.size();
  Results results{{}, {graph.return_node()}};
  for (Value* output : graph.outputs()) results.add(output);
  const std::vector<Value*>& outputs = results.values;
  if (outputs.size() < count) fail(where, 0, std::to_string(outputs.size()) + " outputs");
  std::vector<Kept> all;
  std::set<const Node*> joins;
  for (std::size_t i = 0; i < count; ++i) {
    Value* output = outputs[outputs.size() - count + i];
    const auto kept = kept_by(output);
    if (shapes[i].back() == 0) fail(where, i, "tokens in the last dimension");
    if (!kept) fail(where, i, "given back: " + kind_name(output->node()));
    all.push_back(*kept);
    joins.insert(kept->join);
  }
  if (joins.size() != count) fail(where, 0, "one that is given back twice");
  for (std::size_t i = 0; i < count; ++i) {
    check_readers(all[i].past, joins, shapes[i].size() + 1, where, i);
  }
  for (const Kept& kept : all) rewrite(kept, results.constructs);
}

bool pass_cache(const Node* node, Values& values) {
  const auto put = [&](c10::IValue value) { values[node->output()] = std::move(value); };
  if (is_kind(node, kCacheQuantizeOp)) {
    put(values.at(node->input(0)));
    return true;
  }
  if (is_kind(node, kCacheDequantizeOp)) {
    const at::Tensor given = values.at(node->input(0)).toTensor();
    put(given.scalar_type() == at::kByte ? cache_values(given) : given);
    return true;
  }
  if (!is_kind(node, "aten::cat")) return false;
  const Node* parts = node->input(0)->node();
  if (parts->inputs().size() != 2 || !is_kind(parts->input(1)->node(), kCacheQuantizeOp))
    return false;
  std::vector<at::Tensor> tensors = values.at(node->input(0)).toTensorVector();
  if (tensors[0].scalar_type() == at::kByte) tensors[0] = cache_values(tensors[0]);
  put(at::cat(tensors, values.at(node->input(1)).toInt()));
  return true;
}

}  // namespace repquant
