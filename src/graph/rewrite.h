// Pasting TorchScript text into a graph in place of a node.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace torch::jit {
struct Graph;
struct Node;
struct Value;
}  // namespace torch::jit

namespace repquant {

/// Compiles TorchScript `source` and returns the inlined graph of its function `name`, with an
/// output for each item of a tuple that it returns.
std::shared_ptr<torch::jit::Graph> compile_function(const std::string& source,
                                                    const std::string& name);

/// Inserts `body` before `node` with `inputs`, replaces all uses of node's outputs by those of the
/// body (where it has fewer, the others must be unused), destroys `node`, and gives every new node
/// the call stack of the old one (so that site paths survive). Returns the new nodes in order.
std::vector<torch::jit::Node*> replace_node(torch::jit::Node* node, torch::jit::Graph& body,
                                            const std::vector<torch::jit::Value*>& inputs);

/// A tensor constant inserted before `node`.
torch::jit::Value* insert_tensor(torch::jit::Node* node, const at::Tensor& tensor);

/// The tensor behind a constant value; undefined tensor if `value` is no tensor constant.
at::Tensor constant_tensor(const torch::jit::Value* value);

/// The operator's name, such as "aten::add".
std::string kind_name(const torch::jit::Node* node);
/// True for an operator of this name.
bool is_kind(const torch::jit::Node* node, const char* kind);

/// True for aten::transpose of the last two dimensions, numbered from behind.
bool swaps_last(const torch::jit::Node* node);

/// True for an operator that gives the parts of a tensor as a list: split, chunk, unbind ...
bool gives_parts(const torch::jit::Node* node);

/// True for a constant number 1.
bool is_one(const torch::jit::Value* value);

/// An einsum -> for each two operands moves around aten::matmul, or around aten::linear where one
/// of them is a constant that shares no kept letter with the other, or around aten::mul where
/// nothing is summed. False if it stays as it is.
bool rewrite_einsum(torch::jit::Node* node);

/// torch.einsum of two values in TorchScript, such as `torch.einsum("ab,bc->ac", [x, y])`.
std::string einsum_text(const std::string& equation, const std::string& left,
                        const std::string& right);

/// Puts the function `product` of this TorchScript text in the place of `node`, as replace_node()
/// does, and rewrites every einsum in it.
void replace_by_product(torch::jit::Node* node, const std::string& text,
                        const std::vector<torch::jit::Value*>& inputs);

/// tensordot, inner, mv, dot, bilinear, multi_dot and matmul by a vector -> as rewrite_einsum()
/// does, or aten::matmul. False if it stays as it is.
bool rewrite_contraction(torch::jit::Node* node);

/// A constant number, or a constant tensor of one element; nothing for other values.
std::optional<double> constant_number(const torch::jit::Value* value);

/// A constant integer or text; nothing for other values, None among them.
std::optional<std::int64_t> constant_int(const torch::jit::Value* value);
std::optional<std::string> constant_text(const torch::jit::Value* value);

/// A list of constant integers: one constant, or built from single ones as compiled text has it.
std::optional<std::vector<std::int64_t>> constant_ints(const torch::jit::Value* list);

/// The constant order of a permute, none of it counted from the end; nothing for other nodes.
std::optional<std::vector<std::int64_t>> permute_order(const torch::jit::Node* node);
/// [0, 2, .., n + 1, 1]: from [B, C, sizes..] to channels last; and [0, n + 1, 1, .., n], back.
std::vector<std::int64_t> channels_last_order(std::size_t dimensions);
std::vector<std::int64_t> channels_first_order(std::size_t dimensions);

/// All nodes of the graph and its blocks, in order.
std::vector<torch::jit::Node*> all_nodes(torch::jit::Graph& graph);

}  // namespace repquant
