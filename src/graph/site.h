// Sites: the places of a graph that can be quantized, found by structure and proven by running.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "graph/model.h"
#include "plan/convolution_shape.h"
#include "plan/site_kind.h"

namespace torch::jit {
struct Node;
struct Value;
}  // namespace torch::jit

namespace repquant {

struct Observed;

/// What computes the input of a Linear, seen through shape-only operators.
enum class InputSource { kNorm, kGelu, kAttention, kOther };

/// A Linear with a constant weight. node: aten::linear.
struct LinearSite {
  at::Tensor weight;  // [N, K] float32, of the original model
  at::Tensor bias;    // [N] float32 or undefined
  InputSource source = InputSource::kOther;
  /// The normalisation node whose output reaches only Linear inputs, proven foldable; else null.
  torch::jit::Node* norm = nullptr;
  bool scale_only_fold = false;  // zero padding lies between norm and Linear: fold r, not b
  bool of_patches = false;       // a patch embedding, rewritten to patches and this Linear
  /// It has no bias, and a norm is behind it without anything added: zeros have to stay zeros.
  bool keeps_zeros = false;
  /// Of a convolution whose windows overlap: the first node between its input and this Linear,
  /// which reads many copies of it. Else null.
  torch::jit::Node* windows = nullptr;
};

/// A product of two activations: q k^T of an attention block, or one without a softmax, as linear
/// attention has. node: the matmul.
struct ScoresSite {
  /// Axis -3 of both operands is the heads, of the same number at every batch size and length.
  /// Where it is not, axis -3 may be the batch, or heads folded into the batch.
  bool heads = false;
  bool softmax = true;    // behind it, which does not see a constant of a row
  bool channels = false;  // what it sums over has one size at every batch size and length
};

/// softmax(..) v of an attention block. node: the matmul.
struct AttendSite {
  torch::jit::Node* softmax = nullptr;  // feeds operand 0
  bool heads = false;                   // as in ScoresSite
  bool columns = false;                 // axis -1 of V has one size at every batch size and length
};

/// A lookup in a constant table. node: aten::embedding.
struct EmbeddingSite {
  at::Tensor table;  // [V, D] float32, of the original model
};

/// A convolution with many small groups, such as one for each channel. node: the convolution.
struct GroupedConvolutionSite {
  at::Tensor weight;  // [N, C / groups, kernel..] float32, of the original model
  at::Tensor bias;    // [N] float32 or undefined
  ConvolutionShape shape;
  bool keeps_zeros = false;  // as of a Linear
};

/// A place of the graph that can be quantized. Who depends on the kind visits `kind`
/// (base/overloaded.h), so that a new one does not compile until every visitor knows it.
struct Site {
  std::string path;  // module path from the call stack, made unique; e.g. blocks.0.attn.qkv
  torch::jit::Node* node = nullptr;
  std::int64_t macs = 0;  // multiply-accumulates per sample at the probed shape
  std::string note;       // e.g. why a norm is not folded
  std::variant<LinearSite, ScoresSite, AttendSite, EmbeddingSite, GroupedConvolutionSite> kind;
};

/// As written in reports, artifacts and plans.
SiteKind kind_of(const Site& site);

/// The Linear that a site is; null for other kinds.
inline const LinearSite* linear_of(const Site& site) { return std::get_if<LinearSite>(&site.kind); }

/// The foldable norm in front of a site; null if there is none.
inline torch::jit::Node* norm_of(const Site& site) {
  const LinearSite* linear = linear_of(site);
  return linear != nullptr ? linear->norm : nullptr;
}

/// The convolution with many groups that a site is; null for other kinds.
inline const GroupedConvolutionSite* convolution_of(const Site& site) {
  return std::get_if<GroupedConvolutionSite>(&site.kind);
}

/// True for kinds that only copy: no multiply-accumulates, and nothing in them is fitted on data.
inline bool is_lookup(const Site& site) { return std::holds_alternative<EmbeddingSite>(site.kind); }

/// Where what a site reads is still small: the node itself, or the first that takes windows.
inline const torch::jit::Node* begin_of(const Site& site) {
  const LinearSite* linear = linear_of(site);
  return linear != nullptr && linear->windows != nullptr ? linear->windows : site.node;
}

/// Into the order of execution. The place of a site is that of the first node that it takes over: a
/// softmax is evaluated by the product behind it, so what lies between the two comes later.
void sort_by_place(std::vector<Site>& sites);

/// The constant that a site reads: a weight or a table; undefined for products of activations.
at::Tensor constant_of(const Site& site);

/// Lets go of that constant.
void drop_constant(Site& site);

/// A multiply-accumulate operator that stays in floating point, and why.
struct SkippedOperator {
  std::string path;
  std::string op;  // e.g. aten::conv2d
  std::string reason;
  std::int64_t macs = 0;
  std::int64_t parameters = 0;
  const torch::jit::Node* node = nullptr;
};

struct SiteSearch {
  /// In the order of execution; a kAttend site is where its softmax is.
  std::vector<Site> sites;
  std::vector<SkippedOperator> skipped;
};

/// Finds sites by structure alone. Norm folds are candidates until prove_sites() has seen them.
/// Throws Error kUnsupported if a Linear lies inside a branch or loop that could not be resolved.
SiteSearch find_sites(const Model& model);

/// Runs the model with marked norm outputs and keeps a fold only where every consumer's input is
/// exactly r * norm + b per channel, at the batch size of `inputs` and at batch size 1 (where the
/// model takes it). Folds that fail are removed, with a note. Likewise an attention product is kept
/// only if the rows of its softmax arrive whole, and other products only if both operands are
/// matrices. Also fills in `macs` and `heads`.
/// inputs: one sample batch, each [B, ...]; `observed`: of a run on them.
void prove_sites(const Model& model, SiteSearch& search, const std::vector<at::Tensor>& inputs,
                 const Observed& observed);

/// Gives `model` a graph of its own where it shares one with a copy; what `sites` and the model
/// point at is in it then. True if it made one: what was observed of the old one does not hold.
bool own_graph(Model& model, std::vector<Site>& sites);

/// True if `value` is the output of a Linear, perhaps cut, moved around and scaled by numbers.
bool is_moved_linear(const torch::jit::Value* value);

}  // namespace repquant
