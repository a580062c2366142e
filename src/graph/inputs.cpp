#include "graph/inputs.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/inliner.h>

#include <algorithm>
#include <optional>

#include "base/text_table.h"
#include "graph/rewrite.h"
#include "repquant/error.h"

namespace repquant {
namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

bool is_tensor(const c10::TypePtr& type) { return type->isSubtypeOf(*c10::TensorType::get()); }

/// The keys of a dict that the graph reads, each once.
std::vector<std::string> keys_read(const Value* dict) {
  std::vector<std::string> keys;
  for (const auto& use : dict->uses()) {
    if (!is_kind(use.user, "aten::__getitem__") && !is_kind(use.user, "aten::get")) continue;
    const auto key = constant_text(use.user->input(1));
    if (key && std::find(keys.begin(), keys.end(), *key) == keys.end()) keys.push_back(*key);
  }
  return keys;
}

/// The number of elements of a list as far as the graph reads single ones; 0 if it reads none.
std::size_t elements_read(const Value* list) {
  std::size_t count = 0;
  for (const auto& use : list->uses()) {
    if (is_kind(use.user, "prim::ListUnpack")) {
      count = std::max(count, use.user->outputs().size());
    } else if (is_kind(use.user, "aten::__getitem__")) {
      const auto index = constant_int(use.user->input(1));
      if (index && *index >= 0) count = std::max(count, static_cast<std::size_t>(*index) + 1);
    }
  }
  return count;
}

[[noreturn]] void fail_count(std::size_t expected, std::size_t got) {
  throw Error(ErrorKind::kUsage,
              {.what = "the data has another number of inputs than the model",
               .expected = counted(expected, "input"),
               .got = std::to_string(got),
               .hint = "give named arrays (.npz) with one array for each input of forward()"});
}

/// A number from a tensor whose elements are all equal.
c10::IValue number_from(const at::Tensor& tensor, const c10::TypePtr& type,
                        const std::string& name) {
  const bool same = tensor.numel() > 0 && tensor.eq(tensor.flatten()[0]).all().item<bool>();
  if (!same) {
    throw Error(ErrorKind::kUsage,
                {.what = "an argument that is one number has several values in one batch",
                 .where = name,
                 .hint = "give data with one value of it, or `calibration.batch_size=1`"});
  }
  const at::Scalar value = tensor.flatten()[0].item();
  if (type->kind() == c10::TypeKind::BoolType) return value.toBool();
  if (type->kind() == c10::TypeKind::IntType) return value.toLong();
  return value.toDouble();
}

class Filler {
 public:
  Filler(const std::vector<c10::IValue>& tensors, std::size_t inputs)
      : tensors_(tensors), inputs_(inputs) {}

  c10::IValue fill(const InputForm& input) {
    const c10::TypePtr& type = input.type;
    if (const auto tuple = type->cast<c10::TupleType>()) {
      if (is_ready([](const c10::IValue& v) { return v.isTuple(); })) return take();
      std::vector<c10::IValue> items;
      for (const auto& element : tuple->elements()) items.push_back(fill(part_of(input, element)));
      return tuple->schema() ? c10::ivalue::Tuple::createNamed(std::move(items), tuple)
                             : c10::ivalue::Tuple::create(std::move(items));
    }
    if (const auto list = type->cast<c10::ListType>(); list && is_tensor(list->getElementType())) {
      if (is_ready([](const c10::IValue& v) { return v.isList(); })) return take();
      // A list that is read as a whole takes what remains.
      const std::size_t count = input.elements > 0 ? input.elements : tensors_.size() - next_;
      c10::List<at::Tensor> items;
      for (std::size_t i = 0; i < count; ++i) items.push_back(take().toTensor());
      return items;
    }
    if (const auto dict = type->cast<c10::DictType>()) {
      if (is_ready([](const c10::IValue& v) { return v.isGenericDict(); })) return take();
      c10::impl::GenericDict items(dict->getKeyType(), dict->getValueType());
      for (const auto& key : input.keys) items.insert(c10::IValue(key), take());
      return items;
    }
    const c10::IValue given = take();
    const auto kind = type->kind();
    const bool number = kind == c10::TypeKind::BoolType || kind == c10::TypeKind::IntType ||
                        kind == c10::TypeKind::FloatType;
    return number && given.isTensor() ? number_from(given.toTensor(), type, input.name) : given;
  }

  void check_all_taken() const {
    if (next_ != tensors_.size()) fail_count(next_, tensors_.size());
  }

 private:
  static InputForm part_of(const InputForm& tuple, const c10::TypePtr& type) {
    InputForm part;
    part.type = type;
    part.name = tuple.name;
    return part;
  }
  template <typename Test>
  bool is_ready(const Test& test) const {
    return next_ < tensors_.size() && test(tensors_[next_]);
  }
  c10::IValue take() {
    if (next_ >= tensors_.size()) fail_count(std::max(inputs_, next_ + 1), tensors_.size());
    return tensors_[next_++];
  }

  const std::vector<c10::IValue>& tensors_;
  std::size_t inputs_;
  std::size_t next_ = 0;
};

/// The graph whose inputs are looked at, not to be changed. What is read of a list or a dictionary
/// only the whole body tells; for all others the signature does, without a copy of the model.
std::shared_ptr<Graph> forward_graph(const torch::jit::Module& module) {
  auto graph = torch::jit::toGraphFunction(module.get_method("forward").function()).graph();
  const auto is_read_in_parts = [](const Value* input) {
    const auto kind = input->type()->kind();
    return kind == c10::TypeKind::ListType || kind == c10::TypeKind::DictType;
  };
  if (std::none_of(graph->inputs().begin(), graph->inputs().end(), is_read_in_parts)) return graph;
  graph = graph->copy();
  torch::jit::Inline(*graph);
  return graph;
}

}  // namespace

InputForm form_of(const Value* input, const std::string& name) {
  InputForm form;
  form.type = input->type();
  form.name = name;
  if (form.type->kind() == c10::TypeKind::ListType) form.elements = elements_read(input);
  if (form.type->kind() == c10::TypeKind::DictType) form.keys = keys_read(input);
  return form;
}

std::vector<InputForm> input_forms(const torch::jit::Module& module) {
  const auto& arguments = module.get_method("forward").function().getSchema().arguments();
  const auto graph = forward_graph(module);
  std::vector<InputForm> forms;
  for (std::size_t i = 1; i < arguments.size(); ++i) {
    forms.push_back(form_of(graph->inputs()[i], arguments[i].name()));
    forms.back().has_default = arguments[i].default_value().has_value();
  }
  return forms;
}

std::vector<std::string> leaves_of(const InputForm& input) {
  std::vector<std::string> leaves;
  const auto add = [&](const std::string& part) { leaves.push_back(input.name + "." + part); };
  if (const auto tuple = input.type->cast<c10::TupleType>()) {
    for (std::size_t i = 0; i < tuple->elements().size(); ++i) {
      const bool named = tuple->schema() != nullptr;
      add(named ? tuple->schema()->arguments()[i].name() : std::to_string(i));
    }
    return leaves;
  }
  if (const auto list = input.type->cast<c10::ListType>();
      list && is_tensor(list->getElementType())) {
    for (std::size_t i = 0; i < std::max<std::size_t>(input.elements, 1); ++i) {
      add(std::to_string(i));
    }
    return leaves;
  }
  if (input.type->kind() == c10::TypeKind::DictType) {
    for (const auto& key : input.keys) add(key);
    return leaves;
  }
  return {input.name};
}

std::vector<c10::IValue> structured_inputs(c10::ArrayRef<const Value*> inputs,
                                           const std::vector<c10::IValue>& tensors) {
  Filler filler(tensors, inputs.size());
  std::vector<c10::IValue> values;
  for (const Value* input : inputs)
    values.push_back(filler.fill(form_of(input, input->debugName())));
  filler.check_all_taken();
  return values;
}

std::vector<c10::IValue> module_arguments(const std::vector<InputForm>& forms,
                                          const std::vector<at::Tensor>& tensors) {
  const std::vector<c10::IValue> given(tensors.begin(), tensors.end());
  const bool plain = std::all_of(forms.begin(), forms.end(), [](const InputForm& form) {
    return is_tensor(form.type) || form.type->kind() == c10::TypeKind::OptionalType;
  });
  if (plain) return given;
  Filler filler(given, forms.size());
  std::vector<c10::IValue> values;
  for (const InputForm& form : forms) {
    if (values.size() >= given.size() && form.has_default) break;
    values.push_back(filler.fill(form));
  }
  filler.check_all_taken();
  return values;
}

std::vector<c10::IValue> module_arguments(const torch::jit::Module& module,
                                          const std::vector<at::Tensor>& tensors) {
  return module_arguments(input_forms(module), tensors);
}

}  // namespace repquant
