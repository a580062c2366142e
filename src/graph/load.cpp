#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/constant_propagation.h>

#include <algorithm>
#include <sstream>
#include <utility>

#include "base/sha256.h"
#include "base/text_table.h"
#include "graph/archive.h"
#include "graph/flatten.h"
#include "graph/functionalize.h"
#include "graph/inputs.h"
#include "graph/model.h"
#include "graph/normalize.h"
#include "graph/refuse.h"
#include "graph/rename_written.h"

namespace repquant {
namespace {

/// Fixes trailing arguments that the data does not give to their defaults.
void drop_defaults(Model& model, const torch::jit::Module& module, std::size_t provided) {
  const auto& arguments = module.get_method("forward").function().getSchema().arguments();
  std::size_t kept = 0, tensors = 0;
  for (std::size_t i = 1; i < arguments.size(); ++i) {
    if (tensors >= provided && arguments[i].default_value()) break;
    tensors += leaves_of(form_of(model.graph->inputs()[i - 1], arguments[i].name())).size();
    model.argument_names.push_back(arguments[i].name());
    model.defaults.push_back(arguments[i].default_value());
    ++kept;
  }
  std::ostringstream fixed;
  for (std::size_t i = kept + 1; i < arguments.size(); ++i) {
    fixed << (i > kept + 1 ? ", " : "") << arguments[i].name() << "="
          << *arguments[i].default_value();
  }
  if (provided > 0 && kept + 1 < arguments.size()) {
    model.notes.push_back("arguments that the data does not give are fixed to their defaults: " +
                          fixed.str());
  }
  for (std::size_t i = arguments.size() - 1; i > kept; --i) {
    torch::jit::WithInsertPoint guard(*model.graph->nodes().begin());
    model.graph->inputs()[i - 1]->replaceAllUsesWith(
        model.graph->insertConstant(*arguments[i].default_value()));
    model.graph->eraseInput(i - 1);
  }
}

std::string joined(const std::vector<std::string>& names) {
  constexpr std::size_t kMost = 8;
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kMost); ++i) {
    text += (i > 0 ? ", " : "") + names[i];
  }
  return names.size() > kMost ? text + " and " + std::to_string(names.size() - kMost) + " more"
                              : text;
}

/// What programs may use of the model beside forward(): methods and attributes that are no tensors.
void note_interface(Model& model, const torch::jit::Module& module) {
  const auto is_public = [](const std::string& name) {
    return !name.starts_with("_") && name != "forward" && name != "training";
  };
  std::vector<std::string> methods, attributes;
  for (const torch::jit::Function* method : module.type()->methods()) {
    if (is_public(method->name())) methods.push_back(method->name() + "()");
  }
  const auto& type = *module.type();
  for (std::size_t i = 0; i < type.numAttributes(); ++i) {
    const c10::IValue value = module._ivalue()->getSlot(i);
    const bool plain = value.isBool() || value.isInt() || value.isDouble() || value.isString() ||
                       (value.isList() && !value.isTensorList()) || value.isTuple() ||
                       value.isGenericDict();
    if (plain && is_public(type.getAttributeName(i))) {
      attributes.push_back(type.getAttributeName(i));
    }
  }
  const std::pair<const char*, std::vector<std::string>> parts[] = {{"methods", methods},
                                                                    {"attributes", attributes}};
  for (const auto& [what, names] : parts) {
    if (names.empty()) continue;
    model.notes.push_back(std::string("the artifact has forward() alone, without these ") + what +
                          " of the model: " + joined(names));
  }
}

/// Notes ranks and element types of inputs in their types, or takes such notes back: a file
/// promises neither.
void set_types(Model& model, const std::vector<GivenInput>& given) {
  for (std::size_t i = 0; i < model.argument_names.size(); ++i) {
    torch::jit::Value* input = model.graph->inputs()[i];
    if (!input->type()->isSubtypeOf(*c10::TensorType::get())) continue;
    const GivenInput* found = nullptr;
    for (std::size_t k = 0; k < given.size(); ++k) {
      const bool by_order = given[k].name.empty() || given.size() == 1;
      if (by_order ? k == i : given[k].name == model.argument_names[i]) found = &given[k];
    }
    c10::TensorTypePtr type = c10::TensorType::get();
    if (found != nullptr) type = type->withDim(static_cast<std::size_t>(found->rank));
    if (found != nullptr && found->type) type = type->withScalarType(*found->type);
    input->setType(type);
  }
}

void name_inputs(Model& model) {
  for (std::size_t i = 0; i < model.argument_names.size(); ++i) {
    for (auto& leaf : leaves_of(form_of(model.graph->inputs()[i], model.argument_names[i]))) {
      model.input_names.push_back(std::move(leaf));
    }
  }
}

}  // namespace

Model load_model(const std::string& path, std::size_t provided_inputs,
                 const std::vector<GivenInput>& given, bool trusted) {
  Model model;
  model.path = path;
  auto module = load_archive(path, trusted, &model.notes);
  model.source_hash = sha256_of_file(path);
  module.eval();
  model.graph = flatten(module, path, &model.tensors);
  model.module = std::make_shared<torch::jit::Module>(module);  // flattening copied nothing

  note_interface(model, module);
  drop_defaults(model, module, provided_inputs);
  set_types(model, given);
  expect_nested_tensors(*model.graph);
  // Once it is known which branches run.
  torch::jit::ConstantPropagationImmutableTypes(model.graph);
  unroll_while_loops(model.graph);
  if (const int messages = remove_messages(*model.graph); messages > 0) {
    model.notes.push_back("left out: " + counted(messages, "statement") + " that print or warn");
  }
  clean_graph(model.graph);
  if (functionalize(model.graph, &model.doubt)) clean_graph(model.graph);
  views_to_reshapes(*model.graph);
  refuse_random(*model.graph, path);
  decompose_fast_paths(model.graph);
  share_expanded_matrices(model.graph);  // before bmm, which tells a rank, is matmul
  canonicalize_matmul(model.graph);
  share_expanded_matrices(model.graph);
  clean_graph(model.graph);
  canonicalize_linear(model.graph);
  canonicalize_norms(model.graph);
  clean_graph(model.graph);
  decompose_attention(model.graph);
  canonicalize_attention(model.graph);
  fold_batch_norms(model.graph);
  decompose_transposed_convolutions(model.graph);
  model.convolutions = decompose_convolutions(model.graph);
  separate_softmax_readers(model.graph);
  rename_written(*model.graph);
  set_types(model, {});
  name_inputs(model);
  return model;
}

}  // namespace repquant
