#include "graph/operator_kinds.h"

#include <torch/csrc/jit/ir/ir.h>

#include <set>
#include <string>

#include "graph/rewrite.h"

namespace repquant {
namespace {

const std::set<std::string> kShapeOnly{"aten::view",
                                       "aten::reshape",
                                       "aten::flatten",
                                       "aten::unflatten",
                                       "aten::permute",
                                       "aten::transpose",
                                       "aten::t",
                                       "aten::contiguous",
                                       "aten::unsqueeze",
                                       "aten::squeeze",
                                       "aten::expand",
                                       "aten::expand_as",
                                       "aten::view_as",
                                       "aten::reshape_as",
                                       "aten::select",
                                       "aten::slice",
                                       "aten::narrow",
                                       "aten::roll",
                                       "aten::split",
                                       "aten::split_with_sizes",
                                       "aten::chunk",
                                       "aten::unbind",
                                       "aten::tensor_split",
                                       "aten::movedim",
                                       "aten::swapaxes",
                                       "aten::clone",
                                       "aten::detach",
                                       "aten::index_select",
                                       "aten::flip",
                                       "aten::repeat_interleave",
                                       "aten::unfold",
                                       "prim::ListUnpack"};
const std::set<std::string> kReadsShapeOnly{"aten::size",
                                            "aten::dim",
                                            "aten::len",
                                            "aten::numel",
                                            "prim::device",
                                            "prim::dtype",
                                            "aten::is_floating_point",
                                            "prim::layout",
                                            "aten::sym_size",
                                            "prim::shape"};
const std::set<std::string> kNorms{"aten::layer_norm", "aten::native_layer_norm", "aten::rms_norm"};
const std::set<std::string> kSoftmax{"aten::softmax", "aten::_softmax", "aten::_safe_softmax"};

/// The constant is the last input.
bool pads_with_constant(const torch::jit::Node* node) {
  if (is_kind(node, "aten::constant_pad_nd")) return true;
  return is_kind(node, "aten::pad") && constant_text(node->input(2)) == "constant";
}

}  // namespace

bool is_shape_only(const torch::jit::Node* node) { return kShapeOnly.count(kind_name(node)) > 0; }

bool is_norm(const torch::jit::Node* node) { return kNorms.count(kind_name(node)) > 0; }

bool is_zero_padding(const torch::jit::Node* node) {
  if (!pads_with_constant(node)) return false;
  const torch::jit::Value* value = node->inputs().back();
  return value->mustBeNone() || constant_number(value) == 0.0;
}

bool is_other_padding(const torch::jit::Node* node) {
  return pads_with_constant(node) && !is_zero_padding(node);
}

bool is_softmax(const torch::jit::Node* node) { return kSoftmax.count(kind_name(node)) > 0; }

bool reads_shape_only(const torch::jit::Node* node) {
  return kReadsShapeOnly.count(kind_name(node)) > 0;
}

}  // namespace repquant
