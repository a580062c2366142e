// The integer module while it is written: its graph, the calls of its submodules, and what each
// call should give.
#pragma once

#include <torch/csrc/jit/api/module.h>

#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "artifact/classes.h"
#include "artifact/decide.h"
#include "artifact/lower.h"
#include "graph/graph_copy.h"

namespace repquant {

/// Keeps every part's name a TorchScript identifier, and each name once.
class PartNames {
 public:
  std::string unique(const std::string& path);

 private:
  std::set<std::string> used_{"training", "forward", "self"};
};

class LoweredGraph {
 public:
  /// Starts with a copy of the model's graph.
  explicit LoweredGraph(Model model);

  /// Adds `module` under a name made from `path` and calls it before `before`.
  torch::jit::Value* call(const torch::jit::Module& module, const std::string& path,
                          const std::vector<torch::jit::Value*>& inputs, torch::jit::Node* before,
                          std::string* name);

  /// `symbol`(x, constant) before `before`.
  torch::jit::Value* apply(c10::Symbol symbol, torch::jit::Value* x, const at::Tensor& constant,
                           torch::jit::Node* before);

  /// Notes what `output`, of a call, stands for: `original`, a value of the model's graph.
  Emission& emit(torch::jit::Value* output, const torch::jit::Value* original,
                 const std::string& path, Emission::Kind kind);
  void emit_product_codes(torch::jit::Value* output, const torch::jit::Value* original,
                          const std::string& path, const InputQuantizer& quantizer);
  void emit_operand_codes(torch::jit::Value* output, const torch::jit::Value* original,
                          const std::string& path, const OperandCodes& operand);

  /// Notes that one reader of a constant has its integer form, and empties the constant in both
  /// graphs when the last one has. A graph that others hold, too, is not touched.
  void release(torch::jit::Value* weight);

  /// The module with its forward(). Nothing may be added after it.
  Lowered finish(const LowerOptions& options);

  ModuleFactory factory;
  GraphCopy copy;
  Lowered result;

 private:
  torch::jit::Module root_;
  torch::jit::Value* self_ = nullptr;
  PartNames names_;
  std::unordered_map<const torch::jit::Value*, std::size_t> lowered_readers_;  // of a constant
};

}  // namespace repquant
