// Replaces calls of an artifact's submodules by fused operators.
#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "repquant/load.h"
#include "runtime/lazy_archive.h"

namespace repquant {

/// A call of a submodule that has not been set up.
struct SubmoduleCall {
  torch::jit::Node* node = nullptr;  // prim::CallMethod; inputs: the submodule, then its arguments
  std::string name;
  const StoredState* state = nullptr;

  torch::jit::Value* argument(std::size_t i) const { return node->input(i + 1); }
};

/// What the fusions share: the archive, and what they report.
struct FusionContext {
  const LazyArchive& archive;
  std::map<std::string, LoadedSite> sites;
  /// Packed weight and row sums by submodule; a weight may be read by several calls.
  std::map<std::string, std::pair<at::Tensor, at::Tensor>> packed;

  std::optional<SubmoduleCall> call_of(torch::jit::Node* node) const;
  void report_fused(const std::string& name, std::string op, std::string reason = "");
  void report_portable(const SubmoduleCall& call, std::string reason);
};

/// If `value` is read once, by a node of the same block: that node; else null.
torch::jit::Node* only_reader(torch::jit::Value* value);

/// Inserts the operator `name` before `before` and returns its output.
torch::jit::Value* insert_operator(torch::jit::Node* before, const char* name,
                                   const std::vector<torch::jit::NamedValue>& arguments);

/// Each returns true if it has replaced the call (and what it could take in with it).
bool fuse_attention(FusionContext& context, const SubmoduleCall& attend);
bool fuse_linear(FusionContext& context, const SubmoduleCall& linear);
bool fuse_norm(FusionContext& context, const SubmoduleCall& norm);
bool fuse_quantize(FusionContext& context, const SubmoduleCall& quantize);
/// No operator has a scale for each row: the two calls about a product stay, the product is fused.
bool leave_token_call(FusionContext& context, const SubmoduleCall& call);

/// Rewrites all calls of `graph` for which there is a fused operator.
void fuse(FusionContext& context, torch::jit::Graph& graph);

}  // namespace repquant
