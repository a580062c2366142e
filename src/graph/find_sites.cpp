#include <ATen/core/Tensor.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>

#include "base/overloaded.h"
#include "graph/convolution.h"
#include "graph/dependence.h"
#include "graph/normalize.h"
#include "graph/operator_kinds.h"
#include "graph/products.h"
#include "graph/rank.h"
#include "graph/reaches_norm.h"
#include "graph/rewrite.h"
#include "graph/site.h"
#include "graph/site_path.h"
#include "graph/unread_weights.h"
#include "repquant/error.h"

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Value;

bool is_any(const Node* node, const std::set<std::string>& kinds) {
  return kinds.count(kind_name(node)) > 0;
}

const std::set<std::string> kPads{"aten::pad", "aten::constant_pad_nd"};
// Between q k^T and softmax: scaling, masks, biases, soft caps and sinks.
const std::set<std::string> kScoreArithmetic{
    "aten::mul",     "aten::div",     "aten::add",          "aten::sub",  "aten::masked_fill",
    "aten::where",   "aten::to",      "aten::clamp",        "aten::tanh", "aten::cat",
    "aten::maximum", "aten::type_as", "prim::ListConstruct"};
bool is_float_tensor_constant(const Value* value) {
  const auto tensor = constant_tensor(value);
  return tensor.defined() && tensor.is_floating_point();
}

/// Follows shape-only operators backwards to what computed the elements.
const Value* elements_of(const Value* value) {
  while (is_shape_only(value->node()) && !value->node()->inputs().empty()) {
    value = value->node()->input(0);
  }
  return value;
}

InputSource source_of(const Value* input) {
  const Node* node = elements_of(input)->node();
  if (is_norm(node)) return InputSource::kNorm;
  if (kind_name(node) == "aten::gelu") return InputSource::kGelu;
  if (kind_name(node) == "aten::matmul") return InputSource::kAttention;
  return InputSource::kOther;
}

/// The matmul q k^T behind the softmax's input, through scaling and masks; null if there is none.
Node* scores_behind(Value* value, int depth = 0) {
  if (depth > 32) return nullptr;
  Node* node = value->node();
  if (kind_name(node) == "aten::matmul") return node;
  if (!is_any(node, kScoreArithmetic) && !is_shape_only(node)) return nullptr;
  for (Value* operand : node->inputs()) {
    const bool tensors = operand->type()->isSubtypeOf(*c10::TensorType::get()) ||
                         operand->type()->isSubtypeOf(*c10::ListType::ofTensors());
    if (!tensors) continue;
    if (Node* found = scores_behind(operand, depth + 1)) return found;
  }
  return nullptr;
}

/// The matmul that multiplies the softmax's output by V; null, with a reason, if it is not one.
Node* attend_after(Node* softmax, std::string& reason) {
  Value* value = softmax->output();
  for (int depth = 0; depth < 16; ++depth) {
    Node* next = nullptr;
    std::size_t offset = 0;
    for (const auto& use : value->uses()) {
      if (reads_shape_only(use.user)) continue;
      if (next != nullptr) {
        reason = "the softmax output has more than one reader";
        return nullptr;
      }
      next = use.user;
      offset = use.offset;
    }
    if (next == nullptr) break;
    if (kind_name(next) == "aten::matmul") {
      if (offset == 0) return next;
      reason = "the softmax output is the right operand of its product";
      return nullptr;
    }
    const bool moves_only = is_shape_only(next) && next->outputs().size() == 1;
    if (!moves_only && kind_name(next) != "aten::to" && kind_name(next) != "aten::type_as") break;
    value = next->output();
  }
  reason = "the softmax output does not reach a matrix product";
  return nullptr;
}

bool softmax_over_last(const Node* softmax) {
  const Value* dim = named_input(softmax, "dim");
  if (const auto known = dimension_from_end(dim, softmax->input(0))) return *known == -1;
  return constant_int(dim) == std::optional<std::int64_t>(3);
}

/// True if no element of `value` reaches an output: only the places of the largest do, as where
/// neighbours are looked for.
bool only_chooses(const Value* value) {
  static const std::set<std::string> kPlaces{"aten::topk", "aten::sort", "aten::max", "aten::min"};
  static const std::set<std::string> kOnlyPlaces{"aten::argmax", "aten::argmin", "aten::argsort"};
  std::set<const Value*> seen;
  std::vector<const Value*> open{value};
  while (!open.empty()) {
    const Value* next = open.back();
    open.pop_back();
    if (!seen.insert(next).second) continue;
    for (const auto& use : next->uses()) {
      const Node* user = use.user;
      if (user->kind() == c10::prim::Return) return false;
      if (reads_shape_only(user) || is_any(user, kOnlyPlaces)) continue;
      const bool places = is_any(user, kPlaces) && user->outputs().size() == 2;
      for (const Value* output : user->outputs()) {
        if (!places || output == user->outputs()[0]) open.push_back(output);
      }
    }
  }
  return !value->uses().empty();
}

/// All Linear inputs that a norm's output reaches through shape-only operators.
struct NormReach {
  std::vector<const Node*> linears;
  bool padded = false;
  std::string obstacle;  // why it is not foldable; empty if it is
};

void reach(const Value* value, const std::unordered_map<const Node*, std::size_t>& linear_sites,
           NormReach& out) {
  for (const auto& use : value->uses()) {
    const Node* user = use.user;
    if (reads_shape_only(user)) continue;
    if (linear_sites.count(user) > 0 && use.offset == 0) {
      out.linears.push_back(user);
    } else if (is_other_padding(user)) {  // at the sizes of the data there may be none
      out.obstacle = "its norm is padded with another number than zero";
    } else if (use.offset == 0 && (is_shape_only(user) || is_any(user, kPads))) {
      out.padded = out.padded || is_any(user, kPads);
      for (const Value* result : user->outputs()) reach(result, linear_sites, out);
    } else if (out.obstacle.empty()) {
      out.obstacle = "its norm is also read by " +
                     (kind_name(user) == "prim::Return" ? "the model's output" : kind_name(user));
    }
  }
}

/// The path of a site in the module `path`: products, which have no module of their own, and
/// operators of the root get a name.
std::string named(const Site& site, const std::string& path) {
  const auto inside = [&](const char* name) { return path.empty() ? name : path + "." + name; };
  return std::visit(
      Overloaded{
          [&](const LinearSite&) { return path.empty() ? "linear" : path; },
          [&](const ScoresSite& product) { return inside(product.softmax ? "scores" : "product"); },
          [&](const AttendSite&) { return inside("attend"); },
          [&](const EmbeddingSite&) { return path.empty() ? "embedding" : path; },
          [&](const GroupedConvolutionSite&) { return path.empty() ? "convolution" : path; }},
      site.kind);
}

class Search {
 public:
  explicit Search(const Model& model)
      : graph_(*model.graph), windows_(model.convolutions.windows), file_(model) {
    const auto& patches = model.convolutions.patches;
    patches_.insert(patches.begin(), patches.end());
  }

  SiteSearch run() {
    for (Node* node : graph_.nodes()) add_linear(node);
    for (Node* node : graph_.nodes()) add_convolution(node);
    for (Node* node : graph_.nodes()) add_embedding(node);
    for (Node* node : graph_.nodes()) add_attention(node);
    add_products();
    order_and_name();
    find_norms();
    list_skipped();
    return std::move(result_);
  }

 private:
  template <typename Kind>
  void add(Node* node, Kind kind) {
    Site& site = result_.sites.emplace_back();
    site.node = node;
    site.kind = std::move(kind);
  }

  void add_linear(Node* node) {
    if (kind_name(node) != "aten::linear") return;
    const auto weight = constant_tensor(node->input(1));
    if (!weight.defined() || weight.dim() != 2 || weight.scalar_type() != at::kFloat) return;
    if (is_of_positions(node)) return;
    LinearSite linear;
    linear.weight = weight;
    linear.bias = constant_tensor(node->input(2));
    linear.source = source_of(node->input(0));
    linear.of_patches = patches_.count(node) > 0;
    linear.keeps_zeros = !linear.bias.defined() && reaches_norm(node->output());
    if (const auto found = windows_.find(node); found != windows_.end()) {
      linear.windows = found->second;
    }
    add(node, std::move(linear));
  }

  /// A convolution that has not become a Linear: it has many groups.
  void add_convolution(Node* node) {
    const auto found = read_convolution(node);
    if (!found || found->before != found->after) return;
    add(node, GroupedConvolutionSite{found->weight,
                                     found->bias,
                                     {.kernel = found->kernel,
                                      .stride = found->stride,
                                      .padding = found->before,
                                      .dilation = found->dilation,
                                      .groups = found->groups},
                                     !found->bias.defined() && reaches_norm(node->output())});
  }

  /// A lookup in a constant table that nothing but lookups and Linears (a tied head) read.
  void add_embedding(Node* node) {
    if (kind_name(node) != "aten::embedding" || is_of_kinds(node)) return;
    const auto table = constant_tensor(node->input(0));
    if (!table.defined() || table.dim() != 2 || table.scalar_type() != at::kFloat) return;
    for (const auto& use : node->input(0)->uses()) {
      if (use.user->owningBlock() != graph_.block() || !(looks_up(use) || is_tied_head(use)))
        return;
    }
    add(node, EmbeddingSite{table});
  }

  static bool looks_up(const torch::jit::Use& use) {
    return kind_name(use.user) == "aten::embedding" && use.offset == 0;
  }

  static bool is_tied_head(const torch::jit::Use& use) {
    return kind_name(use.user) == "aten::linear" && use.offset == 1;
  }

  /// A table of a few rows, such as those of BERT's token types: one of them is added to every
  /// token, and with it its error, for next to no bytes (docs/decisions-accuracy.md, section 18).
  static bool is_of_kinds(const Node* lookup) {
    constexpr std::int64_t kMostKinds = 4;
    if (kind_name(lookup) != "aten::embedding") return false;
    const at::Tensor table = constant_tensor(lookup->input(0));
    const auto& uses = lookup->input(0)->uses();
    return table.defined() && table.dim() == 2 && table.size(0) <= kMostKinds &&
           std::all_of(uses.begin(), uses.end(), looks_up);
  }

  void add_attention(Node* softmax) {
    if (!is_softmax(softmax)) return;
    std::string reason;
    const bool over_last = softmax_over_last(softmax);
    Node* attend = over_last ? attend_after(softmax, reason) : nullptr;
    if (!over_last) reason = "its softmax is not over the last dimension";
    Node* scores = scores_behind(softmax->input(0));
    if (attend == nullptr || attend->owningBlock() != graph_.block() ||
        !file_.unread_by(attend, of_inputs()).empty()) {
      if (scores != nullptr) reasons_[scores] = reason;
      return;
    }
    add(attend, AttendSite{softmax});
    // Two softmaxes may read the same scores, or one what is no product (a pooling).
    if (scores == nullptr || scores->owningBlock() != graph_.block()) return;
    if (!is_planned(scores) && file_.unread_by(scores, of_inputs()).empty())
      add(scores, ScoresSite{});
  }

  /// Other products of two activations, such as those of linear attention. One that reads elements
  /// of an input past every site may take any value, and stays exact; so does a product of two
  /// that depend on no input (positions times frequencies).
  void add_products() {
    const ValueSet varying = quantized_values(Schedule(graph_), result_.sites);
    const auto any_value = [&](const Value* v) {
      return varying.count(v) == 0 && of_inputs().count(v) > 0;
    };
    for (Node* node : graph_.nodes()) {
      if (kind_name(node) != "aten::matmul" || is_planned(node)) continue;
      const Value *left = node->input(0), *right = node->input(1);
      const bool fixed = varying.count(left) == 0 && varying.count(right) == 0;
      if (!parameters_of(node).empty() || reads_complex_weight(node)) continue;
      if (!file_.unread_by(node, of_inputs()).empty()) {
        reasons_[node] = "its weight is computed anew in each pass, of parameters and sizes alone";
      } else if (fixed || any_value(left) || any_value(right)) {
        reasons_.emplace(node, fixed ? "a product of values that no quantized operator gives"
                                     : "an operand that no quantized operator gives");
      } else if (only_chooses(node->output())) {
        reasons_[node] = "it only decides which elements are taken";
      } else {
        add(node, ScoresSite{.softmax = false});
      }
    }
  }

  bool is_planned(const Node* node) const {
    return std::any_of(result_.sites.begin(), result_.sites.end(),
                       [node](const Site& site) { return site.node == node; });
  }

  void order_and_name() {
    auto& sites = result_.sites;
    sort_by_place(sites);
    std::map<std::string, int> used;
    for (auto& site : sites) {
      const std::string path = named(site, module_path(site.node));
      const int count = ++used[path];
      site.path = count == 1 ? path : path + "#" + std::to_string(count);
    }
  }

  void find_norms() {
    std::unordered_map<const Node*, std::size_t> linear_sites;
    for (std::size_t i = 0; i < result_.sites.size(); ++i) {
      if (linear_of(result_.sites[i]) != nullptr) linear_sites[result_.sites[i].node] = i;
    }
    for (Node* norm : graph_.nodes()) {
      if (!is_norm(norm)) continue;
      NormReach reached;
      reach(norm->outputs()[0], linear_sites, reached);
      if (!has_constant_affine(norm))
        reached.obstacle = "its norm has parameters that are computed";
      for (const Node* linear : reached.linears) {
        const Site& site = result_.sites[linear_sites.at(linear)];
        if (reached.obstacle.empty() && norm_width(norm) != linear_of(site)->weight.size(1)) {
          reached.obstacle = "its norm has another width than the input of " + site.path;
        }
      }
      for (const Node* linear : reached.linears) {  // all of them or none
        Site& site = result_.sites[linear_sites.at(linear)];
        auto& own = std::get<LinearSite>(site.kind);
        own.scale_only_fold = reached.padded;
        if (reached.obstacle.empty()) {
          own.norm = norm;
        } else {
          site.note = "not folded: " + reached.obstacle;
        }
      }
    }
  }

  static std::int64_t norm_width(const Node* norm) {
    const auto shape = torch::jit::toIValue(named_input(norm, "normalized_shape"));
    return shape && shape->isIntList() ? shape->toIntVector().back() : 0;
  }

  static bool has_constant_affine(const Node* norm) {
    const auto shape = torch::jit::toIValue(named_input(norm, "normalized_shape"));
    if (!shape || !shape->isIntList() || shape->toIntVector().size() != 1) return false;
    for (const char* name : {"weight", "bias"}) {
      const Value* value = named_input(norm, name);
      if (value == nullptr) continue;  // RMSNorm has no bias
      if (!is_float_tensor_constant(value) && !value->mustBeNone()) return false;
    }
    return true;
  }

  /// Everything that multiplies and is no site, wherever it stands. Parameters that several of
  /// them read count for the first one.
  void list_skipped() {
    std::set<const Node*> planned;
    std::set<const void*> counted;
    for (const auto& site : result_.sites) {
      planned.insert(site.node);
      if (constant_of(site).defined()) counted.insert(constant_of(site).const_data_ptr());
    }
    for (Node* node : all_nodes(graph_)) {
      if (planned.count(node) > 0) continue;
      const bool table =
          kind_name(node) == "aten::embedding" || kind_name(node) == "aten::embedding_bag";
      if (!is_product(node) && !is_unknown_operator(node) && !table) continue;
      if (is_of_positions(node) || is_of_kinds(node)) continue;
      SkippedOperator skipped{
          .path = module_path(node), .op = kind_name(node), .reason = "", .node = node};
      std::vector<at::Tensor> parameters = parameters_of(node);
      if (kind_name(node) == "aten::matmul" && node->owningBlock() == graph_.block()) {
        const std::vector<at::Tensor> unread = file_.unread_by(node, of_inputs());
        if (parameters.empty()) parameters = unread;
      }
      for (const at::Tensor& t : parameters) {
        if (counted.insert(t.const_data_ptr()).second) skipped.parameters += t.numel();
      }
      if (table) {
        if (skipped.parameters == 0) continue;  // computed, or another lookup's
        skipped.reason = "a table that other operators than lookups read, or of another form";
      } else if (const auto found = reasons_.find(node); found != reasons_.end()) {
        skipped.reason = found->second;
      } else if (node->owningBlock() != graph_.block() && is_product(node)) {
        skipped.reason =
            has_nested_tensors()
                ? "it lies in a branch for nested tensors; build nn.TransformerEncoder "
                  "with enable_nested_tensor=False"
                : "it lies in a branch, or in a loop whose turns are not a constant";
      } else {
        skipped.reason = reason_for_gap(node);
      }
      result_.skipped.push_back(skipped);
    }
  }

  /// Positions times frequencies, as rotary embeddings have them: a product of what depends on no
  /// element of an input, or that times a single column. Angles have no use for a grid.
  bool is_of_positions(const Node* node) {
    const bool linear = kind_name(node) == "aten::linear";
    if ((!linear && kind_name(node) != "aten::matmul") || node->owningBlock() != graph_.block()) {
      return false;
    }
    const at::Tensor weight = linear ? constant_tensor(node->input(1)) : at::Tensor();
    if (linear ? !weight.defined() || weight.size(-1) != 1 : !parameters_of(node).empty()) {
      return false;
    }
    return of_inputs().count(node->input(0)) == 0 &&
           (linear || of_inputs().count(node->input(1)) == 0);
  }

  /// Values that depend on an element of an input.
  const ValueSet& of_inputs() {
    if (of_inputs_.empty()) {
      const auto inputs = graph_.inputs();
      of_inputs_ = dependent_values(Schedule(graph_), ValueSet(inputs.begin(), inputs.end()));
    }
    return of_inputs_;
  }

  bool has_nested_tensors() {
    const std::vector<Node*> nodes = all_nodes(graph_);
    return std::any_of(nodes.begin(), nodes.end(), [](const Node* node) {
      return is_kind(node, "aten::_nested_tensor_from_mask");
    });
  }

  torch::jit::Graph& graph_;
  std::set<const Node*> patches_;
  const std::map<const Node*, Node*>& windows_;
  std::unordered_map<const Node*, std::string> reasons_;
  ValueSet of_inputs_;  // once they are asked for
  FileWeights file_;
  SiteSearch result_;
};

}  // namespace

SiteSearch find_sites(const Model& model) { return Search(model).run(); }

}  // namespace repquant
