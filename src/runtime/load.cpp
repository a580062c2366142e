#include "repquant/load.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>

#include <cstdlib>
#include <set>
#include <stdexcept>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "base/list_text.h"
#include "graph/graph_copy.h"
#include "graph/rewrite.h"
#include "ops/operators.h"
#include "repquant/error.h"
#include "runtime/both_forms.h"
#include "runtime/fuse.h"
#include "runtime/lazy_archive.h"
#include "tensor/current_error.h"

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

struct FusedGraph {
  std::shared_ptr<Graph> graph;
  std::vector<Replacement> replaced;
};

std::shared_ptr<Graph> forward_graph(const Module& module) {
  return torch::jit::toGraphFunction(module.get_method("forward").function()).graph();
}

/// Fills in `report.sites`.
FusedGraph fused_graph(const LazyArchive& archive, const PortableSites& kept, LoadReport& report) {
  const GraphCopy copy(*forward_graph(archive.root));
  const auto order = attributes_read(*copy.graph);
  FusionContext context{archive, kept, copy};
  fuse(context, *copy.graph);
  torch::jit::EliminateDeadCode(copy.graph);
  const auto left = attributes_read(*copy.graph);
  const std::set<std::string> portable(left.begin(), left.end());
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
  return {copy.graph, std::move(context.replaced)};
}

Module fused_module(LazyArchive& archive, LoadReport& report) {
  const FusedGraph fused = fused_graph(archive, archive.portable, report);
  for (const auto& name : attributes_read(*fused.graph)) prepare(archive, name);
  return module_of(archive.root, fused.graph);
}

void prepare_all(LazyArchive& archive) {
  std::vector<std::string> names;
  for (const auto& entry : archive.stored) names.push_back(entry.first);
  for (const auto& name : names) prepare(archive, name);
}

Module portable_module(LazyArchive& archive, LoadReport& report) {
  for (const auto& [name, state] : archive.stored) {
    report.sites.push_back({name, state.kind, false, "not asked for"});
  }
  prepare_all(archive);
  return archive.root;
}

/// Runs `body`; what LibTorch throws becomes an Error that names the file.
template <class Body>
auto loading(const std::string& path, const Body& body) {
  try {
    return body();
  } catch (const std::exception&) {
    rethrow_load_error(path);
  }
}

Module load_archive_module(const std::string& path, const LoadOptions& options,
                           LoadReport& result) {
  LazyArchive archive = read_lazily(path, options.trust);
  return loading(path, [&] {
    Module module =
        options.fused ? fused_module(archive, result) : portable_module(archive, result);
    module.eval();
    return module;
  });
}

}  // namespace

std::string cpu_level() {
  try {
    return ops::cpu_level();
  } catch (const std::invalid_argument&) {
    const char* text = std::getenv("REPQUANT_CPU_LEVEL");
    throw Error(ErrorKind::kUsage, {.what = "no such instruction set on this processor",
                                    .where = "REPQUANT_CPU_LEVEL",
                                    .expected = list_text(ops::cpu_levels()),
                                    .got = text != nullptr ? text : ""});
  }
}

CpuLevelReport cpu_level_report() {
  const char* text = std::getenv("REPQUANT_CPU_LEVEL");
  return {cpu_level(), ops::cpu_levels(), text != nullptr && *text != '\0'};
}

Module load(const std::string& path, const LoadOptions& options, LoadReport* report) {
  const at::NoGradGuard no_grad;
  LoadReport own;
  LoadReport& result = report != nullptr ? *report : own;
  result = {cpu_level(), {}};
  Module module = load_archive_module(path, options, result);
#if defined(__GLIBC__)
  malloc_trim(0);  // the file's form of the weights is gone, but the allocator keeps its memory
#endif
  return module;
}

BothForms load_both(const std::string& path, const PortableSites& kept, bool trusted) {
  return both_forms(read_lazily(path, trusted), path, kept);
}

BothForms both_forms(LazyArchive archive, const std::string& path, const PortableSites& kept) {
  const at::NoGradGuard no_grad;
  BothForms forms;
  forms.report = {cpu_level(), {}};
  PortableSites all = kept;
  all.insert(archive.portable.begin(), archive.portable.end());
  return loading(path, [&] {
    FusedGraph fused = fused_graph(archive, all, forms.report);
    prepare_all(archive);
    forms.portable = archive.root;
    forms.portable_graph = forward_graph(archive.root);
    forms.fused = module_of(archive.root, fused.graph);
    forms.fused_graph = fused.graph;
    forms.replaced = std::move(fused.replaced);
    forms.portable.eval();
    forms.fused.eval();
    return forms;
  });
}

}  // namespace repquant
