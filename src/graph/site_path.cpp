#include "graph/site_path.h"

#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/ir/scope.h>

#include <algorithm>
#include <optional>
#include <unordered_map>
#include <vector>

#include "graph/rewrite.h"

namespace repquant {
namespace {

using torch::jit::InlinedCallStack;
using torch::jit::InlinedCallStackPtr;
using torch::jit::Module;
using torch::jit::Node;
using torch::jit::Value;

std::string joined(const std::string& path, const std::string& name) {
  return path.empty() ? name : std::string(path).append(".").append(name);
}

/// The attributes between `self` and a module, such as blocks.0; empty if it has another root.
std::string attribute_path(const Value* value, const Value* self) {
  std::string path;
  while (value->node()->kind() == c10::prim::GetAttr) {
    const std::string name = value->node()->s(c10::attr::name);
    path = path.empty() ? name : joined(name, path);
    value = value->node()->input(0);
  }
  return value == self ? path : "";
}

/// Where `method` of `caller` reads the module that this call runs. The call stack has only the
/// last attribute: `0` for `blocks.0`, because a ModuleList itself is never called. Iterations of
/// an unrolled loop share their place in the source, but not that name.
std::string path_of_call(const Module& caller, const std::string& method,
                         const InlinedCallStack& call, const std::string& name) {
  const auto found = caller.find_method(method);
  if (!found) return "";
  const auto graph = torch::jit::toGraphFunction(found->function()).graph();
  for (const Node* node : all_nodes(*graph)) {
    if (node->kind() != c10::prim::CallMethod) continue;
    if (!(node->sourceRange() == call.source_range())) continue;
    std::string path = attribute_path(node->input(0), graph->inputs()[0]);
    if (path == name || path.ends_with("." + name)) return path;
  }
  return "";
}

Module submodule(Module module, const std::string& path) {
  std::size_t begin = 0;
  while (begin <= path.size()) {
    const std::size_t end = std::min(path.find('.', begin), path.size());
    module = module.attr(path.substr(begin, end - begin)).toModule();
    begin = end + 1;
  }
  return module;
}

/// Calls from the outermost one inwards.
using Calls = std::vector<InlinedCallStackPtr>;

Calls calls_of(const Node* node) {
  Calls calls;
  for (auto call = node->callstack(); call; call = (*call)->callee()) calls.push_back(*call);
  return calls;
}

/// The module path of calls of which the outermost is made by `root`.
std::string path_of(const Calls& calls, const Module& root) {
  std::string path;
  std::string method = "forward";
  std::optional<Module> caller = root;  // none: not to be followed any more
  for (const auto& call : calls) {
    const auto instance = call->module_instance();
    const std::string name = instance ? instance->instance_name() : "";
    // SELF marks a call of another method of the same module.
    if (!name.empty() && name != "SELF" && name != "self" && name != "INSTANCE_NAME_UNKNOWN") {
      const std::string whole = caller ? path_of_call(*caller, method, *call, name) : "";
      path = joined(path, whole.empty() ? name : whole);
      if (whole.empty()) {
        caller.reset();
      } else {
        caller = submodule(*caller, whole);
      }
    }
    method = call->function_name();
  }
  return path;
}

/// True if the code of the last of these calls has this branch or loop.
bool is_written_in(const Node* node, const InlinedCallStack& call) {
  const torch::jit::GraphFunction* function =
      call.function() == nullptr ? nullptr : torch::jit::tryToGraphFunction(*call.function());
  if (function == nullptr) return false;
  const auto nodes = all_nodes(*function->graph());
  return std::any_of(nodes.begin(), nodes.end(), [&](const Node* written) {
    return written->kind() == node->kind() && written->sourceRange() == node->sourceRange();
  });
}

/// The calls behind a branch or loop without outputs. LibTorch notes them with values, so that it
/// has none: those behind what it reads, as far as its own code reaches.
Calls calls_of_owner(const Node* node) {
  for (const Value* input : node->inputs()) {
    if (input->node()->owningBlock() != node->owningBlock()) continue;
    for (Calls calls = calls_of(input->node()); !calls.empty(); calls.pop_back()) {
      if (is_written_in(node, *calls.back())) return calls;
    }
  }
  return {};
}

/// `outer`: calls that LibTorch leaves out of all call stacks in this block.
void name_nodes_of(torch::jit::Block* block, const Calls& outer, const Module& module,
                   const torch::jit::ScopePtr& root) {
  const auto behind = [&](const Calls& inner) {
    Calls calls(outer);
    calls.insert(calls.end(), inner.begin(), inner.end());
    return calls;
  };
  std::unordered_map<InlinedCallStackPtr, torch::jit::ScopePtr> scopes;  // many nodes share one
  for (Node* node : block->nodes()) {
    auto& scope = scopes[node->callstack().value_or(InlinedCallStackPtr())];
    if (!scope) {
      const std::string path = path_of(behind(calls_of(node)), module);
      scope = path.empty() ? root : root->push(c10::Symbol::fromQualString("scope::" + path));
    }
    node->setScope(scope);
    if (node->blocks().empty()) continue;
    const bool noted = node->callstack() || !node->outputs().empty();
    const Calls calls = noted ? outer : behind(calls_of_owner(node));
    for (torch::jit::Block* inner : node->blocks()) name_nodes_of(inner, calls, module, root);
  }
}

}  // namespace

void name_nodes(torch::jit::Graph& graph, const Module& module) {
  const auto root = c10::make_intrusive<torch::jit::Scope>();
  name_nodes_of(graph.block(), {}, module, root);
}

std::string module_path(const Node* node) { return node->scopeName(); }

std::string describe_node(const Node* node) {
  const std::string path = module_path(node);
  return std::string(node->kind().toQualString()) + " at " + (path.empty() ? "forward" : path);
}

}  // namespace repquant
