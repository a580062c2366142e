#include "graph/value_facts.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <set>
#include <string>

#include "graph/normalize.h"
#include "graph/operator_kinds.h"
#include "graph/rank.h"
#include "graph/rewrite.h"
#include "graph/site.h"

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Use;
using torch::jit::Value;
using Width = std::optional<std::int64_t>;

constexpr int kFarthest = 16;
constexpr int kDeepest = 1000;  // of operands that nobody has asked for yet

/// Results of the width and type of the first operand.
const std::set<std::string> kOfElements{"aten::contiguous",
                                        "aten::gelu",
                                        "aten::relu",
                                        "aten::silu",
                                        "aten::sigmoid",
                                        "aten::tanh",
                                        "aten::neg",
                                        "aten::dropout",
                                        "aten::clone",
                                        "aten::masked_fill",
                                        "aten::_nested_tensor_from_mask",
                                        "aten::to_padded_tensor",
                                        "aten::_transformer_encoder_layer_fwd"};
/// Elements of the first operand, or 0.
const std::set<std::string> kPickKinds{"aten::index", "aten::tril", "aten::triu",
                                       "aten::contiguous"};
/// The first result has the type of the first operand where that is floating-point, unless another
/// one is named. Beside kOfElements, kPickKinds and what only moves elements.
const std::set<std::string> kOfType{"aten::abs",
                                    "aten::adaptive_avg_pool1d",
                                    "aten::adaptive_avg_pool2d",
                                    "aten::alias",
                                    "aten::amax",
                                    "aten::amin",
                                    "aten::atan",
                                    "aten::avg_pool1d",
                                    "aten::avg_pool2d",
                                    "aten::batch_norm",
                                    "aten::broadcast_to",
                                    "aten::ceil",
                                    "aten::celu",
                                    "aten::clamp",
                                    "aten::clamp_max",
                                    "aten::clamp_min",
                                    "aten::col2im",
                                    "aten::constant_pad_nd",
                                    "aten::cos",
                                    "aten::cosh",
                                    "aten::cumprod",
                                    "aten::cumsum",
                                    "aten::diagonal",
                                    "aten::elu",
                                    "aten::embedding",
                                    "aten::embedding_bag",
                                    "aten::empty_like",
                                    "aten::erf",
                                    "aten::exp",
                                    "aten::expm1",
                                    "aten::feature_dropout",
                                    "aten::floor",
                                    "aten::full_like",
                                    "aten::gather",
                                    "aten::glu",
                                    "aten::group_norm",
                                    "aten::hardshrink",
                                    "aten::hardsigmoid",
                                    "aten::hardswish",
                                    "aten::hardtanh",
                                    "aten::im2col",
                                    "aten::index_add",
                                    "aten::index_copy",
                                    "aten::index_fill",
                                    "aten::index_put",
                                    "aten::instance_norm",
                                    "aten::layer_norm",
                                    "aten::leaky_relu",
                                    "aten::linalg_vector_norm",
                                    "aten::log",
                                    "aten::log10",
                                    "aten::log1p",
                                    "aten::log2",
                                    "aten::log_sigmoid",
                                    "aten::log_softmax",
                                    "aten::logit",
                                    "aten::logsumexp",
                                    "aten::masked_scatter",
                                    "aten::masked_select",
                                    "aten::max_pool1d",
                                    "aten::max_pool2d",
                                    "aten::mean",
                                    "aten::mish",
                                    "aten::nan_to_num",
                                    "aten::native_layer_norm",
                                    "aten::new_empty",
                                    "aten::new_full",
                                    "aten::new_ones",
                                    "aten::new_zeros",
                                    "aten::norm",
                                    "aten::ones_like",
                                    "aten::pad",
                                    "aten::pixel_shuffle",
                                    "aten::pixel_unshuffle",
                                    "aten::prelu",
                                    "aten::prod",
                                    "aten::reciprocal",
                                    "aten::relu6",
                                    "aten::repeat",
                                    "aten::rms_norm",
                                    "aten::round",
                                    "aten::rsqrt",
                                    "aten::scatter",
                                    "aten::scatter_add",
                                    "aten::selu",
                                    "aten::sign",
                                    "aten::sin",
                                    "aten::sinh",
                                    "aten::slice_scatter",
                                    "aten::select_scatter",
                                    "aten::softmax",
                                    "aten::_softmax",
                                    "aten::_safe_softmax",
                                    "aten::softplus",
                                    "aten::softshrink",
                                    "aten::sort",
                                    "aten::sqrt",
                                    "aten::square",
                                    "aten::std",
                                    "aten::sum",
                                    "aten::take_along_dim",
                                    "aten::tan",
                                    "aten::threshold",
                                    "aten::tile",
                                    "aten::topk",
                                    "aten::unsafe_chunk",
                                    "aten::upsample_bicubic2d",
                                    "aten::upsample_bilinear2d",
                                    "aten::upsample_linear1d",
                                    "aten::upsample_nearest1d",
                                    "aten::upsample_nearest2d",
                                    "aten::var",
                                    "aten::zeros_like",
                                    "prim::unchecked_cast",
                                    "aten::_unwrap_optional",
                                    "aten::__getitem__",
                                    "aten::cat",
                                    "aten::concat",
                                    "aten::concatenate",
                                    "aten::stack",
                                    "aten::hstack",
                                    "aten::vstack"};
/// All operands and the result have one type, or the operator fails.
const std::set<std::string> kOneType{"aten::linear",
                                     "aten::matmul",
                                     "aten::bmm",
                                     "aten::mm",
                                     "aten::mv",
                                     "aten::dot",
                                     "aten::inner",
                                     "aten::outer",
                                     "aten::tensordot",
                                     "aten::linalg_matmul",
                                     "aten::addmm",
                                     "aten::addmv",
                                     "aten::baddbmm",
                                     "aten::einsum",
                                     "aten::bilinear",
                                     "aten::conv1d",
                                     "aten::conv2d",
                                     "aten::conv3d",
                                     "aten::conv_transpose1d",
                                     "aten::conv_transpose2d",
                                     "aten::conv_transpose3d",
                                     "aten::_convolution",
                                     "aten::convolution",
                                     "aten::_native_multi_head_attention"};
/// Arithmetic that promotes its operands to one type.
const std::set<std::string> kPromoting{
    "aten::add",     "aten::sub",         "aten::rsub",     "aten::mul",     "aten::div",
    "aten::maximum", "aten::minimum",     "aten::pow",      "aten::where",   "aten::remainder",
    "aten::fmod",    "aten::atan2",       "aten::addcmul",  "aten::addcdiv", "aten::lerp",
    "aten::hypot",   "aten::true_divide", "aten::logaddexp"};
const std::set<std::string> kSumKinds{"aten::add", "aten::sub", "aten::mul"};
const std::set<std::string> kProductKinds{"aten::linear", "aten::matmul",
                                          "aten::_native_multi_head_attention"};

bool is_one_of(const Node* node, const std::set<std::string>& kinds) {
  return kinds.count(node->kind().toQualString()) > 0;
}

bool gives_tensor(const Value* value) {
  return value->type()->isSubtypeOf(*c10::TensorType::get());
}

/// A dimension argument that is known not to be the last one of `tensor`.
bool is_not_last(const Value* dimension, const Value* tensor) {
  const auto d = dimension_from_end(dimension, tensor);
  return d && *d != -1;
}

/// True for moves and views that leave the last dimension as it is.
bool keeps_width(const Node* node) {
  if (is_one_of(node, kOfElements)) return true;
  if (is_kind(node, "aten::transpose") || is_kind(node, "aten::swapaxes")) {
    return is_not_last(node->input(1), node->input(0)) &&
           is_not_last(node->input(2), node->input(0));
  }
  if (is_kind(node, "aten::slice") || is_kind(node, "aten::select") ||
      is_kind(node, "aten::narrow")) {
    return is_not_last(node->input(1), node->input(0));
  }
  if (gives_parts(node)) {
    const Value* dimension = named_input(node, "dim");
    return dimension != nullptr && is_not_last(dimension, node->input(0));
  }
  return is_kind(node, "prim::ListUnpack") && gives_parts(node->input(0)->node());
}

Width last_of(const Value* list) {
  const auto constant = list == nullptr ? std::nullopt : torch::jit::toIValue(list);
  if (!constant || !constant->isIntList() || constant->toIntVector().empty()) return {};
  return constant->toIntVector().back();
}

Width width_at(const Value* value, int depth);

/// What `use` demands of the width of the value that it reads.
Width width_demanded(const Use& use, int depth) {
  const Node* reader = use.user;
  if (use.offset != 0) return {};
  if (is_norm(reader)) return last_of(named_input(reader, "normalized_shape"));
  if (is_kind(reader, "aten::linear")) return width_at(reader->input(1), depth + 1);
  if (!keeps_width(reader) || reader->outputs().size() != 1) return {};
  for (const Use& next : reader->output()->uses()) {
    if (depth > kFarthest || next.user->owningBlock() != reader->owningBlock()) continue;
    if (const Width found = width_demanded(next, depth + 1)) return found;
  }
  return {};
}

/// The width that what computes `value` gives it.
Width width_given(const Value* value, int depth) {
  const Node* node = value->node();
  if (is_norm(node) && value->offset() == 0) {
    return last_of(named_input(node, "normalized_shape"));
  }
  if (is_kind(node, "aten::linear")) {
    const at::Tensor weight = constant_tensor(node->input(1));
    return weight.defined() && weight.dim() == 2 ? Width(weight.size(0)) : Width();
  }
  const bool attends = is_kind(node, "aten::_native_multi_head_attention") && value->offset() == 0;
  if (attends || keeps_width(node)) return width_at(node->input(0), depth + 1);
  if (!is_one_of(node, kSumKinds)) return {};
  for (const Value* operand : node->inputs()) {  // the other one has the same width, or 1
    if (!gives_tensor(operand)) continue;
    const Width one = width_at(operand, depth + 1);
    if (one && *one > 1) return one;
  }
  return {};
}

Width width_at(const Value* value, int depth) {
  if (depth > kFarthest) return {};
  if (const at::Tensor t = constant_tensor(value); t.defined()) {
    return t.dim() > 0 ? Width(t.size(-1)) : Width();
  }
  if (const Width found = width_given(value, depth)) return found;
  for (const Use& use : value->uses()) {
    if (use.user->owningBlock() != value->node()->owningBlock()) continue;  // may not run
    if (const Width found = width_demanded(use, depth)) return found;
  }
  return {};
}

/// The type that `node` is told to give; nothing if none is named, or if it hangs on the data.
std::optional<std::int64_t> named_type(const Node* node) {
  const Value* type = node->maybeSchema() ? named_input(node, "dtype") : nullptr;
  return type == nullptr ? std::nullopt : constant_int(type);
}

/// True for a new tensor of floating-point numbers that names no type: float32, the default.
bool makes_floats(const Node* node) {
  if (is_kind(node, "aten::full"))
    return node->input(1)->type()->kind() == c10::TypeKind::FloatType;
  return is_one_of(node, {"aten::zeros", "aten::ones", "aten::empty"});
}

/// True if `use` multiplies the value, possibly moved around, by a float32 weight.
bool multiplies_by_float32(const Use& use, int depth) {
  const Node* reader = use.user;
  if (is_one_of(reader, kProductKinds)) {
    for (const Value* other : reader->inputs()) {
      const at::Tensor t = constant_tensor(other);
      if (t.defined() && t.dim() == 2 && t.scalar_type() == at::kFloat) return true;
    }
    return false;
  }
  if (use.offset != 0 || depth > kFarthest || reader->outputs().size() != 1) return false;
  if (!is_shape_only(reader)) return false;
  const auto& uses = reader->output()->uses();
  return std::any_of(uses.begin(), uses.end(),
                     [&](const Use& next) { return multiplies_by_float32(next, depth + 1); });
}

/// Truth values, whatever they read.
const std::set<std::string> kTruthKinds{
    "aten::eq",         "aten::ne",          "aten::lt",          "aten::le",
    "aten::gt",         "aten::ge",          "aten::logical_not", "aten::logical_and",
    "aten::logical_or", "aten::logical_xor", "aten::isnan",       "aten::isinf"};
/// Truth values if all operands are.
const std::set<std::string> kBitKinds{"aten::__and__",     "aten::__or__",     "aten::__xor__",
                                      "aten::bitwise_and", "aten::bitwise_or", "aten::bitwise_xor",
                                      "aten::bitwise_not"};
bool is_bool_at(const Value* value, int depth) {
  if (depth > kFarthest || !gives_tensor(value)) return false;
  if (const at::Tensor t = constant_tensor(value); t.defined()) return t.scalar_type() == at::kBool;
  const Node* node = value->node();
  if (is_one_of(node, kTruthKinds)) return true;
  if (node->kind() == c10::prim::Param) return type_of_input(value) == at::kBool;
  if (const auto type = named_type(node)) return *type == static_cast<std::int64_t>(at::kBool);
  const auto of_operand = [&](const Value* operand) { return is_bool_at(operand, depth + 1); };
  if (is_one_of(node, kBitKinds)) {
    return std::all_of(node->inputs().begin(), node->inputs().end(), of_operand);
  }
  return (is_shape_only(node) || is_one_of(node, kPickKinds)) && of_operand(node->input(0));
}

/// True if a type is named that hangs on the data.
bool names_unknown_type(const Node* node) {
  const Value* type = node->maybeSchema() ? named_input(node, "dtype") : nullptr;
  return type != nullptr && !type->mustBeNone() && !constant_int(type);
}

/// The other tensor whose type x.type_as(other) or x.to(other) gives; null for other nodes.
const Value* type_giver(const Node* node) {
  if (!is_kind(node, "aten::to") && !is_kind(node, "aten::type_as")) return nullptr;
  return named_input(node, "other");
}

}  // namespace

bool Float32Values::is_promoted(const Node* node, int depth) {
  bool any = false;
  for (std::size_t i = is_kind(node, "aten::where") ? 1 : 0; i < node->inputs().size(); ++i) {
    if (gives_tensor(node->input(i)) && contains(node->input(i), depth + 1)) {
      any = true;
    } else if (!leaves_float32(node->input(i))) {
      return false;
    }
  }
  return any;
}

/// By what computes the value.
bool Float32Values::is_given_by(const Node* node, const Value* value, int depth) {
  const auto of_operand = [&](const Value* operand) { return contains(operand, depth + 1); };
  if (node->kind() == c10::prim::Param) return type_of_input(value) == at::kFloat;
  if (node->kind() == c10::prim::If) {
    const auto blocks = node->blocks();
    return std::all_of(blocks.begin(), blocks.end(), [&](const torch::jit::Block* block) {
      return of_operand(block->outputs()[value->offset()]);
    });
  }
  const auto operands = node->inputs();
  if (node->kind() == c10::prim::ListConstruct) {
    return !operands.empty() && std::all_of(operands.begin(), operands.end(), of_operand);
  }
  if (const auto type = named_type(node)) return *type == static_cast<std::int64_t>(at::kFloat);
  if (names_unknown_type(node)) return false;
  if (makes_floats(node) && named_input(node, "dtype")->mustBeNone()) return true;
  if (const Value* other = type_giver(node)) return of_operand(other);
  if (is_one_of(node, kOneType)) return std::any_of(operands.begin(), operands.end(), of_operand);
  if (is_one_of(node, kPromoting)) return is_promoted(node, depth);
  const bool parts = is_kind(node, "prim::ListUnpack");
  if (operands.empty() || (value->offset() > 0 && !parts)) return false;
  const bool keeps = is_one_of(node, kOfElements) || is_one_of(node, kPickKinds) ||
                     is_one_of(node, kOfType) || is_shape_only(node) || is_kind(node, "aten::to") ||
                     is_kind(node, "aten::scaled_dot_product_attention");
  return keeps && of_operand(operands[0]);
}

bool Float32Values::contains(const Value* value, int depth) {
  const bool list = value->type()->isSubtypeOf(*c10::ListType::ofTensors());
  if (depth > kDeepest || (!list && !gives_tensor(value))) return false;
  if (const at::Tensor t = constant_tensor(value); t.defined()) {
    return t.scalar_type() == at::kFloat;
  }
  if (const auto found = known_.find(value); found != known_.end()) return found->second;
  // What a branch multiplies may be for inputs of another type.
  if (const auto type = type_of_input(value)) return *type == at::kFloat;
  const bool known = is_given_by(value->node(), value, depth) ||
                     std::any_of(value->uses().begin(), value->uses().end(),
                                 [](const Use& use) { return multiplies_by_float32(use, 0); });
  known_[value] = known;
  return known;
}

std::optional<std::int64_t> width_of(const Value* value) { return width_at(value, 0); }

std::optional<at::ScalarType> type_of_input(const Value* value) {
  while (is_shape_only(value->node()) && named_input(value->node(), "dtype") == nullptr) {
    value = value->node()->input(0);
  }
  if (value->node()->kind() != c10::prim::Param) return {};
  const auto type = value->type()->cast<c10::TensorType>();
  return type != nullptr ? type->scalarType() : std::nullopt;
}

bool is_bool(const Value* value) { return is_bool_at(value, 0); }

bool is_never_negative(const Value* number) {
  static const std::set<std::string> kAlways{"aten::size",    "aten::len", "aten::numel",
                                             "aten::dim",     "aten::exp", "aten::abs",
                                             "aten::sigmoid", "aten::relu"};
  static const std::set<std::string> kAsFirst{
      "aten::pow",   "aten::__getitem__",   "aten::to",         "aten::type_as",     "aten::detach",
      "aten::Float", "aten::FloatImplicit", "aten::Int",        "aten::IntImplicit", "aten::sqrt",
      "aten::rsqrt", "aten::reciprocal",    "prim::ListUnpack", "prim::NumToTensor"};
  static const std::set<std::string> kAsAll{"aten::mul", "aten::div", "aten::floordiv",
                                            "aten::add"};
  if (const auto constant = constant_number(number)) return *constant >= 0.0;
  const Node* node = number->node();
  if (is_one_of(node, kAlways)) return true;
  if (is_one_of(node, kAsFirst)) return is_never_negative(node->input(0));
  return is_one_of(node, kAsAll) &&
         std::all_of(node->inputs().begin(), node->inputs().end(), is_never_negative);
}

bool leaves_float32(const Value* operand) {
  if (!gives_tensor(operand)) return operand->type()->kind() != c10::TypeKind::ComplexType;
  const at::Tensor t = constant_tensor(operand);
  if (!t.defined()) return is_bool(operand);
  return t.unsafeGetTensorImpl()->is_wrapped_number() ||
         at::isIntegralType(t.scalar_type(), /*includeBool=*/true);
}

}  // namespace repquant
