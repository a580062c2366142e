#include "graph/site_path.h"

#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/ir/scope.h>

#include <optional>
#include <unordered_map>

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

/// The module path of a call stack whose outermost call is made by `root`.
std::string path_of(InlinedCallStackPtr call, const Module& root) {
  std::string path;
  std::string method = "forward";
  std::optional<Module> caller = root;  // none: not to be followed any more
  while (true) {
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
    if (!call->callee()) return path;
    call = *call->callee();
  }
}

}  // namespace

void name_nodes(torch::jit::Graph& graph, const Module& module) {
  const auto root = c10::make_intrusive<torch::jit::Scope>();
  std::unordered_map<InlinedCallStackPtr, torch::jit::ScopePtr> scopes;  // many nodes share one
  for (Node* node : all_nodes(graph)) {
    const auto stack = node->callstack();
    auto& scope = scopes[stack.value_or(InlinedCallStackPtr())];
    if (!scope) {
      const std::string path = stack ? path_of(*stack, module) : "";
      scope = path.empty() ? root : root->push(c10::Symbol::fromQualString("scope::" + path));
    }
    node->setScope(scope);
  }
}

std::string module_path(const Node* node) { return node->scopeName(); }

std::string describe_node(const Node* node) {
  const std::string path = module_path(node);
  return std::string(node->kind().toQualString()) + " at " + (path.empty() ? "forward" : path);
}

}  // namespace repquant
