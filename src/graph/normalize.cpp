#include "graph/normalize.h"

#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/common_subexpression_elimination.h>
#include <torch/csrc/jit/passes/constant_propagation.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>
#include <torch/csrc/jit/passes/loop_unrolling.h>
#include <torch/csrc/jit/passes/lower_tuples.h>
#include <torch/csrc/jit/passes/peephole.h>
#include <torch/csrc/jit/passes/remove_exceptions.h>
#include <torch/csrc/jit/passes/remove_mutation.h>

#include <limits>
#include <optional>
#include <set>
#include <string>

#include "graph/in_place.h"
#include "graph/rank.h"
#include "graph/rewrite.h"
#include "graph/value_facts.h"

namespace repquant {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

Value* named_input(const Node* node, const std::string& name) {
  const auto* schema = node->maybeSchema();
  if (schema == nullptr) return nullptr;
  const auto index = schema->argumentIndexWithName(name);
  return index ? const_cast<Node*>(node)->input(static_cast<std::size_t>(*index)) : nullptr;
}

namespace {

/// Dropout does nothing in eval mode; its `train` input is a constant once the model is frozen.
void remove_dropout(Graph& graph) {
  for (Node* node : all_nodes(graph)) {
    const std::string kind = node->kind().toQualString();
    if (kind != "aten::dropout" && kind != "aten::dropout_" && kind != "aten::feature_dropout") {
      continue;
    }
    const auto train = torch::jit::constant_as<bool>(node->input(2));
    if (train && !*train) {
      node->output()->replaceAllUsesWith(node->input(0));
      node->destroy();
    }
  }
}

/// Nodes that return their input unchanged for inference on one device.
void remove_identities(Graph& graph) {
  for (Node* node : all_nodes(graph)) {
    const std::string kind = node->kind().toQualString();
    if (kind == "aten::detach" || kind == "aten::alias") {
      node->output()->replaceAllUsesWith(node->input(0));
      node->destroy();
    }
  }
}

/// Operators that only gradients tell from another one, or that name its dimension.
void rename_unsafe_views(Graph& graph) {
  static const std::map<std::string, std::int64_t> kSplits{
      {"aten::vsplit", 0}, {"aten::hsplit", 1}, {"aten::dsplit", 2}};
  static const std::map<std::string, std::string> kNames{
      {"aten::unsafe_chunk", "aten::chunk"},
      {"aten::unsafe_split", "aten::split"},
      {"aten::unsafe_split_with_sizes", "aten::split_with_sizes"},
      {"aten::_unsafe_view", "aten::view"}};
  for (Node* node : all_nodes(graph)) {
    if (const auto split = kSplits.find(kind_name(node)); split != kSplits.end()) {
      if (split->second == 1 && rank_of(node->input(0)).value_or(1) < 2) continue;
      torch::jit::WithInsertPoint guard(node);
      Value* dimension = graph.insertConstant(split->second);
      Node* parts = graph.create(c10::Symbol::fromQualString("aten::tensor_split"),
                                 {node->input(0), node->input(1), dimension});
      graph.insertNode(parts)->copyMetadata(node);
      parts->output()->setType(node->output()->type());
      node->output()->replaceAllUsesWith(parts->output());
      node->destroy();
      continue;
    }
    const auto name = kNames.find(kind_name(node));
    if (name == kNames.end()) continue;
    node->replaceWithNewSymbol(c10::Symbol::fromQualString(name->second))->copyMetadata(node);
    node->destroy();
  }
}

Value* insert_constant(Node* before, const c10::IValue& value) {
  torch::jit::WithInsertPoint guard(before);
  return before->owningGraph()->insertConstant(value);
}

/// True for an input, and for the result of an operator that always makes a new tensor. A caller
/// may pass one tensor for two inputs; whoever asks for that (nn.MultiheadAttention) then computes
/// the same another way.
bool is_own_tensor(const Value* value) {
  static const std::set<std::string> kMayReturnOperand{"aten::contiguous", "aten::to",
                                                       "aten::type_as"};
  if (value->type()->kind() != c10::TypeKind::TensorType) return false;
  if (value->node()->kind() == c10::prim::Param) return true;
  const std::string kind = value->node()->kind().toQualString();
  return kind.starts_with("aten::") && kMayReturnOperand.count(kind) == 0;
}

/// len(x.size())
bool is_length_of_shape(const Node* node) {
  return is_kind(node, "aten::len") && is_kind(node->input(0)->node(), "aten::size") &&
         node->input(0)->node()->inputs().size() == 1;
}

/// x.unsqueeze(d).size(d)
bool is_size_of_new_dimension(const Node* node) {
  if (!is_kind(node, "aten::size") || node->inputs().size() != 2) return false;
  const Node* made = node->input(0)->node();
  const auto dimension = constant_int(node->input(1));
  return is_kind(made, "aten::unsqueeze") && dimension && dimension == constant_int(made->input(1));
}

/// True for the question of scripted nn.TransformerDecoder whether a mask is the causal one. Its
/// attention adds the mask or, told so, makes the same one itself.
bool asks_for_causal_mask(const Node* node) {
  const auto reads = [](const Node* reader, std::size_t i) { return reader->input(i)->node(); };
  if (!is_kind(node, "aten::Bool") || !is_kind(reads(node, 0), "aten::all")) return false;
  const Node* equal = reads(reads(node, 0), 0);
  if (!is_kind(equal, "aten::eq") || !is_kind(reads(equal, 1), "aten::triu")) return false;
  const Node* causal = reads(equal, 1);
  if (!is_one(causal->input(1)) || !is_kind(reads(causal, 0), "aten::full")) return false;
  const auto value = torch::jit::constant_as<double>(reads(causal, 0)->input(1));
  return value && *value == -std::numeric_limits<double>::infinity();
}

/// A float32 tensor that a conversion leaves as it is: w.to(x.dtype), w.to(x), w.type_as(x) where
/// x is float32 too. Models run on one device. Of an input only the calibration data tell the type:
/// callers may give another one, which the conversion is for.
bool keeps_float32(const Node* node, Float32Values& float32) {
  if (!is_kind(node, "aten::to") && !is_kind(node, "aten::type_as")) return false;
  if (!float32.contains(node->input(0)) || type_of_input(node->input(0))) return false;
  const Value* copy = named_input(node, "copy");  // which others may write into
  if (copy != nullptr && torch::jit::constant_as<bool>(copy) != std::optional(false)) return false;
  if (const Value* other = named_input(node, "other")) return float32.contains(other);
  const Value* type = named_input(node, "dtype");
  return type != nullptr &&
         (type->mustBeNone() ||
          constant_int(type) == std::optional<std::int64_t>(static_cast<std::int64_t>(at::kFloat)));
}

std::optional<at::ScalarType> known_type(const Value* value, Float32Values& float32) {
  if (float32.contains(value)) return at::kFloat;
  return is_bool(value) ? at::kBool : type_of_input(value);
}

/// Questions whose answer is known here: there are no gradients, no autocast, no nested tensors,
/// and the ranks, widths and types of many values. nn.MultiheadAttention asks them before it takes
/// its fast path and before it splits its weight. Returns how many were answered.
int answer_questions(Graph& graph) {
  int answered = 0;
  Float32Values float32;
  static const std::set<std::string> kNo{"aten::is_autocast_enabled",
                                         "aten::is_autocast_cpu_enabled", "aten::is_grad_enabled",
                                         "prim::requires_grad", "prim::is_nested"};
  for (Node* node : all_nodes(graph)) {
    const std::string kind = node->kind().toQualString();
    std::optional<c10::IValue> answer;
    if (kNo.count(kind) > 0 || asks_for_causal_mask(node)) {
      answer = false;
    } else if (kind == "aten::__is__" || kind == "aten::__isnot__") {
      const bool same = node->input(0) == node->input(1);
      if (same || (is_own_tensor(node->input(0)) && is_own_tensor(node->input(1)))) {
        answer = same == (kind == "aten::__is__");
      }
    } else if (kind == "prim::type" && is_kind(node->input(0)->node(), "prim::device")) {
      answer = std::string("cpu");
    } else if (kind == "aten::dim" || is_length_of_shape(node)) {
      const Value* x = kind == "aten::dim" ? node->input(0) : node->input(0)->node()->input(0);
      if (const auto rank = rank_of(x)) answer = *rank;
    } else if (is_size_of_new_dimension(node)) {
      answer = std::int64_t{1};
    } else if (kind == "aten::size" && node->inputs().size() == 2) {
      if (dimension_from_end(node->input(1), node->input(0)) == std::optional<std::int64_t>(-1)) {
        if (const auto width = width_of(node->input(0))) answer = *width;
      }
    } else if (kind == "prim::dtype") {
      if (const auto type = known_type(node->input(0), float32)) {
        answer = static_cast<std::int64_t>(*type);
      }
    } else if (kind == "aten::is_floating_point") {
      if (const auto type = known_type(node->input(0), float32)) {
        answer = at::isFloatingType(*type);
      }
    }
    if (answer && node->hasUses()) {
      node->output()->replaceAllUsesWith(insert_constant(node, *answer));
      ++answered;
    } else if (keeps_float32(node, float32) && node->hasUses()) {
      node->output()->replaceAllUsesWith(node->input(0));
      ++answered;
    }
    if (!node->blocks().empty()) continue;  // asked for behind what its blocks ask
    for (const Value* output : node->outputs()) float32.contains(output);
  }
  return answered;
}

int count_branches(Graph& graph) {
  int count = 0;
  for (const Node* node : all_nodes(graph)) count += node->kind() == c10::prim::If ? 1 : 0;
  return count;
}

/// Parts of a constant (split, chunk, unbind) become constants. LibTorch folds no operator that
/// gives a list of tensors.
void fold_parts_of_constants(Graph& graph) {
  for (Node* node : all_nodes(graph)) {
    if (!gives_parts(node)) continue;
    if (!constant_tensor(node->input(0)).defined()) continue;
    const auto result = torch::jit::runNodeIfInputsAreConstant(node);
    if (!result || result->size() != 1 || !result->front().isTensorList()) continue;
    const auto parts = result->front().toTensorVector();
    const auto uses = node->output()->uses();  // a copy: replacing changes it
    for (const auto& use : uses) {
      if (is_kind(use.user, "prim::ListUnpack") && use.user->outputs().size() == parts.size()) {
        for (std::size_t i = 0; i < parts.size(); ++i) {
          use.user->outputs()[i]->replaceAllUsesWith(
              insert_tensor(use.user, parts[i].contiguous()));
        }
      } else if (is_kind(use.user, "aten::__getitem__")) {
        const auto index = constant_int(use.user->input(1));
        const auto count = static_cast<std::int64_t>(parts.size());
        if (!index || *index < -count || *index >= count) continue;
        const auto i = static_cast<std::size_t>(*index < 0 ? *index + count : *index);
        use.user->output()->replaceAllUsesWith(insert_tensor(use.user, parts[i].contiguous()));
      }
    }
  }
}

/// True if the model itself has the elements of `value` in order in memory, as products and
/// convolutions give them, whatever a rewrite of those gives.
bool is_in_order(const Value* value, int depth) {
  static const std::set<std::string> kInOrder{
      "aten::linear",       "aten::matmul",      "aten::bmm",     "aten::mm",
      "aten::addmm",        "aten::conv1d",      "aten::conv2d",  "aten::conv3d",
      "aten::_convolution", "aten::convolution", "aten::baddbmm", "aten::contiguous"};
  static const std::set<std::string> kKeepOrder{
      "aten::relu",    "aten::gelu",    "aten::silu",      "aten::tanh",    "aten::sigmoid",
      "aten::reshape", "aten::flatten", "aten::unflatten", "aten::squeeze", "aten::unsqueeze"};
  const std::string kind = kind_name(value->node());
  if (kInOrder.count(kind) > 0) return true;
  return depth > 0 && kKeepOrder.count(kind) > 0 && is_in_order(value->node()->input(0), depth - 1);
}

}  // namespace

void views_to_reshapes(Graph& graph) {
  for (Node* node : all_nodes(graph)) {
    if (is_kind(node, "aten::as_strided") && is_in_order(node->input(0), 16)) {
      torch::jit::WithInsertPoint guard(node);
      Value* format = graph.insertConstant(static_cast<std::int64_t>(at::MemoryFormat::Contiguous));
      Node* ordered = graph.create(c10::aten::contiguous, {node->input(0), format});
      graph.insertNode(ordered)->copyMetadata(node);
      node->replaceInput(0, ordered->output());
    }
    const bool like = is_kind(node, "aten::view_as");
    const bool view = is_kind(node, "aten::view") && node->inputs().size() == 2 &&
                      node->input(1)->type()->isSubtypeOf(*c10::ListType::ofInts());
    if (!like && !view) continue;
    const char* kind = like ? "aten::reshape_as" : "aten::reshape";
    node->replaceWithNewSymbol(c10::Symbol::fromQualString(kind))->copyMetadata(node);
    node->destroy();
  }
}

int remove_messages(Graph& graph) {
  int count = 0;
  for (Node* node : all_nodes(graph)) {
    if (node->kind() != c10::prim::Print && node->kind() != c10::aten::warn) continue;
    node->destroy();
    ++count;
  }
  return count;
}

void clean_graph(std::shared_ptr<Graph>& graph) {
  remove_dropout(*graph);
  remove_identities(*graph);
  rename_unsafe_views(*graph);
  // Folding a condition uncovers constants behind it, so a few rounds are needed: three suffice for
  // every traced model, one for each layer where a layer asks for the rank or the type of what the
  // one before it gives. A question that was answered is gone, so this ends.
  int branches = count_branches(*graph) + 1, answered = 0;
  for (int round = 0; round < 3 || answered > 0 || count_branches(*graph) < branches; ++round) {
    branches = count_branches(*graph);
    answered = answer_questions(*graph);
    torch::jit::EliminateExceptions(graph);
    torch::jit::LowerSimpleTuples(graph);
    torch::jit::ConstantPropagation(graph);
    fold_parts_of_constants(*graph);
    torch::jit::UnrollConstantLoops(graph);
    torch::jit::RemoveListMutation(graph);
    torch::jit::RemoveTensorMutation(graph, keeps_type_in_place);
    torch::jit::PeepholeOptimize(graph);
    torch::jit::EliminateCommonSubexpression(graph);
    torch::jit::EliminateDeadCode(graph);
  }
  remove_dropout(*graph);
  torch::jit::EliminateDeadCode(graph);
}

}  // namespace repquant
