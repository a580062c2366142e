// Brings a frozen, inlined graph into the one spelling that the rest of repquant understands, so
// that traced and scripted exports of a model become the same graph.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace torch::jit {
struct Graph;
struct Node;
struct Value;
}  // namespace torch::jit

namespace repquant {

/// Folds constants, removes dropout, assertions, dead and repeated nodes, tuples and in-place
/// spellings. Idempotent; called between the rewrites below.
void clean_graph(std::shared_ptr<torch::jit::Graph>& graph);

/// A view needs its operand in one order in memory; rewrites and fused operators give another one,
/// channels last or transposed. view -> reshape, view_as -> reshape_as, which may copy; views as
/// another type stay. What as_strided reads is brought back into the model's order. To be called
/// once no write goes through a view any more.
void views_to_reshapes(torch::jit::Graph& graph);

/// Removes statements that only print or warn; how many there were.
int remove_messages(torch::jit::Graph& graph);

/// aten::scaled_dot_product_attention -> matmul, scale, mask, softmax, matmul with every argument
/// variant: boolean and float mask, causal, explicit scale, grouped-query. Fully masked rows give
/// zeros, as the fused operator does.
void decompose_attention(std::shared_ptr<torch::jit::Graph>& graph);

/// nn.TransformerEncoder asks whether all padding stands at the ends of rows, and leaves it out
/// then (a nested tensor). Takes the answer for yes in all that hangs on it but the values of the
/// padding's rows, which decompose_fast_paths() chooses by it at run time. To be called once,
/// before all else.
void expect_nested_tensors(torch::jit::Graph& graph);

/// Turns of `while` loops whose conditions are known, up to 64 of all loops together; where there
/// are more, nothing is changed. To be called before the graph is cleaned.
void unroll_while_loops(std::shared_ptr<torch::jit::Graph>& graph);

/// PyTorch's fast paths (aten::_transformer_encoder_layer_fwd; aten::_native_multi_head_attention
/// as self-attention) -> linear, attention products, norms; nested tensors between them -> padded
/// ones with masks.
void decompose_fast_paths(std::shared_ptr<torch::jit::Graph>& graph);

/// Linear spelled as addmm, or as matmul with a constant plus add -> aten::linear.
void canonicalize_linear(std::shared_ptr<torch::jit::Graph>& graph);

/// RMSNorm in elementary operators (square, mean, rsqrt, product with a constant) ->
/// aten::rms_norm.
void canonicalize_norms(std::shared_ptr<torch::jit::Graph>& graph);

/// Batches of constant matrices: one Linear for each, up to this number.
constexpr std::int64_t kMostMatrices = 512;

/// bmm, baddbmm and einsum of two operands -> aten::matmul or aten::linear; a batch of constant
/// matrices -> one aten::linear each.
void canonicalize_matmul(std::shared_ptr<torch::jit::Graph>& graph);

/// x @ W with a constant matrix W that is expanded or repeated for each sample -> x @ W with the
/// matrix itself, in bmm and matmul.
void share_expanded_matrices(std::shared_ptr<torch::jit::Graph>& graph);

/// softmax(x, -2) and v @ a^T -> softmax over the last dimension, as the left operand of a product.
void canonicalize_attention(std::shared_ptr<torch::jit::Graph>& graph);

/// A softmax that a product and something else read, as where a model gives its attention as an
/// output, too -> a softmax for each of them, so that the product may take its own over. Last of
/// all, since cleaning would make one of them again.
void separate_softmax_readers(std::shared_ptr<torch::jit::Graph>& graph);

/// aten::batch_norm with constants behind a convolution or a Linear that nothing else reads -> into
/// the weight and the bias of that.
void fold_batch_norms(std::shared_ptr<torch::jit::Graph>& graph);

/// Transposed convolutions with constant weights (1 or 2 dimensions, no groups) -> aten::linear and
/// aten::col2im, which adds up what overlaps.
void decompose_transposed_convolutions(std::shared_ptr<torch::jit::Graph>& graph);

struct DecomposedConvolutions {
  std::vector<torch::jit::Node*> patches;  // Linears of windows side by side (stride = kernel)
  /// Linears of windows that overlap, are padded or dilated, each with the first node that takes
  /// them: a padding or a view.
  std::map<const torch::jit::Node*, torch::jit::Node*> windows;
};

/// Convolutions with constant weights (1 to 3 dimensions, no groups or few large ones) ->
/// aten::linear on what each window holds.
DecomposedConvolutions decompose_convolutions(std::shared_ptr<torch::jit::Graph>& graph);

/// f(x.permute(channels first)) -> f(x).permute(channels first) for operators that work element by
/// element, so that values stay channels last from one convolution to the next.
void keep_channels_last(std::shared_ptr<torch::jit::Graph>& graph);

/// The input of `node` that the operator's schema calls `name`; null if there is none.
torch::jit::Value* named_input(const torch::jit::Node* node, const std::string& name);

}  // namespace repquant
