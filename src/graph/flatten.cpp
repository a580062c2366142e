#include "graph/flatten.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/constant_propagation.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>

#include <functional>
#include <map>
#include <set>
#include <unordered_map>

#include "graph/functionalize.h"
#include "graph/refuse.h"
#include "graph/rewrite.h"
#include "graph/site_path.h"
#include "repquant/error.h"

namespace repquant {
namespace {

using torch::jit::Graph;
using torch::jit::Module;
using torch::jit::Node;
using torch::jit::Value;

/// Calls `visit` for each tensor inside a value.
void for_each_tensor(const c10::IValue& value, const std::function<void(const at::Tensor&)>& visit,
                     std::set<const void*>& objects) {
  if (value.isTensor()) {
    if (value.toTensor().defined()) visit(value.toTensor());
  } else if (value.isObject()) {
    const auto object = value.toObject();
    if (!objects.insert(object.get()).second) return;
    for (const auto& slot : object->slots()) for_each_tensor(slot, visit, objects);
  } else if (value.isTuple()) {
    for (const auto& item : value.toTupleRef().elements()) for_each_tensor(item, visit, objects);
  } else if (value.isList()) {
    for (const auto& item : value.toListRef()) for_each_tensor(item, visit, objects);
  } else if (value.isGenericDict()) {
    for (const auto& item : value.toGenericDict()) for_each_tensor(item.value(), visit, objects);
  }
}

/// Replaces what the graph reads of objects by constants.
class Attributes {
 public:
  Attributes(Graph& graph, const Module& module) : graph_(graph) {
    objects_.emplace(graph.inputs()[0], Named{module._ivalue(), ""});
  }

  void resolve() {
    for (Node* node : all_nodes(graph_)) {
      if (node->kind() != c10::prim::GetAttr) continue;
      const auto owner = objects_.find(node->input(0));
      if (owner == objects_.end()) continue;
      const std::string name = node->s(c10::attr::name);
      const c10::IValue value = owner->second.value.toObjectRef().getAttr(name);
      const std::string path = owner->second.path.empty() ? name : owner->second.path + "." + name;
      if (value.isObject()) {
        objects_.emplace(node->output(), Named{value, path});
      } else if (Value* constant = constant_of(owner->second.value, path, name, value)) {
        node->output()->replaceAllUsesWith(constant);
      }
    }
  }

  /// The path of an assigned attribute, such as cache.keys.
  std::string path_of(const Node* set) const {
    const auto owner = objects_.find(set->input(0));
    const std::string& name = set->s(c10::attr::name);
    if (owner == objects_.end() || owner->second.path.empty()) return name;
    return owner->second.path + "." + name;
  }

 private:
  struct Named {
    c10::IValue value;
    std::string path;
  };

  Value* constant_of(const c10::IValue& owner, const std::string& path, const std::string& name,
                     const c10::IValue& value) {
    Value*& known = constants_[{owner.toObject().get(), name}];
    if (known != nullptr) return known;
    torch::jit::WithInsertPoint guard(*graph_.nodes().begin());
    if (last_ != nullptr) graph_.setInsertPoint(last_->next());
    known = insert(value, path);
    return known;
  }

  Value* insert(const c10::IValue& value, const std::string& path) {
    if (value.isTensorList()) {  // the weights of a recurrent layer
      std::vector<Value*> items;
      for (const at::Tensor& t : value.toTensorVector()) items.push_back(insert(t, path));
      return placed(graph_.insertNode(graph_.createList(c10::TensorType::get(), items)));
    }
    const c10::IValue frozen = value.isTensor() ? c10::IValue(value.toTensor().detach()) : value;
    const auto constant = torch::jit::tryInsertConstant(graph_, frozen);
    if (!constant) return nullptr;
    if (value.isTensor()) (*constant)->setDebugName("self." + path);
    return placed((*constant)->node());
  }

  Value* placed(Node* node) {
    last_ = node;
    return node->output();
  }

  Graph& graph_;
  std::unordered_map<const Value*, Named> objects_;
  std::map<std::pair<const void*, std::string>, Value*> constants_;
  Node* last_ = nullptr;
};

FileTensors count_tensors(const Module& module, Graph& graph) {
  std::map<const void*, at::Tensor> held;
  const auto hold = [&](const at::Tensor& t) {
    if (t.numel() > 0) held.emplace(t.const_data_ptr(), t);
  };
  std::set<const void*> objects;
  for_each_tensor(module._ivalue(), hold, objects);
  std::set<const void*> read;
  for (const Node* node : all_nodes(graph)) {
    if (node->kind() != c10::prim::Constant || node->outputs().size() != 1) continue;
    const at::Tensor t = constant_tensor(node->output());
    if (!t.defined() || t.numel() == 0) continue;
    read.insert(t.const_data_ptr());
    if (t.dim() > 0) hold(t);  // a tensor that tracing has written into the code
  }
  FileTensors tensors;
  for (const auto& [data, t] : held) {
    if (!t.is_floating_point()) {
      tensors.others += t.numel() * static_cast<std::int64_t>(t.element_size());
      continue;
    }
    tensors.parameters += t.numel();
    if (read.count(data) == 0) tensors.unread += t.numel();
  }
  return tensors;
}

}  // namespace

std::shared_ptr<Graph> flatten(const Module& module, const std::string& path,
                               FileTensors* tensors) {
  auto graph = torch::jit::toGraphFunction(module.get_method("forward").function()).graph()->copy();
  inline_calls(*graph);
  dissolve_local_objects(*graph);
  name_nodes(*graph, module);
  refuse_quantized(*graph, path);
  Attributes attributes(*graph, module);
  attributes.resolve();
  // Branches of training fall away before what assigns to attributes is judged.
  torch::jit::ConstantPropagationImmutableTypes(graph);
  torch::jit::EliminateDeadCode(graph);
  for (const Node* node : all_nodes(*graph)) {
    if (node->kind() != c10::prim::SetAttr) continue;
    if (node->input(0)->node()->kind() == c10::prim::CreateObject) {
      throw Error(ErrorKind::kUnsupported,
                  {.what = "forward() makes an object and changes it in a branch or a loop",
                   .where = path,
                   .got = "attribute " + node->s(c10::attr::name),
                   .hint = "export it with torch.jit.trace, or keep that value in a variable"});
    }
    throw Error(ErrorKind::kUnsupported,
                {.what = "the model keeps state: forward() assigns to its attribute " +
                         attributes.path_of(node),
                 .where = path,
                 .expected = "a model whose outputs depend on its inputs alone",
                 .hint = "export it with the state as an input and an output"});
  }
  refuse_written_state(*graph);
  for (const auto& use : graph->inputs()[0]->uses()) {
    throw Error(ErrorKind::kUnsupported,
                {.what = "the model uses itself as a value that is not known before it runs",
                 .where = path,
                 .got = describe_node(use.user),
                 .hint = "export it with torch.jit.trace"});
  }
  graph->eraseInput(0);
  *tensors = count_tensors(module, *graph);
  return graph;
}

}  // namespace repquant
