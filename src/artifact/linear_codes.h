// Where the codes of a Linear's input come from: a norm that writes them or carries a fold,
// a value that is quantized for all its readers, windows that are taken of codes.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <unordered_map>
#include <vector>

#include "artifact/decide.h"
#include "artifact/lowered_graph.h"

namespace repquant {

/// The u8 codes of a Linear's input.
struct MadeCodes {
  const InputQuantizer* quantizer = nullptr;
  torch::jit::Value* codes = nullptr;
  torch::jit::Value* rows = nullptr;  // the grids of rows that they are on, per token
  std::string module{};
};

class LinearCodes {
 public:
  /// Both must outlive it.
  LinearCodes(LoweredGraph& lowered, const Decisions& decisions)
      : lowered_(lowered), decisions_(decisions) {}

  /// Gives the paddings that codes go through the code of zero.
  void pad_codes();
  /// `original` gives codes, or the rows that a grid per token is found from.
  void lower_norm(torch::jit::Node* original, const InputQuantizer& quantizer);
  /// Made here unless they arrive as codes. Fills in where `form` gets its input from.
  MadeCodes input_codes(torch::jit::Node* original, const PlannedSite& site, LoweredSite& form);
  /// The input on the grids of its groups, in floating point; made here. Fills in `form`, too.
  torch::jit::Value* grouped_input(torch::jit::Node* original, const PlannedSite& site,
                                   LoweredSite& form);

 private:
  const MadeCodes* find_made(const torch::jit::Value* x, const InputQuantizer& quantizer) const;
  void scale_norm(torch::jit::Node* original, const InputQuantizer& quantizer);
  torch::jit::Value* token_input(const PlannedSite& planned, torch::jit::Value* x,
                                 torch::jit::Node* before);
  torch::jit::Node* first_mover(const torch::jit::Value* to, const torch::jit::Value* from) const;
  MadeCodes codes_of(const torch::jit::Value* x, torch::jit::Value* now, torch::jit::Node* before,
                     const PlannedSite& site, LoweredSite& form);
  torch::jit::Value* moved_as(const torch::jit::Value* to, const torch::jit::Value* from,
                              torch::jit::Value* codes, std::int64_t zero,
                              torch::jit::Node* before);
  void pad_with(torch::jit::Node* padding, std::int64_t code);

  LoweredGraph& lowered_;
  const Decisions& decisions_;
  std::unordered_map<const torch::jit::Node*, std::string> norm_modules_;
  std::unordered_map<const torch::jit::Value*, at::Tensor> shifted_;  // outputs of RMSNorms
  std::unordered_map<const torch::jit::Value*, std::vector<MadeCodes>> quantized_;
};

}  // namespace repquant
