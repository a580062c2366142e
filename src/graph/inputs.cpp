#include "graph/inputs.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/inliner.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/text_table.h"
#include "graph/rewrite.h"
#include "repquant/error.h"

namespace repquant {
namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

bool is_tensor(const c10::TypePtr& type) { return type->isSubtypeOf(*c10::TensorType::get()); }

/// A tuple, a list or a dict.
bool is_structure(const c10::TypePtr& type) {
  const auto kind = type->kind();
  return kind == c10::TypeKind::TupleType || kind == c10::TypeKind::ListType ||
         kind == c10::TypeKind::DictType;
}

/// The values of a graph that are one part of an input.
using Places = std::vector<const Value*>;

/// Calls `visit` for each node that reads one of the places as its first operand.
template <typename Visit>
void for_each_reader(const Places& places, const Visit& visit) {
  for (const Value* place : places) {
    for (const auto& use : place->uses()) {
      if (use.offset == 0) visit(use.user);
    }
  }
}

bool holds_tensors(const c10::TypePtr& type) {
  if (is_tensor(type)) return true;
  const auto parts = type->containedTypes();
  return is_structure(type) && std::any_of(parts.begin(), parts.end(), holds_tensors);
}

/// True if how many tensors such an input consists of hangs on what is read of it.
bool holds_lists(const c10::TypePtr& type) {
  const auto kind = type->kind();
  if (kind == c10::TypeKind::ListType || kind == c10::TypeKind::DictType) return true;
  const auto parts = type->containedTypes();
  return is_structure(type) && std::any_of(parts.begin(), parts.end(), holds_lists);
}

/// Element `i` of the tuple or list at these places; of a list, of any if `i` is not given.
Places element_places(const Places& places, std::optional<std::size_t> i) {
  Places found;
  for_each_reader(places, [&](const Node* node) {
    if (node->kind() == c10::prim::TupleUnpack || node->kind() == c10::prim::ListUnpack) {
      for (std::size_t k = 0; k < node->outputs().size(); ++k) {
        if (!i || *i == k) found.push_back(node->output(k));
      }
    } else if (node->kind() == c10::prim::TupleIndex || is_kind(node, "aten::__getitem__")) {
      const auto index = constant_int(node->input(1));
      if (!i || (index && *index == static_cast<std::int64_t>(*i))) found.push_back(node->output());
    }
  });
  return found;
}

/// The number of elements of a list as far as the graph reads single ones; 0 if it reads none, or
/// others too.
std::size_t elements_read(const Places& places) {
  std::size_t count = 0;
  bool others = false;
  for_each_reader(places, [&](const Node* node) {
    if (node->kind() == c10::prim::ListUnpack) {
      count = std::max(count, node->outputs().size());
    } else if (is_kind(node, "aten::__getitem__")) {
      const auto index = constant_int(node->input(1));
      others = others || !index;
      if (index && *index >= 0) count = std::max(count, static_cast<std::size_t>(*index) + 1);
    }
  });
  return others ? 0 : count;
}

/// The keys of a dict that the graph reads, each once, with the values that it reads by them.
std::vector<std::pair<std::string, Places>> keys_read(const Places& places) {
  std::vector<std::pair<std::string, Places>> keys;
  for_each_reader(places, [&](const Node* node) {
    if (!is_kind(node, "aten::__getitem__") && !is_kind(node, "aten::get")) return;
    const auto key = constant_text(node->input(1));
    if (!key) return;
    const auto same = [&](const auto& known) { return known.first == *key; };
    auto found = std::find_if(keys.begin(), keys.end(), same);
    if (found == keys.end()) found = keys.insert(keys.end(), {*key, {}});
    found->second.push_back(node->output());
  });
  return keys;
}

InputForm form_at(const c10::TypePtr& type, const std::string& name, const Places& places) {
  InputForm form;
  form.type = type;
  form.name = name;
  const auto add = [&](const c10::TypePtr& part, const std::string& part_name, const Places& at) {
    form.parts.push_back(form_at(part, name + "." + part_name, at));
  };
  if (const auto tuple = type->cast<c10::TupleType>()) {
    for (std::size_t i = 0; i < tuple->elements().size(); ++i) {
      const bool named = tuple->schema() != nullptr;
      add(tuple->elements()[i], named ? tuple->schema()->arguments()[i].name() : std::to_string(i),
          element_places(places, i));
    }
  } else if (const auto list = type->cast<c10::ListType>(); list && holds_tensors(type)) {
    const std::size_t count = elements_read(places);
    form.whole = count == 0;
    if (form.whole) add(list->getElementType(), "0", element_places(places, std::nullopt));
    for (std::size_t i = 0; i < count; ++i) {
      add(list->getElementType(), std::to_string(i), element_places(places, i));
    }
  } else if (const auto dict = type->cast<c10::DictType>()) {
    for (const auto& [key, values] : keys_read(places)) {
      form.keys.push_back(key);
      add(dict->getValueType(), key, values);
    }
  }
  return form;
}

std::size_t count_leaves(const InputForm& form) { return leaves_of(form).size(); }

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
  explicit Filler(const std::vector<c10::IValue>& tensors) : tensors_(tensors) {}

  /// `behind`: how many tensors the inputs behind this one take at least.
  c10::IValue fill(const InputForm& form, std::size_t behind) {
    const c10::TypePtr& type = form.type;
    if (is_structure(type) && next_ < tensors_.size() && fits(tensors_[next_], type)) return take();
    if (const auto tuple = type->cast<c10::TupleType>()) {
      std::vector<c10::IValue> items = parts(form, behind);
      return tuple->schema() ? c10::ivalue::Tuple::createNamed(std::move(items), tuple)
                             : c10::ivalue::Tuple::create(std::move(items));
    }
    if (const auto list = type->cast<c10::ListType>(); list && holds_tensors(type)) {
      c10::impl::GenericList items(list->getElementType());
      for (auto& item : form.whole ? elements(form, behind) : parts(form, behind)) {
        items.push_back(std::move(item));
      }
      return items;
    }
    if (const auto dict = type->cast<c10::DictType>()) {
      c10::impl::GenericDict items(dict->getKeyType(), dict->getValueType());
      std::vector<c10::IValue> values = parts(form, behind);
      for (std::size_t i = 0; i < values.size(); ++i) {
        items.insert(c10::IValue(form.keys[i]), std::move(values[i]));
      }
      return items;
    }
    const c10::IValue given = take();
    const auto kind = type->kind();
    const bool number = kind == c10::TypeKind::BoolType || kind == c10::TypeKind::IntType ||
                        kind == c10::TypeKind::FloatType;
    return number && given.isTensor() ? number_from(given.toTensor(), type, form.name) : given;
  }

  bool has_more() const { return next_ < tensors_.size(); }

 private:
  static bool fits(const c10::IValue& value, const c10::TypePtr& type) {
    return type->kind() == c10::TypeKind::TupleType  ? value.isTuple()
           : type->kind() == c10::TypeKind::ListType ? value.isList()
                                                     : value.isGenericDict();
  }

  std::vector<c10::IValue> parts(const InputForm& form, std::size_t behind) {
    std::size_t rest = behind;
    for (const InputForm& part : form.parts) rest += count_leaves(part);
    std::vector<c10::IValue> items;
    for (const InputForm& part : form.parts) {
      rest -= count_leaves(part);
      items.push_back(fill(part, rest));
    }
    return items;
  }

  /// As many elements as there are tensors for.
  std::vector<c10::IValue> elements(const InputForm& list, std::size_t behind) {
    const InputForm& element = list.parts.at(0);
    const std::size_t each = std::max<std::size_t>(count_leaves(element), 1);
    std::vector<c10::IValue> items;
    while (next_ + behind + each <= tensors_.size()) items.push_back(fill(element, behind));
    return items;
  }

  c10::IValue take() {
    if (next_ >= tensors_.size()) fail_count(next_ + 1, tensors_.size());
    return tensors_[next_++];
  }

  const std::vector<c10::IValue>& tensors_;
  std::size_t next_ = 0;
};

/// One value for each of `forms`; trailing ones with defaults may be left out.
std::vector<c10::IValue> fill_all(const std::vector<InputForm>& forms,
                                  const std::vector<c10::IValue>& tensors) {
  std::size_t behind = 0, expected = 0;
  for (const InputForm& form : forms) {
    expected += count_leaves(form);
    if (!form.has_default) behind += count_leaves(form);
  }
  if (tensors.empty() && behind > 0) fail_count(expected, 0);
  Filler filler(tensors);
  std::vector<c10::IValue> values;
  for (const InputForm& form : forms) {
    if (!form.has_default) behind -= count_leaves(form);
    if (form.has_default && !filler.has_more()) break;
    values.push_back(filler.fill(form, behind));
  }
  if (filler.has_more()) fail_count(expected, tensors.size());
  return values;
}

/// The graph whose inputs are looked at, not to be changed. What is read of a list or a dictionary
/// only the whole body tells; for all others the signature does, without a copy of the model.
std::shared_ptr<Graph> forward_graph(const torch::jit::Module& module) {
  auto graph = torch::jit::toGraphFunction(module.get_method("forward").function()).graph();
  const auto is_read_in_parts = [](const Value* input) { return holds_lists(input->type()); };
  if (std::none_of(graph->inputs().begin(), graph->inputs().end(), is_read_in_parts)) return graph;
  graph = graph->copy();
  torch::jit::Inline(*graph);
  return graph;
}

}  // namespace

InputForm form_of(const Value* input, const std::string& name) {
  return form_at(input->type(), name, {input});
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
  if (input.parts.empty()) {
    // A tuple or dict of nothing takes nothing.
    const auto kind = input.type->kind();
    const bool nothing = kind == c10::TypeKind::TupleType || kind == c10::TypeKind::DictType;
    return nothing ? std::vector<std::string>{} : std::vector<std::string>{input.name};
  }
  std::vector<std::string> leaves;
  for (const InputForm& part : input.parts) {
    for (auto& leaf : leaves_of(part)) leaves.push_back(std::move(leaf));
  }
  return leaves;
}

std::vector<c10::IValue> structured_inputs(c10::ArrayRef<const Value*> inputs,
                                           const std::vector<c10::IValue>& tensors) {
  std::vector<InputForm> forms;
  for (const Value* input : inputs) forms.push_back(form_of(input, input->debugName()));
  return fill_all(forms, tensors);
}

std::vector<c10::IValue> module_arguments(const std::vector<InputForm>& forms,
                                          const std::vector<at::Tensor>& tensors) {
  const std::vector<c10::IValue> given(tensors.begin(), tensors.end());
  const bool plain = std::all_of(forms.begin(), forms.end(), [](const InputForm& form) {
    return is_tensor(form.type) || form.type->kind() == c10::TypeKind::OptionalType;
  });
  return plain ? given : fill_all(forms, given);
}

std::vector<c10::IValue> module_arguments(const torch::jit::Module& module,
                                          const std::vector<at::Tensor>& tensors) {
  return module_arguments(input_forms(module), tensors);
}

}  // namespace repquant
