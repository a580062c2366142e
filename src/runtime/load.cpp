#include "repquant/load.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>

#include <set>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "graph/rewrite.h"
#include "ops/operators.h"
#include "repquant/error.h"
#include "runtime/fuse.h"
#include "runtime/lazy_archive.h"

namespace repquant {
namespace {

using torch::jit::Graph;
using torch::jit::Module;
using torch::jit::Node;

/// Names of the submodules and other attributes that the graph reads, in order.
std::vector<std::string> attributes_read(Graph& graph) {
  std::vector<std::string> names;
  std::set<std::string> seen;
  for (const Node* node : all_nodes(graph)) {
    if (node->kind() != c10::prim::GetAttr || node->input(0) != graph.inputs()[0]) continue;
    const std::string name = node->s(c10::attr::name);
    if (seen.insert(name).second) names.push_back(name);
  }
  return names;
}

/// A module with the graph as its forward(), and those attributes of `root` that the graph reads.
Module module_of(const Module& root, const std::shared_ptr<Graph>& graph) {
  Module module(c10::QualifiedName("__torch__.repquant.FusedModel"),
                root._ivalue()->compilation_unit());
  module.register_attribute("training", c10::BoolType::get(), false);
  for (const auto& name : attributes_read(*graph)) {
    if (name == "training") continue;
    module.register_attribute(name, root.type()->getAttribute(name), root.attr(name));
  }
  graph->inputs()[0]->setType(module.type());
  graph->lint();
  const auto original = root.get_method("forward").function().getSchema();
  auto* function = root._ivalue()->compilation_unit()->create_function(
      c10::QualifiedName(*module.type()->name(), "forward"), graph);
  auto arguments = original.arguments();
  arguments[0] = c10::Argument("self", module.type());
  function->setSchema(c10::FunctionSchema("forward", "", std::move(arguments), original.returns()));
  module.type()->addMethod(function);
  return module;
}

Module fused_module(LazyArchive& archive, LoadReport& report) {
  const Module root = archive.root;
  auto graph = torch::jit::toGraphFunction(root.get_method("forward").function()).graph()->copy();
  const auto order = attributes_read(*graph);
  FusionContext context{archive, {}, {}};
  fuse(context, *graph);
  torch::jit::EliminateDeadCode(graph);
  std::set<std::string> portable;
  for (const auto& name : attributes_read(*graph)) portable.insert(name);
  for (const auto& name : order) {
    const auto stored = archive.stored.find(name);
    if (stored == archive.stored.end()) continue;
    auto site = context.sites.find(name);
    if (site == context.sites.end()) {
      report.sites.push_back({name, stored->second.kind, false, "no fused form"});
    } else {
      report.sites.push_back(site->second);
      if (portable.count(name) > 0) report.sites.back().fused = false;
    }
  }
  for (const auto& name : portable) prepare(archive, name);
  return module_of(root, graph);
}

Module portable_module(LazyArchive& archive, LoadReport& report) {
  std::vector<std::string> names;
  for (const auto& [name, state] : archive.stored) {
    report.sites.push_back({name, state.kind, false, "not asked for"});
    names.push_back(name);
  }
  for (const auto& name : names) prepare(archive, name);
  return archive.root;
}

Module load_archive_module(const std::string& path, const LoadOptions& options,
                           LoadReport& result) {
  LazyArchive archive = read_lazily(path, options.trust);
  try {
    Module module =
        options.fused ? fused_module(archive, result) : portable_module(archive, result);
    module.eval();
    return module;
  } catch (const c10::Error& e) {
    throw Error(ErrorKind::kFile, {.what = "the artifact cannot be rewritten to fused operators",
                                   .where = path,
                                   .got = std::string(e.what_without_backtrace()).substr(0, 300),
                                   .hint = "load it with torch::jit::load"});
  }
}

}  // namespace

Module load(const std::string& path, const LoadOptions& options, LoadReport* report) {
  const at::NoGradGuard no_grad;
  LoadReport own;
  LoadReport& result = report != nullptr ? *report : own;
  result = {ops::cpu_level(), {}};
  Module module = load_archive_module(path, options, result);
#if defined(__GLIBC__)
  malloc_trim(0);  // the file's form of the weights is gone, but the allocator keeps its memory
#endif
  return module;
}

}  // namespace repquant
