// The TorchScript classes that an artifact consists of. They are defined from source text and use
// only operators of stock LibTorch, so that a saved artifact loads without any library of ours.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "format/class_source.h"
#include "format/codes.h"
#include "plan/convolution_shape.h"
#include "tensor/equal.h"

namespace torch::jit {
struct CompilationUnit;
struct Module;
}  // namespace torch::jit

namespace repquant {

struct NormQuantizeState {
  at::Tensor weight, bias;  // [D], with multiplier and offset folded in
  std::vector<std::int64_t> shape;
  double epsilon = 1e-5;
  std::int64_t max_code = 255;
  bool root_mean_square = false;  // RMSNorm; the bias is then added to its output
};

/// float -> codes: clamp(round(x m + a), 0, max_code) - shift.
struct QuantizeState {
  at::Tensor multiplier, offset;  // broadcast against the input; one element each: scalars
  std::int64_t max_code = 255;    // of the stored code: q <= max_code
  bool quadratic = false;         // output q^2, through u = clamp(round(x m + a), 0, max_code^2)
  bool is_signed = false;         // int8 output (attention operands), else uint8
  std::int64_t shift = 0;         // subtracted after the clamp; is_signed only
};

struct LinearState {
  at::Tensor weight_codes;  // int8 [N, K], with levels their numbers (QuantizedWeight::numbered)
  int bits = 8;             // of the weight
  at::Tensor levels;        // int8 [2^bits]; undefined: the codes themselves
  at::Tensor scale;         // [N] input scale times weight scale (times output multiplier)
  at::Tensor bias;          // [N] (times output multiplier, plus output zero point)
  std::int64_t zero_point = 0;
  std::int64_t max_product_code = 255;                    // largest value that enters the product
  LinearActivation activation = LinearActivation::kNone;  // before the output grid
  LinearOutput output = LinearOutput::kFloat;
  std::int64_t output_low = 0, output_high = 255;  // kOperandCodes: range of the int8 codes
  // kProductCodes: q = clamp(round(y / output_scale) + output_zero, 0, output_max)
  double output_scale = 1.0;
  std::int64_t output_zero = 0;
  std::int64_t output_max_code = 255;  // q <= this; quadratic: u <= its square
  bool output_quadratic = false;
};

/// Weight-only Linear: packed on disk, dequantized when the artifact is loaded.
struct WeightOnlyState {
  at::Tensor weight_codes;  // int8 [N, K], with levels their numbers (QuantizedWeight::numbered)
  int bits = 8;
  at::Tensor levels;            // int8 [2^bits]; undefined: the codes themselves
  at::Tensor scale;             // [N], or [N, G] for groups of columns
  at::Tensor bias;              // [N]
  std::int64_t group_size = 0;  // columns that share a scale; 0: the whole row
};

/// Adds the contribution of side columns to a Linear's float output.
struct SideState {
  at::Tensor channels;           // int64 [m]
  at::Tensor scale, zero_point;  // [m] grids of the columns
  int bits = 8;
  at::Tensor weight_codes;  // int8 [N, m]
  at::Tensor weight_scale;  // [N]
};

struct TokenScaleState {
  at::Tensor sums;  // [N] of the dequantized weight's rows (times output multiplier)
  at::Tensor bias;  // [N] (times output multiplier, plus output zero point)
  LinearOutput output = LinearOutput::kFloat;  // or kOperandCodes
  std::int64_t output_low = 0, output_high = 255;
};

struct EmbeddingState {
  at::Tensor codes;  // int8 [V, D]
  int bits = 8;
  at::Tensor scale;  // [V]
};

struct ScoresState {
  // float32 [1] or [H, 1, 1], relative to the int8 codes; right_zero perhaps by channel, [1, d] or
  // [H, 1, d]
  at::Tensor left_zero, right_zero;
  std::int64_t left_bits = 8, right_bits = 8;
  at::Tensor scale;  // [1] or [H, 1, 1]; kept apart (not applied) when `raw`
  bool raw = false;  // output (left - zero) right as integers: the softmax that follows does
                     // the scaling, and the right operand's zero point cancels in it
};

struct AttendState {
  at::Tensor factor;  // [1] or [H, 1, 1]: scores to code units (or to octaves for uniform)
  std::int64_t bits = 4;
  bool uniform = false;
  bool u8_table = false;
  bool zero_code = true;
  double steps_per_octave = 2;
  bool row_maximum = true;
  double softmax_scale = 1.0;
  bool fresh = false;     // the scores belong to this module alone and may be overwritten
  at::Tensor value_zero;  // [1] or [H, 1, 1], relative to the int8 codes
  at::Tensor multiplier;  // of the output: value scale, times the next input's multiplier if coded
  at::Tensor offset;      // coded output: the next input's offset, [1] or [H, 1, d]
  std::int64_t output_max_code = 0;  // > 0: uint8 codes of the next Linear's input; 0: float32
};

/// A convolution with many groups, input and output in floating point.
struct ConvolutionState {
  at::Tensor weight_codes;  // int8 [N, columns]
  int bits = 8;
  at::Tensor scale;                   // [N], input scale times weight scale
  at::Tensor bias;                    // [N]
  at::Tensor multiplier, zero_point;  // [C, 1..]; not used with max_code 0
  std::int64_t max_code = 255;        // 0: the input stays as it is
  ConvolutionShape shape;
};

/// Makes submodules that share one class type per kind. All live in one compilation unit.
class ModuleFactory {
 public:
  ModuleFactory();
  ~ModuleFactory();
  ModuleFactory(const ModuleFactory&) = delete;
  ModuleFactory& operator=(const ModuleFactory&) = delete;

  torch::jit::Module norm_quantize(const NormQuantizeState& state);
  torch::jit::Module quantize(const QuantizeState& state);
  torch::jit::Module linear(const LinearState& state);
  torch::jit::Module weight_only(const WeightOnlyState& state);
  torch::jit::Module side(const SideState& state);
  torch::jit::Module scores(const ScoresState& state);
  torch::jit::Module attend(const AttendState& state);
  torch::jit::Module embedding(const EmbeddingState& state);
  /// float [.., K] -> the grids of its rows [.., 2] (smallest value, step of codes up to `top`).
  torch::jit::Module token_range(std::int64_t top);
  /// (float [.., K], grids) -> u8 product codes. `levels`: uint8, undefined: all codes up to `top`.
  torch::jit::Module token_quantize(std::int64_t top, const at::Tensor& levels);
  /// float [.., K] -> float [.., K] on the grid of each group of columns; codes as above.
  torch::jit::Module group_quantize(std::int64_t group_size, std::int64_t top,
                                    const at::Tensor& levels);
  /// (product of those codes [.., N], grids) -> output in floating point or operand codes.
  torch::jit::Module token_scale(const TokenScaleState& state);

  /// float [.., d] -> the scales of its rows [.., 1] for codes up to `top`.
  torch::jit::Module row_scale(std::int64_t top);
  /// (float [.., d], scales) -> int8 codes; see operand_rows().
  torch::jit::Module row_quantize(std::int64_t bits);

  /// Keys or values of new tokens, float [.., d], to what a decoder keeps, uint8 [.., d + 8].
  torch::jit::Module cache_quantize();
  /// And back.
  torch::jit::Module cache_dequantize();

  torch::jit::Module convolution(const ConvolutionState& state);

  const std::shared_ptr<torch::jit::CompilationUnit>& unit() const { return unit_; }

 private:
  torch::jit::Module make(ClassKind kind, std::vector<c10::IValue> state);
  /// Packed codes; equal ones are one tensor, which a file holds once.
  at::Tensor stored_codes(const at::Tensor& codes, int bits);

  std::shared_ptr<torch::jit::CompilationUnit> unit_;
  EqualTensors codes_;
  struct Prototypes;
  std::unique_ptr<Prototypes> prototypes_;
};

}  // namespace repquant
