#include "graph/portable_code.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "base/text_table.h"
#include "graph/normalize.h"
#include "graph/rewrite.h"

namespace repquant {
namespace {

using torch::jit::Graph;
using torch::jit::Module;
using torch::jit::Node;
using torch::jit::Value;

using Types = std::set<at::ScalarType>;

/// The graphs of all methods of a module and its submodules, and of the functions they call.
class Code {
 public:
  explicit Code(const Module& module) {
    for (const Module& part : module.modules()) {
      for (torch::jit::Function* method : part.type()->methods()) add(method);
    }
  }
  const std::vector<std::shared_ptr<Graph>>& graphs() const { return graphs_; }

 private:
  void add(torch::jit::Function* function) {
    auto* body = torch::jit::tryToGraphFunction(*function);
    if (body == nullptr || !seen_.insert(function).second) return;
    graphs_.push_back(body->graph());
    for (const Node* node : all_nodes(*body->graph())) {
      if (node->kind() != c10::prim::Constant || node->outputs().size() != 1) continue;
      if (const auto type = node->output()->type()->cast<c10::FunctionType>()) {
        add(type->function());
      }
    }
  }

  std::set<const torch::jit::Function*> seen_;
  std::vector<std::shared_ptr<Graph>> graphs_;
};

/// Replaces the operand at `index` by a constant.
void set_operand(Node* node, std::size_t index, const c10::IValue& value) {
  torch::jit::WithInsertPoint guard(node);
  node->replaceInput(index, node->owningGraph()->insertConstant(value));
}

std::optional<std::size_t> index_of(const Node* node, const char* name) {
  const auto* schema = node->maybeSchema();
  if (schema == nullptr) return {};
  const auto index = schema->argumentIndexWithName(name);
  if (!index) return {};
  return static_cast<std::size_t>(*index);
}

// Devices ---------------------------------------------------------------------------------------

void use_cpu(const std::vector<std::shared_ptr<Graph>>& graphs, std::vector<std::string>& notes) {
  std::set<std::string> devices;
  for (const auto& graph : graphs) {
    for (Node* node : all_nodes(*graph)) {
      std::string device;
      if (node->kind() == c10::prim::Constant && node->outputs().size() == 1 &&
          node->output()->type()->kind() == c10::TypeKind::DeviceObjType) {
        const auto constant = torch::jit::toIValue(node->output());
        if (constant && constant->isDevice()) device = constant->toDevice().str();
      } else if (is_kind(node, "aten::device") || is_kind(node, "aten::cuda")) {
        device = constant_text(node->input(0)).value_or("cuda");
      }
      if (device.empty() || device == "cpu") continue;
      devices.insert(device);
      if (is_kind(node, "aten::cuda")) {
        node->output()->replaceAllUsesWith(node->input(0));
        continue;
      }
      torch::jit::WithInsertPoint guard(node);
      node->output()->replaceAllUsesWith(graph->insertConstant(c10::Device(c10::kCPU)));
    }
  }
  for (const auto& device : devices) {
    notes.push_back("the device " + device + " in the code of the model is replaced by the CPU");
  }
}

// Training --------------------------------------------------------------------------------------

bool is_true(const Value* value) { return torch::jit::constant_as<bool>(value).value_or(false); }

void switch_dropout_off(const std::vector<std::shared_ptr<Graph>>& graphs,
                        std::vector<std::string>& notes) {
  const std::set<std::string> dropouts{"aten::dropout",
                                       "aten::dropout_",
                                       "aten::feature_dropout",
                                       "aten::feature_dropout_",
                                       "aten::alpha_dropout",
                                       "aten::alpha_dropout_",
                                       "aten::feature_alpha_dropout",
                                       "aten::gru",
                                       "aten::lstm",
                                       "aten::rnn_tanh",
                                       "aten::rnn_relu"};
  int count = 0;
  for (const auto& graph : graphs) {
    for (Node* node : all_nodes(*graph)) {
      if (const auto p = index_of(node, "dropout_p")) {
        const auto rate = torch::jit::toIValue(node->input(*p));
        if (rate && rate->isDouble() && rate->toDouble() > 0.0) {
          set_operand(node, *p, 0.0);
          ++count;
        }
      }
      if (dropouts.count(node->kind().toQualString()) == 0) continue;
      const auto train = index_of(node, "train");
      if (!train || !is_true(node->input(*train))) continue;
      set_operand(node, *train, false);
      ++count;
    }
  }
  if (count > 0) {
    notes.push_back("switched off: " + counted(count, "dropout") +
                    " that the export left in training mode");
  }
}

/// True for a batch norm that normalizes by the batch although it has statistics of its own.
bool ignores_statistics(const Node* node) {
  static const std::set<std::string> kBatchNorms{"aten::batch_norm", "aten::_batch_norm_impl_index",
                                                 "aten::native_batch_norm",
                                                 "aten::cudnn_batch_norm"};
  if (kBatchNorms.count(node->kind().toQualString()) == 0) return false;
  const auto training = index_of(node, "training"), mean = index_of(node, "running_mean");
  return training && mean && is_true(node->input(*training)) &&
         node->input(*mean)->type()->kind() != c10::TypeKind::NoneType;
}

void use_running_statistics(const std::vector<std::shared_ptr<Graph>>& graphs,
                            std::vector<std::string>& notes) {
  int count = 0;
  for (const auto& graph : graphs) {
    for (Node* node : all_nodes(*graph)) {
      if (!ignores_statistics(node)) continue;
      set_operand(node, *index_of(node, "training"), false);
      ++count;
    }
  }
  if (count > 0) {
    notes.push_back("switched to its running statistics: " + counted(count, "batch norm") +
                    " that the export left in training mode; export after model.eval()");
  }
}

// Types -----------------------------------------------------------------------------------------

/// Calls `change` for every tensor of a value, in lists, tuples and dicts, too; true if one was
/// replaced.
template <typename Change>
bool change_tensors(c10::IValue& value, const Change& change) {
  bool any = false;
  if (value.isTensor()) {
    const at::Tensor changed = change(value.toTensor());
    if (!changed.defined()) return false;
    value = changed;
    return true;
  }
  if (value.isList()) {
    auto list = value.toList();
    for (std::size_t i = 0; i < list.size(); ++i) {
      c10::IValue item = list.get(i);
      if (!change_tensors(item, change)) continue;
      list.set(i, item);
      any = true;
    }
  } else if (value.isTuple()) {
    const auto tuple = value.toTuple();
    for (std::size_t i = 0; i < tuple->elements().size(); ++i) {
      c10::IValue item = tuple->elements()[i];
      if (!change_tensors(item, change)) continue;
      tuple->unsafeSetElement(i, item);
      any = true;
    }
  } else if (value.isGenericDict()) {
    for (const auto& entry : value.toGenericDict()) {
      c10::IValue item = entry.value();
      if (!change_tensors(item, change)) continue;
      entry.setValue(item);
      any = true;
    }
  }
  return any;
}

/// Of the numbers that complex ones consist of.
at::ScalarType real_type(at::ScalarType type) {
  return at::isComplexType(type) ? c10::toRealValueType(type) : type;
}

/// float32, or complex numbers of it.
at::ScalarType float32_for(at::ScalarType type) {
  return at::isComplexType(type) ? at::kComplexFloat : at::kFloat;
}

/// Elements of each floating-point type among the tensors of the module.
std::map<at::ScalarType, std::int64_t> elements_by_type(const Module& module, const Code& code) {
  std::map<at::ScalarType, std::int64_t> elements;
  const auto count = [&](const at::Tensor& t) {
    if (t.defined() && t.is_floating_point()) elements[t.scalar_type()] += t.numel();
    return at::Tensor();
  };
  for (const Module& part : module.modules()) {
    for (std::size_t i = 0; i < part.type()->numAttributes(); ++i) {
      c10::IValue value = part._ivalue()->getSlot(i);
      change_tensors(value, count);
    }
  }
  for (const auto& graph : code.graphs()) {
    for (const Node* node : all_nodes(*graph)) {
      if (node->kind() != c10::prim::Constant || node->outputs().size() != 1) continue;
      const at::Tensor t = constant_tensor(node->output());
      if (t.defined() && t.dim() > 0) count(t);
    }
  }
  return elements;
}

/// A floating-point input as float32, others as they are.
void convert_inputs(Graph& graph) {
  for (Value* value : graph.inputs().slice(1)) {
    if (!value->type()->isSubtypeOf(*c10::TensorType::get())) continue;
    const auto body = compile_function(R"(
def to_float32(x: Tensor) -> Tensor:
    if torch.is_floating_point(x):
        x = x.to(6)
    return x
)",
                                       "to_float32");
    Node* first = *graph.nodes().begin();
    torch::jit::WithInsertPoint guard(first);
    const auto uses = value->uses();
    Value* converted = torch::jit::insertGraph(graph, *body, {value}).at(0);
    for (const auto& use : uses) use.user->replaceInput(use.offset, converted);
  }
}

/// `with torch.autocast(..):` of scripted code, without which its statements run in float32. True
/// if there was one.
bool leave_autocast_out(const Code& code) {
  bool found = false;
  for (const auto& graph : code.graphs()) {
    for (Node* node : all_nodes(*graph)) {
      if (node->kind() != c10::prim::Enter && node->kind() != c10::prim::Exit) continue;
      const auto type = node->input()->type()->cast<c10::ClassType>();
      if (!type || !type->name() || type->name()->name() != "autocast") continue;
      node->output()->replaceAllUsesWith(node->input());
      node->destroy();
      found = true;
    }
  }
  return found;
}

void use_float32(Module& module, const Code& code, std::vector<std::string>& notes) {
  if (leave_autocast_out(code)) {
    notes.emplace_back("autocast in the code of the model is left out: float32 all through");
  }
  const auto elements = elements_by_type(module, code);
  const auto of = [&](at::ScalarType type) {
    const auto found = elements.find(type);
    return found == elements.end() ? std::int64_t{0} : found->second;
  };
  Types narrow{at::kHalf, at::kBFloat16};
  std::int64_t others = 0;
  for (const auto& [type, count] : elements) others += type == at::kDouble ? 0 : count;
  if (of(at::kDouble) > others) narrow.insert(at::kDouble);

  Types weights, conversions;
  const auto convert = [&](const at::Tensor& t) {
    if (!t.defined() || narrow.count(real_type(t.scalar_type())) == 0) return at::Tensor();
    weights.insert(real_type(t.scalar_type()));
    return t.detach().to(float32_for(t.scalar_type()));
  };
  for (const Module& part : module.modules()) {
    for (std::size_t i = 0; i < part.type()->numAttributes(); ++i) {
      c10::IValue value = part._ivalue()->getSlot(i);
      if (change_tensors(value, convert)) part._ivalue()->setSlot(i, value);
    }
  }
  for (const auto& graph : code.graphs()) {
    for (Node* node : all_nodes(*graph)) {
      if (node->kind() == c10::prim::Constant && node->outputs().size() == 1) {
        const at::Tensor t = constant_tensor(node->output());
        if (!t.defined() || (t.dim() == 0 && t.scalar_type() == at::kDouble)) continue;
        if (const at::Tensor changed = convert(t); changed.defined()) {
          node->t_(c10::attr::value, changed);
          node->output()->inferTypeFrom(changed);
        }
      } else if (const auto dtype = index_of(node, "dtype")) {
        const auto constant = constant_int(node->input(*dtype));
        if (!constant) continue;
        const auto type = static_cast<at::ScalarType>(*constant);
        if (narrow.count(real_type(type)) == 0) continue;
        conversions.insert(real_type(type));
        set_operand(node, *dtype, static_cast<std::int64_t>(float32_for(type)));
      }
    }
  }
  if (weights.empty() && conversions.empty()) return;
  convert_inputs(*torch::jit::toGraphFunction(module.get_method("forward").function()).graph());
  for (const auto type : weights) {
    notes.push_back(std::string(c10::toString(type)) +
                    " weights are converted to float32, and outputs of that type with them");
  }
  for (const auto type : conversions) {
    notes.push_back("conversions to " + std::string(c10::toString(type)) +
                    " (autocast) in the code of the model are replaced by float32");
  }
}

// Numbers ---------------------------------------------------------------------------------------

/// Tracing writes `x * 0.5` as a product with a double tensor without dimensions. Python's number
/// left the type of x as it was, or made float32 of integers; such a tensor only does so if it is
/// marked as a number, a mark that files do not keep.
void mark_numbers(const std::vector<std::shared_ptr<Graph>>& graphs) {
  for (const auto& graph : graphs) {
    for (const Node* node : all_nodes(*graph)) {
      if (node->kind() != c10::prim::Constant || node->outputs().size() != 1) continue;
      const at::Tensor t = constant_tensor(node->output());
      if (t.defined() && t.dim() == 0 && t.scalar_type() == at::kDouble) {
        t.unsafeGetTensorImpl()->set_wrapped_number(true);
      }
    }
  }
}

}  // namespace

std::vector<std::string> make_portable(Module& module) {
  std::vector<std::string> notes;
  const Code code(module);
  use_cpu(code.graphs(), notes);
  switch_dropout_off(code.graphs(), notes);
  use_running_statistics(code.graphs(), notes);
  use_float32(module, code, notes);
  mark_numbers(code.graphs());
  return notes;
}

}  // namespace repquant
