#include "graph/products.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "graph/convolution.h"
#include "graph/einsum.h"
#include "graph/normalize.h"
#include "graph/operator_kinds.h"
#include "graph/rewrite.h"
#include "graph/site.h"
#include "tensor/cache_codes.h"

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Value;

/// The tensors of one executed operator; undefined where an operand is no tensor.
struct Operands {
  const Node* node;
  const Values& values;

  c10::IValue value(std::size_t i) const { return values.at(node->input(i)); }
  at::Tensor tensor(std::size_t i) const {
    const c10::IValue found = i < node->inputs().size() ? value(i) : c10::IValue();
    return found.isTensor() ? found.toTensor() : at::Tensor();
  }
  at::Tensor output() const {
    const auto& found = values.at(node->outputs()[0]);
    return found.isTensor() ? found.toTensor() : at::Tensor();
  }
};

std::int64_t last_size(const at::Tensor& t) { return t.dim() > 0 ? t.size(-1) : 1; }
std::int64_t rows_of(const at::Tensor& t) {
  return last_size(t) > 0 ? t.numel() / last_size(t) : 0;
}

/// Elements of the matrices that an operator reads, as operands or in lists.
std::int64_t matrix_elements(const Operands& operands) {
  std::int64_t total = 0;
  for (std::size_t i = 0; i < operands.node->inputs().size(); ++i) {
    const c10::IValue value = operands.value(i);
    if (value.isTensorList()) {
      for (const at::Tensor& t : value.toTensorVector()) total += t.dim() >= 2 ? t.numel() : 0;
    }
  }
  return total;
}

/// Every output element is a sum over the last dimension of the operand at `i`.
template <std::size_t i>
std::int64_t by_output(const Operands& operands) {
  return operands.output().numel() * last_size(operands.tensor(i));
}

std::int64_t of_convolution(const Operands& operands) {
  const at::Tensor weight =
      operands.tensor(1);  // [out, in / groups, ..]; transposed: [in, out, ..]
  const auto per_element = weight.numel() / std::max<std::int64_t>(weight.size(0), 1);
  const std::string kind = operands.node->kind().toQualString();
  const Value* flag = named_input(operands.node, "transposed");
  const bool transposed = kind.find("transpose") != std::string::npos ||
                          (flag != nullptr && operands.values.at(flag).toBool());
  return (transposed ? operands.tensor(0).numel() : operands.output().numel()) * per_element;
}

std::int64_t of_einsum(const Operands& operands) {
  const auto list = operands.value(1).toTensorVector();
  std::vector<std::vector<std::int64_t>> shapes;
  for (const at::Tensor& t : list) shapes.push_back(t.sizes().vec());
  return einsum_macs(operands.value(0).toStringRef(), shapes);
}

/// A recurrent layer multiplies every step by all of its matrices.
std::int64_t of_recurrent(const Operands& operands) {
  return rows_of(operands.tensor(0)) * matrix_elements(operands);
}

std::int64_t of_cell(const Operands& operands) {
  std::int64_t weights = 0;
  for (const char* name : {"w_ih", "w_hh"}) {
    weights += operands.values.at(named_input(operands.node, name)).toTensor().numel();
  }
  return rows_of(operands.tensor(0)) * weights;
}

std::int64_t of_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  return rows_of(q) * k.size(-2) * (last_size(k) + last_size(v));
}

std::int64_t of_fused_attention(const Operands& operands) {
  return of_attention(operands.tensor(0), operands.tensor(1), operands.tensor(2));
}

/// Matrices times rows, and q k^T and the weighted sum over a sequence: x [B, T, E].
std::int64_t of_layer(const Operands& operands) {
  const at::Tensor x = operands.tensor(0);
  std::int64_t weights = 0;
  for (std::size_t i = 1; i < operands.node->inputs().size(); ++i) {
    const at::Tensor t = operands.tensor(i);
    if (t.defined() && t.is_floating_point() && t.dim() == 2) weights += t.numel();
  }
  return rows_of(x) * weights + of_attention(x, x, x);
}

std::int64_t of_native_attention(const Operands& operands) {
  const at::Tensor q = operands.tensor(0), k = operands.tensor(1), v = operands.tensor(2);
  const std::int64_t width = last_size(q);
  return (2 * rows_of(q) + rows_of(k) + rows_of(v)) * width * width + of_attention(q, k, v);
}

/// sum over c of a[l, c] b[c, r]: l c r is the root of (l c)(c r)(l r).
std::int64_t of_tensordot(const Operands& operands) {
  const double product = static_cast<double>(operands.tensor(0).numel()) *
                         static_cast<double>(operands.tensor(1).numel()) *
                         static_cast<double>(operands.output().numel());
  return static_cast<std::int64_t>(std::llround(std::sqrt(product)));
}

std::int64_t of_bilinear(const Operands& operands) {
  return rows_of(operands.tensor(0)) * operands.tensor(2).numel();
}

std::int64_t of_addbmm(const Operands& operands) {
  return operands.tensor(1).numel() * last_size(operands.tensor(2));
}

std::int64_t of_chain(const Operands& operands) {
  const auto list = operands.value(0).toTensorVector();
  std::int64_t total = 0;
  for (std::size_t i = 1; i < list.size(); ++i) {
    total += list[0].size(0) * list[i - 1].size(-1) * last_size(list[i]);
  }
  return total;
}

using Macs = std::int64_t (*)(const Operands&);

/// All operators that multiply. Those that end in an underscore or `.out` have the same entry.
const std::map<std::string, Macs>& table() {
  static const std::map<std::string, Macs> kTable{
      {"aten::linear", by_output<0>},
      {"aten::matmul", by_output<0>},
      {"aten::linalg_matmul", by_output<0>},
      {"aten::mm", by_output<0>},
      {"aten::bmm", by_output<0>},
      {"aten::mv", by_output<0>},
      {"aten::dot", by_output<0>},
      {"aten::vdot", by_output<0>},
      {"aten::inner", by_output<0>},
      {"aten::_int_mm", by_output<0>},
      {"aten::_scaled_mm", by_output<0>},
      {"aten::_scaled_grouped_mm", by_output<0>},
      {"aten::_grouped_mm", by_output<0>},
      {"aten::_addmm_activation", by_output<1>},
      {"aten::addmm", by_output<1>},
      {"aten::addmv", by_output<1>},
      {"aten::baddbmm", by_output<1>},
      {"aten::addbmm", of_addbmm},
      {"aten::chain_matmul", of_chain},
      {"aten::linalg_multi_dot", of_chain},
      {"aten::tensordot", of_tensordot},
      {"aten::einsum", of_einsum},
      {"aten::bilinear", of_bilinear},
      {"aten::cdist", by_output<0>},
      {"aten::conv1d", of_convolution},
      {"aten::conv2d", of_convolution},
      {"aten::conv3d", of_convolution},
      {"aten::conv_transpose1d", of_convolution},
      {"aten::conv_transpose2d", of_convolution},
      {"aten::conv_transpose3d", of_convolution},
      {"aten::_convolution", of_convolution},
      {"aten::_convolution_mode", of_convolution},
      {"aten::convolution", of_convolution},
      {"aten::mkldnn_convolution", of_convolution},
      {"aten::gru", of_recurrent},
      {"aten::lstm", of_recurrent},
      {"aten::rnn_tanh", of_recurrent},
      {"aten::rnn_relu", of_recurrent},
      {"aten::gru_cell", of_cell},
      {"aten::lstm_cell", of_cell},
      {"aten::rnn_tanh_cell", of_cell},
      {"aten::rnn_relu_cell", of_cell},
      {"aten::scaled_dot_product_attention", of_fused_attention},
      {"aten::_scaled_dot_product_attention_math", of_fused_attention},
      {"aten::_scaled_dot_product_flash_attention_for_cpu", of_fused_attention},
      {"aten::_scaled_dot_product_flash_attention", of_fused_attention},
      {"aten::_scaled_dot_product_efficient_attention", of_fused_attention},
      {"aten::_native_multi_head_attention", of_native_attention},
      {"aten::_transformer_encoder_layer_fwd", of_layer},
  };
  return kTable;
}

/// Operators that read constants without multiplying matrices by them: arithmetic of elements,
/// norms, lookups, moves.
const std::set<std::string> kElementwise{"add",
                                         "sub",
                                         "rsub",
                                         "mul",
                                         "div",
                                         "true_divide",
                                         "floor_divide",
                                         "remainder",
                                         "fmod",
                                         "pow",
                                         "neg",
                                         "lerp",
                                         "addcmul",
                                         "addcdiv",
                                         "maximum",
                                         "minimum",
                                         "max",
                                         "min",
                                         "clamp",
                                         "clamp_min",
                                         "clamp_max",
                                         "eq",
                                         "ne",
                                         "lt",
                                         "le",
                                         "gt",
                                         "ge",
                                         "where",
                                         "masked_fill",
                                         "masked_scatter",
                                         "cat",
                                         "concat",
                                         "concatenate",
                                         "stack",
                                         "hstack",
                                         "vstack",
                                         "expand",
                                         "expand_as",
                                         "repeat",
                                         "tile",
                                         "broadcast_to",
                                         "index",
                                         "index_select",
                                         "gather",
                                         "take",
                                         "take_along_dim",
                                         "index_add",
                                         "index_copy",
                                         "index_put",
                                         "scatter",
                                         "scatter_add",
                                         "slice_scatter",
                                         "select_scatter",
                                         "copy",
                                         "to",
                                         "type_as",
                                         "_to_copy",
                                         "layer_norm",
                                         "native_layer_norm",
                                         "rms_norm",
                                         "batch_norm",
                                         "native_batch_norm",
                                         "_native_batch_norm_legit_no_training",
                                         "group_norm",
                                         "native_group_norm",
                                         "instance_norm",
                                         "prelu",
                                         "_prelu_kernel",
                                         "embedding",
                                         "complex",
                                         "polar",
                                         "view_as_complex",
                                         "view_as_real",
                                         "pad",
                                         "constant_pad_nd",
                                         "size",
                                         "len",
                                         "dim",
                                         "numel",
                                         "zeros_like",
                                         "ones_like",
                                         "full_like",
                                         "empty_like",
                                         "new_zeros",
                                         "new_ones",
                                         "new_full",
                                         "new_empty",
                                         "searchsorted",
                                         "bucketize",
                                         "upsample_bicubic2d",
                                         "upsample_bilinear2d",
                                         "upsample_nearest2d",
                                         "_upsample_bicubic2d_aa",
                                         "_upsample_bilinear2d_aa",
                                         "upsample_linear1d",
                                         "grid_sampler",
                                         "grid_sampler_2d",
                                         "outer",
                                         "ger",
                                         "cross",
                                         "logaddexp",
                                         "atan2",
                                         "hypot",
                                         "softmax",
                                         "_softmax",
                                         "log_softmax",
                                         "sum",
                                         "mean",
                                         "cumsum",
                                         "norm",
                                         "sort",
                                         "topk",
                                         "argmax",
                                         "lift_fresh",
                                         "lift_fresh_copy",
                                         "masked_select",
                                         "linspace",
                                         "is_floating_point",
                                         "append",
                                         "_set_item"};

std::string base_kind(const Node* node) {
  std::string kind = node->kind().toQualString();
  if (kind.ends_with('_') && !kind.ends_with("__")) kind.pop_back();
  return kind;
}

/// The constant tensors behind a value that hold more than a number.
void collect(const Value* value, std::vector<at::Tensor>& out) {
  if (const auto constant = torch::jit::toIValue(value)) {
    const auto add = [&](const at::Tensor& t) {
      if (t.defined() && t.numel() > 1) out.push_back(t);
    };
    if (constant->isTensor()) add(constant->toTensor());
    if (constant->isTensorList()) {
      for (const at::Tensor& t : constant->toTensorVector()) add(t);
    }
  } else if (value->node()->kind() == c10::prim::ListConstruct ||
             value->node()->kind() == c10::prim::TupleConstruct) {
    for (const Value* item : value->node()->inputs()) collect(item, out);
  }
}

std::vector<at::Tensor> constants_of(const Node* node) {
  std::vector<at::Tensor> result;
  for (const Value* value : node->inputs()) collect(value, result);
  return result;
}

/// The number of matrices in the largest batch of constant ones that `node` reads.
std::int64_t constant_matrices(const Node* node) {
  std::int64_t most = 0;
  for (const at::Tensor& t : parameters_of(node)) {
    if (t.dim() >= 3) most = std::max(most, t.numel() / (t.size(-1) * t.size(-2)));
  }
  return most;
}

bool names_convolution(const std::string& kind) { return kind.find("conv") != std::string::npos; }

}  // namespace

bool is_product(const Node* node) {
  if (is_kind(node, "aten::einsum") && node->input(1)->node()->inputs().size() < 2) {
    return false;  // of a single operand: a sum, a transposition
  }
  return table().count(base_kind(node)) > 0 || base_kind(node).starts_with("quantized::");
}

bool is_unknown_operator(const Node* node) {
  if (node->kind().is_prim() || is_product(node)) return false;
  const std::string kind = base_kind(node);
  if (kind == kCacheQuantizeOp || kind == kCacheDequantizeOp) return false;
  if (!kind.starts_with("aten::") && !kind.starts_with("prim")) {
    return node->maybeOperator() != nullptr;
  }
  if (!kind.starts_with("aten::") || is_shape_only(node)) return false;
  return kElementwise.count(kind.substr(6)) == 0 && !parameters_of(node).empty();
}

std::int64_t product_macs(const Node* node, const Values& values) {
  const auto found = table().find(base_kind(node));
  if (found == table().end()) return 0;
  const Operands operands{node, values};
  return operands.output().defined() ? found->second(operands) : 0;
}

std::vector<at::Tensor> parameters_of(const Node* node) {
  std::vector<at::Tensor> result = constants_of(node);
  std::erase_if(result, [](const at::Tensor& t) { return !t.is_floating_point(); });
  return result;
}

bool reads_complex_weight(const Node* node) {
  const std::vector<at::Tensor> constants = constants_of(node);
  return std::any_of(constants.begin(), constants.end(),
                     [](const at::Tensor& t) { return t.is_complex(); });
}

std::string reason_for_gap(const Node* node) {
  const std::string kind = base_kind(node);
  if (is_unknown_operator(node)) return "an operator whose products are not known";
  if (reads_complex_weight(node)) return "a complex weight";
  if (names_convolution(kind)) {
    if (!constant_tensor(node->input(1)).defined()) return "its weight is computed";
    if (is_transposed_convolution(node)) return "a transposed convolution in groups or of volumes";
    return "a convolution that is not constant or has no batch";
  }
  if (kind == "aten::linear") {
    const at::Tensor weight = constant_tensor(node->input(1));
    if (!weight.defined()) return "its weight is computed";
    return "its weight is no float32 matrix";
  }
  if (kind.starts_with("aten::gru") || kind.starts_with("aten::lstm") ||
      kind.starts_with("aten::rnn")) {
    return "a recurrent layer";
  }
  if (kind == "aten::cdist") return "distances, which are no plain product";
  const std::int64_t matrices = constant_matrices(node);
  if (kind == "aten::matmul" && matrices > kMostMatrices) {
    return "a batch of " + std::to_string(matrices) + " constant matrices, more than " +
           std::to_string(kMostMatrices);
  }
  if (!parameters_of(node).empty()) return "a product with a constant that is no plain matrix";
  return "a product of two activations without a softmax of its own";
}

}  // namespace repquant
