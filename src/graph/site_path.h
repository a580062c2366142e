// Module paths of nodes, from the call stack that TorchScript keeps with every inlined node.
#pragma once

#include <string>

namespace torch::jit {
struct Graph;
struct Module;
struct Node;
}  // namespace torch::jit

namespace repquant {

/// Gives every node of `graph`, the inlined forward of `module`, its module path as scope. Nodes
/// that passes put in its place inherit it (Node::copyMetadata).
void name_nodes(torch::jit::Graph& graph, const torch::jit::Module& module);

/// The module path of a node, e.g. `blocks.0.attn.qkv`; empty for nodes of the top-level forward
/// and of graphs that name_nodes has not seen.
std::string module_path(const torch::jit::Node* node);

/// For messages: "aten::linear at blocks.0.attn.qkv".
std::string describe_node(const torch::jit::Node* node);

}  // namespace repquant
