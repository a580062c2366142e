// Runs a flat graph node by node, so that callers can watch, replace or stop between nodes.
#pragma once

#include <ATen/core/ivalue.h>

#include <functional>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace torch::jit {
struct Block;
struct Graph;
struct Node;
struct Value;
}  // namespace torch::jit

namespace repquant {

/// Values of one run, by graph value.
using Values = std::unordered_map<const torch::jit::Value*, c10::IValue>;

/// Replaces the evaluation of a node; returns false to let the walker evaluate it.
using NodeHook = std::function<bool(const torch::jit::Node*, Values&)>;

/// Evaluates one node: reads its inputs from `values`, stores its outputs there.
/// Covers every operator LibTorch can run plus constants, tuples, lists, dicts, If and Loop.
/// Throws Error kUnsupported for nodes outside that set, and kNumerical / kUnsupported with the
/// site path when the operator itself fails. `hook`: for the nodes inside branches and loops.
void run_node(const torch::jit::Node* node, Values& values, const NodeHook& hook = nullptr);

/// The top-level nodes of a graph in execution order, with the values that die at each of them.
class Schedule {
 public:
  explicit Schedule(const torch::jit::Graph& graph);

  const std::vector<torch::jit::Node*>& nodes() const { return nodes_; }
  std::size_t index_of(const torch::jit::Node* node) const { return index_.at(node); }
  /// Removes from `values` what no node at or after position `next` reads.
  void drop_dead(std::size_t next, Values& values) const;
  /// True if some node at or after position `next`, or the graph's output, reads `value`.
  bool live_at(const torch::jit::Value* value, std::size_t next) const;

 private:
  std::vector<torch::jit::Node*> nodes_;
  std::unordered_map<const torch::jit::Node*, std::size_t> index_;
  std::unordered_map<const torch::jit::Value*, std::size_t> last_use_;
};

/// Binds the graph's inputs: one value for each of them, or the tensors that they consist of (see
/// structured_inputs()). Throws Error kUsage when number or kind of inputs do not fit.
Values bind_inputs(const torch::jit::Graph& graph, const std::vector<c10::IValue>& inputs);

/// Runs nodes [begin, end) of the schedule, dropping values after their last use.
void run_range(const Schedule& schedule, std::size_t begin, std::size_t end, Values& values,
               const NodeHook& hook = nullptr);

/// Runs the whole graph and returns its outputs (one per graph output).
std::vector<c10::IValue> run_graph(const torch::jit::Graph& graph, const Schedule& schedule,
                                   const std::vector<c10::IValue>& inputs,
                                   const NodeHook& hook = nullptr);

/// The tensors inside an output (tensor, tuple, list or dict), in order.
std::vector<at::Tensor> output_tensors(const std::vector<c10::IValue>& outputs);
/// Those of the graph's outputs, which must be among `values`.
std::vector<at::Tensor> output_tensors(const torch::jit::Graph& graph, const Values& values);

/// Copies of a batch to run on: a model may write into its input.
std::vector<c10::IValue> copies_of(const std::vector<at::Tensor>& inputs);

}  // namespace repquant
