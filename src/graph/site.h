// Sites: the places of a graph that can be quantized, found by structure and proven by running.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "graph/model.h"
#include "plan/site_kind.h"

namespace torch::jit {
struct Node;
struct Value;
}  // namespace torch::jit

namespace repquant {

/// What computes the input of a Linear, seen through shape-only operators.
enum class InputSource { kNorm, kGelu, kAttention, kOther };

struct Site {
  SiteKind kind = SiteKind::kLinear;
  std::string path;  // module path from the call stack, made unique; e.g. blocks.0.attn.qkv
  /// kLinear and kPatchEmbedding: the aten::linear node (the patch embedding has been rewritten to
  /// patches + linear). kScores: the matmul q k^T. kAttend: the matmul softmax(..) v.
  /// kEmbedding: the aten::embedding node.
  torch::jit::Node* node = nullptr;

  at::Tensor weight;  // linear: [N, K] float32, of the original model
  at::Tensor table;   // embedding: [V, D] float32, of the original model
  at::Tensor bias;    // linear: [N] float32 or undefined
  InputSource source = InputSource::kOther;
  /// The normalisation node whose output reaches only Linear inputs, proven foldable; else null.
  torch::jit::Node* norm = nullptr;
  bool scale_only_fold = false;  // zero padding lies between norm and Linear: fold r, not b

  torch::jit::Node* softmax = nullptr;  // kAttend: the softmax that feeds operand 0
  /// kScores, kAttend: axis -3 of both operands is the heads, of the same number at every batch
  /// size. Where it is not, axis -3 may be the batch, or heads folded into the batch.
  bool heads = false;
  std::int64_t macs = 0;  // multiply-accumulates per sample at the probed shape
  std::string note;       // e.g. why a norm is not folded
};

/// The constant that a site reads: a weight or a table; undefined for products of activations.
inline const at::Tensor& constant_of(const Site& site) {
  return site.table.defined() ? site.table : site.weight;
}

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

/// Finds sites by structure alone. Norm folds are candidates until prove_folds() has seen them.
/// Throws Error kUnsupported if a Linear lies inside a branch or loop that could not be resolved.
SiteSearch find_sites(const Model& model);

/// Runs the model with marked norm outputs and keeps a fold only where every consumer's input is
/// exactly r * norm + b per channel, at the batch size of `inputs` and at batch size 1 (where the
/// model takes it). Folds that fail are removed, with a note. Likewise an attention product is kept
/// only if the rows of its softmax arrive whole. Also fills in `macs` and `heads`.
/// inputs: one sample batch, each [B, ...].
void prove_sites(const Model& model, SiteSearch& search, const std::vector<at::Tensor>& inputs);

/// True for operators that only move elements (reshape, permute, slice, roll, ...).
bool is_shape_only(const torch::jit::Node* node);

/// True for operators that read shape, type or device and no element.
bool reads_shape_only(const torch::jit::Node* node);

}  // namespace repquant
