// Module paths of nodes, read from the call stack that TorchScript keeps with every inlined node.
#pragma once

#include <string>

namespace torch::jit {
struct Node;
}

namespace repquant {

/// The module path of a node, e.g. `blocks.0.attn.qkv`; empty for nodes of the top-level forward.
std::string module_path(const torch::jit::Node* node);

/// For messages: "aten::linear at blocks.0.attn.qkv".
std::string describe_node(const torch::jit::Node* node);

}  // namespace repquant
