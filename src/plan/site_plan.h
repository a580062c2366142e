// What a quantization run decides for each site, as plain values: the contract between the fit
// (which fits them), the simulation (which evaluates them in floating point) and the artifact
// (which lowers them to integers).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "gptq/gptq.h"
#include "plan/convolution_shape.h"
#include "plan/site_kind.h"
#include "quantizer/levels.h"
#include "quantizer/log.h"

namespace repquant {

/// How a code enters the integer product: as it is, or squared (x = s (q^2 - z)).
enum class CodeForm { kUniform, kQuadratic };

/// Turns the float input of a Linear into codes and names the layer-wise grid of the product:
///   uniform:   q = clamp(round(x m + a), 0, 2^b - 1),          x^ = s (q - z)
///   quadratic: u = clamp(round(x m + a), 0, (2^b - 1)^2), q = round(sqrt(u)), x^ = s (q^2 - z)
///   per token: v = clamp(round((u - lo_t) / s_t), 0, L), u = x m + a,  u^ = lo_t + s_t l(q)
/// With channel vectors m, a this is RepQuant's channel-wise quantizer, reparameterized: the
/// product sees one scale and one zero point, the vectors live in the norm or the requantization.
/// A grid per token spans each row's own range, found at run time: lo_t is the smallest value of
/// the row, s_t = (max - lo_t) / L. Without `levels` q = v, l(q) = q and L = 2^b - 1; with them L =
/// 255 and q is the index of the level that is nearest to v. The product sees l(q) with scale 1 and
/// zero point 0; m and a are 1 and 0, or what a norm in front carries. With `group_size` each group
/// of so many columns has such a grid, and what enters the product is u^ itself.
struct InputQuantizer {
  int bits = 8;
  CodeForm form = CodeForm::kUniform;
  at::Tensor multiplier;  // m, float32 [1] or [K]
  at::Tensor offset;      // a, float32 [1] or [K]
  double scale = 1.0;     // s, > 0
  int zero_point = 0;     // z, 0 <= z <= 2^b - 1 (quadratic: <= (2^b - 1)^2)
  bool per_token = false;
  int group_size = 0;  // per token: columns that share a grid, fewer than K; 0: the whole row
  at::Tensor levels;   // per token: uint8 [2^b], rising; undefined: the codes themselves

  std::int64_t max_code() const { return (std::int64_t{1} << bits) - 1; }
  bool per_channel() const { return multiplier.numel() > 1; }
  /// The largest value that enters the integer product.
  std::int64_t max_product_code() const {
    if (levels.defined()) return kMaxLevel;
    return form == CodeForm::kQuadratic ? max_code() * max_code() : max_code();
  }
};

/// Input channels of a Linear with massive activations: own grids and an own, 8-bit weight block.
/// Their columns in the main weight are zero.
struct SideColumns {
  int bits = 8;
  std::vector<std::int64_t> channels;  // m rising indices into [0, K); empty: no side columns
  at::Tensor scale;                    // float32 [m], x^ = scale (q - zero_point)
  at::Tensor zero_point;               // float32 [m], integers in [0, 2^bits - 1]
  QuantizedWeight weight;              // codes int8 [N, m], scale [N], 8 bits
};

/// y = s (codes - z) (w_scale * w_codes)^T + bias (+ side columns).
struct LinearPlan {
  bool quantized_input = true;  // false: weight-only (w4a16), the input stays in floating point
  InputQuantizer input;
  SideColumns side;
  QuantizedWeight weight;  // codes int8 [N, K], of the folded weight W' = W diag(r)
  at::Tensor bias;         // float32 [N]; always defined
  std::string norm;        // name of the output value of the norm that carries m and a; or empty
};

/// One operand of an attention product: q = clamp(round(x m + a), 0, 2^b - 1), x^ = (q - a) / m
/// where a is an integer zero point, of channels perhaps beyond the codes. Shapes broadcast against
/// the operand: [1] or [H, 1, 1], with grids by channel [d], [1, d] or [H, 1, d], of the right
/// operand of scores [d, 1] or [H, d, 1].
///
/// Per token: each row u = x multiplier + zero_point (over the channels) has a scale of its own,
/// found at run time, and no zero point: u^ = s c, see operand_rows(); those of the right operand
/// of scores are its columns. `scale` is 1, and the others broadcast against rows: [1] or [H, 1,
/// d].
struct OperandQuantizer {
  int bits = 8;
  at::Tensor multiplier{};  // 1 / scale
  at::Tensor scale{};
  at::Tensor zero_point{};
  bool per_token = false;

  std::int64_t max_code() const { return (std::int64_t{1} << bits) - 1; }
};

/// Scores: left right. `left` is [.., T, d], `right` is [.., d, S] as the graph has them. Scales of
/// channels cancel in the product: left.scale times right.scale is the same for all of them.
/// Either both have a scale for each token or none.
struct ScoresPlan {
  OperandQuantizer left;
  OperandQuantizer right;

  at::Tensor scale() const;  // float64 [1] or [H, 1, 1] (or [1, 1]), of products of codes
};

/// Softmax over the last dimension, quantized, times V: see quantizer/log.h for the grids.
/// Row maximum: weights w(c) of exp(x - rowmax), product divided by the row's sum of weights.
/// Per tensor (the paper): codes of the probabilities with scale `softmax_scale`, no division.
struct AttendPlan {
  int bits = 4;
  bool uniform = false;  // uniform u8 grid w = c / (2^b - 1) instead of `grid`
  LogGrid grid;
  bool row_maximum = true;
  double softmax_scale = 1.0;
  OperandQuantizer value;
};

/// An embedding table: rows of codes, each with a scale. The output stays in floating point.
struct EmbeddingPlan {
  QuantizedWeight table;  // codes int8 [V, D], scale [V]
};

/// A convolution with many small groups, each a Linear on its windows with a grid of its own:
/// y = scale (codes - z) * w_codes + bias, scale = input scale of the output's group times w_scale.
struct GroupedConvolutionPlan {
  bool quantized_input = true;  // false: weight-only
  OperandQuantizer input;       // float32 [C, 1..]: broadcasts against [B, C, sizes..]
  QuantizedWeight weight;       // codes int8 [N, C / groups * kernel], scale [N]
  at::Tensor bias;              // float32 [N]; always defined
  ConvolutionShape shape;

  at::Tensor output_scale() const;  // float32 [N], without an input grid that of the weight
};

/// Errors of one site, measured in the fit on the calibration data.
struct SiteErrors {
  double own_output_sqnr_db = 0.0;  // output of the quantized site against the float site on the
                                    // same input: what this site adds
  double output_sqnr_db = 0.0;      // the same output against the floating-point stream's: the sum
                                    // of all errors so far
  double fold_deviation = 0.0;      // of the first reader of a folded norm: how much the fold
                                    // changes the output of any of its readers, of the largest one
};

struct SitePlan {
  std::string path;  // module path, e.g. blocks.0.attn.qkv; unique
  SiteKind kind = SiteKind::kLinear;
  std::variant<LinearPlan, ScoresPlan, AttendPlan, EmbeddingPlan, GroupedConvolutionPlan> plan;
  SiteErrors errors;
  std::string note;  // what was decided and why, for the coverage table
};

}  // namespace repquant
