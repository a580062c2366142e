#include "graph/rank.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <set>
#include <string>
#include <unordered_map>

#include "graph/normalize.h"
#include "graph/rewrite.h"
#include "graph/value_facts.h"

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Value;
using Rank = std::optional<std::int64_t>;

constexpr int kDeepest = 64;

/// The length of a list of integers, constant or built from single values.
Rank length_of(const Value* list) {
  if (list == nullptr) return {};
  if (const auto constant = torch::jit::toIValue(list); constant && constant->isIntList()) {
    return static_cast<std::int64_t>(constant->toIntVector().size());
  }
  if (list->node()->kind() == c10::prim::ListConstruct) {
    return static_cast<std::int64_t>(list->node()->inputs().size());
  }
  return {};
}

using Known = std::unordered_map<const Value*, Rank>;

Rank rank(const Value* value, Known& known, int depth);

Rank largest_rank(const Node* node, Known& known, int depth) {
  std::int64_t largest = 0;
  for (const Value* operand : node->inputs()) {
    if (!operand->type()->isSubtypeOf(*c10::TensorType::get())) continue;
    const Rank one = rank(operand, known, depth + 1);
    if (!one) return {};
    largest = std::max(largest, *one);
  }
  return largest;
}

Rank offset(Rank base, std::int64_t change) { return base ? Rank(*base + change) : Rank(); }

const std::set<std::string> kSameRank{"aten::transpose",
                                      "prim::unchecked_cast",
                                      "aten::_unwrap_optional",
                                      "aten::contiguous",
                                      "aten::detach",
                                      "aten::softmax",
                                      "aten::_softmax",
                                      "aten::_safe_softmax",
                                      "aten::linear",
                                      "aten::gelu",
                                      "aten::relu",
                                      "aten::silu",
                                      "aten::sigmoid",
                                      "aten::tanh",
                                      "aten::layer_norm",
                                      "aten::rms_norm",
                                      "aten::slice",
                                      "aten::narrow",
                                      "aten::roll",
                                      "aten::flip",
                                      "aten::clone",
                                      "aten::to",
                                      "aten::type_as",
                                      "aten::neg",
                                      "aten::exp",
                                      "aten::index_select",
                                      "aten::group_norm",
                                      "aten::batch_norm",
                                      "aten::hardswish",
                                      "aten::leaky_relu",
                                      "aten::dropout",
                                      "aten::clamp",
                                      "aten::elu",
                                      "aten::conv1d",
                                      "aten::conv2d",
                                      "aten::conv3d",
                                      "aten::_convolution",
                                      "aten::constant_pad_nd",
                                      "aten::pad",
                                      "aten::relu6",
                                      "aten::mish",
                                      "aten::softplus",
                                      "aten::log_softmax",
                                      "aten::log",
                                      "aten::sqrt",
                                      "aten::rsqrt",
                                      "aten::abs",
                                      "aten::square",
                                      "aten::cumsum",
                                      "aten::glu",
                                      "aten::triu",
                                      "aten::tril",
                                      "aten::hardtanh",
                                      "aten::logical_not",
                                      "aten::zeros_like",
                                      "aten::ones_like",
                                      "aten::full_like",
                                      "aten::_nested_tensor_from_mask",
                                      "aten::to_padded_tensor",
                                      "aten::_transformer_encoder_layer_fwd",
                                      "aten::_native_multi_head_attention",
                                      "aten::erf",
                                      "aten::sin",
                                      "aten::cos",
                                      "aten::tan",
                                      "aten::atan",
                                      "aten::prelu",
                                      "aten::selu",
                                      "aten::celu",
                                      "aten::hardsigmoid",
                                      "aten::log_sigmoid",
                                      "aten::log2",
                                      "aten::log10",
                                      "aten::log1p",
                                      "aten::expm1",
                                      "aten::reciprocal",
                                      "aten::sign",
                                      "aten::floor",
                                      "aten::ceil",
                                      "aten::round",
                                      "aten::clamp_min",
                                      "aten::clamp_max",
                                      "aten::instance_norm",
                                      "aten::cumprod",
                                      "aten::gather",
                                      "aten::scatter",
                                      "aten::scatter_add",
                                      "aten::index_add",
                                      "aten::index_copy",
                                      "aten::movedim",
                                      "aten::nan_to_num",
                                      "aten::scaled_dot_product_attention",
                                      "aten::avg_pool1d",
                                      "aten::avg_pool2d",
                                      "aten::max_pool1d",
                                      "aten::max_pool2d",
                                      "aten::adaptive_avg_pool1d",
                                      "aten::adaptive_avg_pool2d",
                                      "aten::upsample_nearest2d",
                                      "aten::upsample_bilinear2d",
                                      "aten::isnan",
                                      "aten::isinf",
                                      "aten::isfinite",
                                      "aten::bitwise_not",
                                      "aten::logit",
                                      "aten::sinh",
                                      "aten::cosh",
                                      "aten::threshold",
                                      "aten::softshrink",
                                      "aten::hardshrink",
                                      "aten::lstm",
                                      "aten::gru",
                                      "aten::fft_fft",
                                      "aten::fft_ifft",
                                      "aten::fft_fft2",
                                      "aten::fft_ifft2",
                                      "aten::fft_rfft",
                                      "aten::fft_irfft",
                                      "aten::real",
                                      "aten::imag",
                                      "aten::conj",
                                      "aten::masked_scatter",
                                      "aten::index_fill",
                                      "aten::conv_transpose1d",
                                      "aten::conv_transpose2d",
                                      "aten::conv_transpose3d",
                                      "aten::upsample_linear1d",
                                      "aten::upsample_nearest1d"};
const std::set<std::string> kBroadcast{
    "aten::add",         "aten::sub",         "aten::mul",         "aten::div",
    "aten::where",       "aten::maximum",     "aten::minimum",     "aten::eq",
    "aten::ne",          "aten::lt",          "aten::le",          "aten::gt",
    "aten::ge",          "aten::logical_and", "aten::logical_or",  "aten::pow",
    "aten::rsub",        "aten::remainder",   "aten::atan2",       "aten::__and__",
    "aten::__or__",      "aten::__xor__",     "aten::bitwise_and", "aten::bitwise_or",
    "aten::bitwise_xor", "aten::floor_divide"};
const std::set<std::string> kMakers{"aten::full", "aten::zeros", "aten::ones", "aten::empty"};
const std::set<std::string> kNewMakers{"aten::new_full", "aten::new_zeros", "aten::new_ones",
                                       "aten::new_empty"};

const std::set<std::string> kReductions{
    "aten::sum",    "aten::mean",   "aten::amax",      "aten::amin",
    "aten::norm",   "aten::std",    "aten::logsumexp", "aten::var",
    "aten::argmax", "aten::argmin", "aten::prod",      "aten::linalg_vector_norm"};

/// Of a reduction over given dimensions of a tensor with `base` of them.
Rank rank_of_reduction(const Node* node, Rank base) {
  const Value* dim = named_input(node, "dim");
  const Value* keep = named_input(node, "keepdim");
  if (dim == nullptr || keep == nullptr || dim->mustBeNone()) return {};
  const auto kept = torch::jit::constant_as<bool>(keep);
  if (!kept) return {};
  if (*kept) return base;
  const Rank count = constant_int(dim) ? Rank(1) : length_of(dim);
  return count && *count > 0 ? offset(base, -*count) : Rank();
}

/// Of x[i, j, ..] with a tensor for each dimension of x, which has `base` of them.
Rank rank_of_index(const Node* node, Rank base, Known& known, int depth) {
  const Node* list = node->input(1)->node();
  if (list->kind() != c10::prim::ListConstruct || !base) return {};
  if (*base != static_cast<std::int64_t>(list->inputs().size())) return {};
  for (const Value* index : list->inputs()) {
    if (!index->type()->isSubtypeOf(*c10::TensorType::get()) || is_bool(index)) return {};
  }
  return largest_rank(list, known, depth);
}

/// Of the tensors in `list` one behind the other: they have one rank, but an empty vector may be
/// among them (what loops start from).
Rank rank_of_joined(const Node* list, Known& known, int depth) {
  bool all = true;
  for (const Value* part : list->inputs()) {
    const Rank one = rank(part, known, depth + 1);
    if (one && *one != 1) return one;
    all = all && one;
  }
  return all ? Rank(1) : Rank();
}

Rank rank_of_node(const Node* node, Known& known, int depth) {
  const std::string kind = node->kind().toQualString();
  const auto first = [&] { return rank(node->input(0), known, depth + 1); };
  if (kSameRank.count(kind) > 0) return first();
  if (kBroadcast.count(kind) > 0) return largest_rank(node, known, depth);
  if (kMakers.count(kind) > 0) return length_of(node->input(0));
  if (kNewMakers.count(kind) > 0) return length_of(node->input(1));
  if (kind == "aten::masked_fill") {  // broadcasts both, and masks of unknown rank are seldom wider
    const Rank mask = rank(node->input(1), known, depth + 1);
    const Rank filled = first();
    return filled ? Rank(std::max(*filled, mask.value_or(0))) : Rank();
  }
  if (kind == "aten::index") return rank_of_index(node, first(), known, depth);
  if (kind == "aten::view" || kind == "aten::reshape" || kind == "aten::permute" ||
      kind == "aten::expand" || kind == "aten::repeat" || kind == "aten::broadcast_to") {
    return length_of(node->input(1));
  }
  if (kReductions.count(kind) > 0) return rank_of_reduction(node, first());
  if (kind == "aten::arange" || kind == "aten::linspace") return 1;
  if (kind == "aten::outer") return 2;
  if (kind == "aten::diagonal") return offset(first(), -1);
  if (kind == "aten::expand_as" || kind == "aten::view_as" || kind == "aten::reshape_as") {
    return rank(node->input(1), known, depth + 1);
  }
  if (kind == "aten::t") return 2;
  if (kind == "aten::unsqueeze" || kind == "aten::unfold" || kind == "aten::col2im") {
    return offset(first(), 1);
  }
  if (kind == "aten::select") return offset(first(), -1);
  if (kind == "aten::embedding") return offset(rank(node->input(1), known, depth + 1), 1);
  if (kind == "aten::matmul" || kind == "aten::bmm") {
    const Rank left = first(), right = rank(node->input(1), known, depth + 1);
    if (!left || !right || *left < 2 || *right < 2) return {};
    return std::max(*left, *right);
  }
  if (kind == "aten::flatten") {
    const auto from = dimension_from_end(node->input(1), node->input(0));
    const auto to = dimension_from_end(node->input(2), node->input(0));
    return from && to ? offset(first(), *from - *to) : Rank();
  }
  if (kind == "aten::unflatten") {
    const Rank parts = length_of(node->input(2));
    return parts ? offset(first(), *parts - 1) : Rank();
  }
  if (kind == "aten::cat" || kind == "aten::stack") {
    const Node* list = node->input(0)->node();
    if (list->kind() != c10::prim::ListConstruct || list->inputs().empty()) return {};
    return kind == "aten::stack" ? offset(rank(list->input(0), known, depth + 1), 1)
                                 : rank_of_joined(list, known, depth);
  }
  if (kind == "prim::ListUnpack") {
    const Node* list = node->input(0)->node();
    if (list->inputs().empty()) return {};
    if (is_kind(list, "aten::unbind")) return offset(rank(list->input(0), known, depth + 1), -1);
    if (gives_parts(list)) return rank(list->input(0), known, depth + 1);
  }
  return {};
}

/// The rank that both ways through a branch give.
Rank rank_of_branches(const Value* value, Known& known, int depth) {
  Rank both;
  for (const torch::jit::Block* block : value->node()->blocks()) {
    const Rank one = rank(block->outputs()[value->offset()], known, depth + 1);
    if (!one || (both && *both != *one)) return {};
    both = one;
  }
  return both;
}

Rank rank_by_what_gives(const Value* value, Known& known, int depth) {
  if (value->node()->kind() == c10::prim::If) return rank_of_branches(value, known, depth);
  if (const at::Tensor t = constant_tensor(value); t.defined()) return t.dim();
  if (value->node()->kind() == c10::prim::Param) {  // known while a model is loaded
    const auto type = value->type()->cast<c10::TensorType>();
    if (type == nullptr || !type->dim()) return {};
    return static_cast<std::int64_t>(*type->dim());
  }
  return rank_of_node(value->node(), known, depth);
}

Rank rank(const Value* value, Known& known, int depth) {
  if (depth > kDeepest) return {};
  if (const auto found = known.find(value); found != known.end()) return found->second;
  const Rank given = rank_by_what_gives(value, known, depth);
  if (given || depth == 0) known[value] = given;  // deeper down it may be for want of depth
  return given;
}

}  // namespace

std::optional<std::int64_t> Ranks::of(const Value* value) { return rank(value, known_, 0); }

std::optional<std::int64_t> rank_of(const Value* value) { return Ranks().of(value); }

std::optional<std::int64_t> dimension_from_end(const Value* dimension, const Value* tensor) {
  if (dimension == nullptr) return {};
  const auto constant = constant_int(dimension);
  if (!constant || *constant < 0) return constant;
  const auto dimensions = rank_of(tensor);
  return dimensions ? std::optional(*constant - *dimensions) : std::nullopt;
}

bool swaps_last_two(const Node* node) {
  if (is_kind(node, "aten::transpose") && node->inputs().size() == 3) {
    const auto a = dimension_from_end(node->input(1), node->input(0));
    const auto b = dimension_from_end(node->input(2), node->input(0));
    return a && b && std::min(*a, *b) == -2 && std::max(*a, *b) == -1;
  }
  if (!is_kind(node, "aten::permute")) return false;
  const auto constant = torch::jit::toIValue(node->input(1));
  if (!constant || !constant->isIntList()) return false;
  std::vector<std::int64_t> order = constant->toIntVector();
  const auto n = static_cast<std::int64_t>(order.size());
  if (n < 2) return false;
  for (auto& d : order) d = d < 0 ? d + n : d;
  for (std::int64_t d = 0; d + 2 < n; ++d) {
    if (order[static_cast<std::size_t>(d)] != d) return false;
  }
  return order[order.size() - 2] == n - 1 && order[order.size() - 1] == n - 2;
}

}  // namespace repquant
