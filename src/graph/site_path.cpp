#include "graph/site_path.h"

#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/ir/scope.h>

namespace repquant {

std::string module_path(const torch::jit::Node* node) {
  const auto stack = node->callstack();
  if (!stack) return "";
  std::string path;
  for (const auto& entry : (*stack)->vec()) {
    const auto& instance = std::get<2>(entry);
    if (!instance) continue;
    const std::string name = instance->instance_name();
    // SELF marks a call of another method of the same module.
    if (name.empty() || name == "SELF" || name == "self" || name == "INSTANCE_NAME_UNKNOWN") {
      continue;
    }
    path += (path.empty() ? "" : ".") + name;
  }
  return path;
}

std::string describe_node(const torch::jit::Node* node) {
  const std::string path = module_path(node);
  return std::string(node->kind().toQualString()) + " at " + (path.empty() ? "forward" : path);
}

}  // namespace repquant
