// Replaces calls of an artifact's submodules by fused operators.
#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "graph/graph_copy.h"
#include "repquant/load.h"
#include "runtime/lazy_archive.h"
#include "tensor/deviation.h"

namespace repquant {

/// A call of a submodule that has not been set up.
struct SubmoduleCall {
  torch::jit::Node* node = nullptr;  // prim::CallMethod; inputs: the submodule, then its arguments
  std::string name;
  const StoredState* state = nullptr;

  torch::jit::Value* argument(std::size_t i) const { return node->input(i + 1); }
};

/// Codes clamp(round(x multiplier + offset), 0, max_code) of channels.
struct ChannelGrid {
  at::Tensor multiplier, offset;  // float32 [C]
  std::int64_t max_code = 255;
};

/// Codes on grids of groups of columns, as repquant::group_codes has them, or these grids.
struct GroupGrid {
  std::int64_t group_size = 0, top = 255;
  bool grids = false;
};

/// An operator in the fused graph that stands for a part of the portable one.
struct Replacement {
  std::string module;                           // that the fusion starts from
  const torch::jit::Value* portable = nullptr;  // what it computes, in the portable graph
  const torch::jit::Value* fused = nullptr;     // and in the fused one
  bool behind_softmax = false;                  // a softmax code at a tie moves a row
  double relative_limit = kRelativeLimit;       // of floating-point values
  at::Tensor levels{};                          // what product codes stand for; undefined: codes
  std::optional<ChannelGrid> grid{};            // `fused` holds codes of `portable` on it
  std::optional<GroupGrid> groups{};            // the same, and codes are of `levels`
};

/// Codes on grids of groups of columns, and these grids.
struct GroupCodes {
  torch::jit::Value *codes = nullptr, *grids = nullptr;
};

/// What the fusions share: the archive, its forward as portable and as rewritten graph, and what
/// they report.
struct FusionContext {
  const LazyArchive& archive;
  const PortableSites& kept;  // are not to be fused
  const GraphCopy& copy;      // of the portable graph; its `graph` is rewritten
  std::map<std::string, LoadedSite> sites{};
  std::map<std::string, std::string> taken_in{};  // submodule, the one that it was fused into
  /// Packed weight, with row sums or scales, by submodule; several calls may read a weight.
  std::map<std::string, std::pair<at::Tensor, at::Tensor>> packed{};
  /// By call of GroupQuantize, for the products of codes that read it.
  std::map<const torch::jit::Node*, GroupCodes> group_codes{};

  std::vector<Replacement> replaced{};

  /// The call of a submodule that may be fused.
  std::optional<SubmoduleCall> call_of(torch::jit::Node* node) const;
  /// Has the self-check compare `fused` with what stands for `value` in the portable graph.
  void compare(const torch::jit::Value* value, torch::jit::Value* fused, Replacement how);
  /// The same, and puts `fused` in the place of `value`, whose node the caller destroys.
  void replace(torch::jit::Value* value, torch::jit::Value* fused, Replacement how);
  /// Whether `value` of the fused graph stands for one of the portable graph.
  bool is_replacement(const torch::jit::Value* value) const;
  /// Puts `better` in the place of the output of `node`, which it destroys: what that stood for,
  /// `better` stands for.
  void improve(torch::jit::Node* node, torch::jit::Value* better);
  /// Destroys a node that nothing reads any more, and what stands for its outputs.
  void drop(torch::jit::Node* node);
  /// Of the replacement whose value in the fused graph this is.
  std::string module_of(const torch::jit::Value* fused) const;
  void report_fused(const std::string& name, std::string op, std::string reason = "");
  /// Of a submodule whose work the operator of another one does.
  void report_fused_into(const std::string& module, const std::string& name, std::string op);
  /// Another operator for a fused submodule and what was fused into it.
  void report_operator(const std::string& module, const std::string& op);
  void report_portable(const SubmoduleCall& call, std::string reason);
};

/// How many read more of a value than its shape.
std::ptrdiff_t reader_count(const torch::jit::Value* value);

/// If `value` is read once, by a node of the same block: that node; else null.
torch::jit::Node* only_reader(torch::jit::Value* value);

/// An operator's argument; null stands for None.
torch::jit::NamedValue value_or_none(torch::jit::Value* value);

/// Inserts the operator `name` before `before` and returns its output.
torch::jit::Value* insert_operator(torch::jit::Node* before, const char* name,
                                   const std::vector<torch::jit::NamedValue>& arguments);

/// The same of an operator of several outputs.
std::vector<torch::jit::Value*> insert_with_outputs(
    torch::jit::Node* before, const char* name,
    const std::vector<torch::jit::NamedValue>& arguments);

/// Each returns true if it has replaced the call (and what it could take in with it).
bool fuse_attention(FusionContext& context, const SubmoduleCall& attend);
bool fuse_linear(FusionContext& context, const SubmoduleCall& linear);
/// A product with packed weight codes: of the codes on grids of groups where the call in front
/// makes these, else of 16-bit activations.
bool fuse_weight_only(FusionContext& context, const SubmoduleCall& linear);
bool fuse_norm(FusionContext& context, const SubmoduleCall& norm);
/// Rows of a quantized table.
bool fuse_embedding(FusionContext& context, const SubmoduleCall& embedding);
bool fuse_quantize(FusionContext& context, const SubmoduleCall& quantize);
/// Of a call of GroupQuantize, made where there are none yet.
const GroupCodes& group_codes(FusionContext& context, const SubmoduleCall& quantize);
/// Values on the grids of groups of columns, for those that do not read codes.
bool fuse_group_quantize(FusionContext& context, const SubmoduleCall& quantize);
/// With the call that finds the rows' grids, and the norm in front if nothing else reads it.
bool fuse_token_quantize(FusionContext& context, const SubmoduleCall& quantize);
/// Operands of an attention on scales of rows, with the call that finds these.
bool fuse_row_quantize(FusionContext& context, const SubmoduleCall& quantize);
/// What a decoder keeps of its keys and values, and how it reads them: as operands of an attention
/// where that is all they are read for.
bool fuse_cache_write(FusionContext& context, const SubmoduleCall& write);
bool fuse_cache_read(FusionContext& context, const SubmoduleCall& read);
/// A call that makes sense only beside another one, which was not fused.
bool leave_token_call(FusionContext& context, const SubmoduleCall& call);

/// A convolution whose channels stay apart, with the activation behind it, and codes in front of it
/// or behind it where a neighbour writes or reads them.
bool fuse_convolution(FusionContext& context, const SubmoduleCall& call);

/// The operators that make windows of a convolution's codes -> repquant::windows.
void fuse_windows(FusionContext& context, torch::jit::Graph& graph);

/// Linears of groups of channels -> repquant::grouped_linear.
void fuse_groups(FusionContext& context, torch::jit::Graph& graph);

/// Reshapes and permutations one after the other -> repquant::rearrange.
void fuse_rearrangements(FusionContext& context, torch::jit::Graph& graph);

/// Sums, products, joined tensors and lookups write into memory that earlier outputs left.
void reuse_outputs(FusionContext& context, torch::jit::Graph& graph);

/// Rewrites all calls of `graph` for which there is a fused operator.
void fuse(FusionContext& context, torch::jit::Graph& graph);

}  // namespace repquant
