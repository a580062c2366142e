#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/freeze_module.h>
#include <torch/csrc/jit/passes/inliner.h>

#include "base/sha256.h"
#include "graph/archive.h"
#include "graph/model.h"
#include "graph/normalize.h"
#include "graph/rewrite.h"
#include "graph/site_path.h"
#include "repquant/error.h"

namespace repquant {
namespace {

/// Freezes and inlines; afterwards the graph no longer needs `self`.
std::shared_ptr<torch::jit::Graph> flatten(torch::jit::Module module, const std::string& path) {
  const auto fail = [&](const std::string& message) {
    throw Error(ErrorKind::kUnsupported,
                {.what = "the model cannot be frozen: " + message.substr(0, 300),
                 .where = path,
                 .hint = "models that change their own attributes in forward() are not supported"});
  };
  std::shared_ptr<torch::jit::Graph> graph;
  try {
    module.eval();
    graph = torch::jit::freeze_module(module).get_method("forward").graph()->copy();
    torch::jit::Inline(*graph);
  } catch (const c10::Error& e) {
    fail(e.what_without_backtrace());
  } catch (const std::exception& e) {
    fail(e.what());
  }
  return graph;
}

}  // namespace

Model load_model(const std::string& path, std::size_t provided_inputs) {
  Model model;
  model.path = path;
  const auto module = load_archive(path, &model.extra_files);
  model.source_hash = sha256_of_file(path);
  model.graph = flatten(module, path);
  model.module = std::make_shared<torch::jit::Module>(module);  // freezing copied nothing
  name_nodes(*model.graph, module);

  const auto& arguments = module.get_method("forward").function().getSchema().arguments();
  std::vector<bool> has_default;
  std::size_t required = 0;
  for (std::size_t i = 1; i < arguments.size(); ++i) {
    has_default.push_back(arguments[i].default_value().has_value());
    if (!has_default.back()) required = i;
  }
  const std::size_t total = has_default.size();
  const std::size_t kept = std::min(total, std::max(provided_inputs, required));
  for (std::size_t i = 0; i < total; ++i) {
    if (i < kept) {
      model.input_names.push_back(arguments[i + 1].name());
    } else {
      model.dropped_inputs.push_back(arguments[i + 1].name());
      torch::jit::WithInsertPoint guard(*model.graph->nodes().begin());
      auto* value = model.graph->inputs()[i + 1];
      value->replaceAllUsesWith(model.graph->insertConstant(*arguments[i + 1].default_value()));
    }
  }
  for (std::size_t i = total; i > kept; --i) model.graph->eraseInput(i);

  clean_graph(model.graph);
  decompose_fast_paths(model.graph);
  canonicalize_matmul(model.graph);
  clean_graph(model.graph);
  canonicalize_linear(model.graph);
  canonicalize_norms(model.graph);
  clean_graph(model.graph);
  decompose_attention(model.graph);
  model.patch_embeddings = decompose_patch_embeddings(model.graph);
  if (!model.graph->inputs()[0]->uses().empty()) {
    throw Error(ErrorKind::kUnsupported,
                {.what = "the model keeps state that cannot be frozen",
                 .where = path,
                 .hint = "export it in eval mode, without attributes that forward() changes"});
  }
  model.graph->eraseInput(0);
  return model;
}

}  // namespace repquant
