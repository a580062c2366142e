// GPTQ (arXiv 2210.17323) for one weight matrix, as a pure function.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "repquant/recipe.h"

namespace repquant {

/// A weight without zero point, w^ = scale[n] * codes[n, k], or with groups of columns that share a
/// scale w^ = scale[n, k / group_size] * codes[n, k].
struct QuantizedWeight {
  at::Tensor codes;    // int8 [N, K], in weight_codes() (row_scale.h)
  at::Tensor scale;    // float32 [N], not 0; with groups [N, ceil(K / group_size)]. Of either sign
                       // where the lowest code is used: the widest weight has it
  int group_size = 0;  // columns that share a scale; 0: the whole row
  int bits = 8;
  at::Tensor levels;    // int8 [2^bits], rising: the codes that there are; undefined: all
  std::string outcome;  // "gptq", "gptq, damping x10", "nearest", "nearest: <reason>"
  // tr(dW H dW^T) of round-to-nearest, sum of squares without H; from 7 bits on and for more than
  // 256 columns an estimate of it with the damping of H
  double error_rtn = 0;
  double error_gptq = 0;  // the same for the codes above, never larger

  at::Tensor element_scale() const;  // as it multiplies codes: float32 [N, 1], with groups [N, K]
  at::Tensor dequantize() const;     // float32 [N, K]
  /// int8 [N, K]: the codes, or with levels their numbers, the middle one as 0: of `bits` bits.
  at::Tensor numbered() const;
};

/// The outcome where no more than the diagonal of a Hessian is known to GPTQ.
inline constexpr const char* kNearestByDiagonal = "nearest: too many inputs for gptq";

/// Quantizes weight [N, K] (float32) to bits 2..8 for inputs with the Hessian H [K, K] (double;
/// [K]: its diagonal, which nearest rounding goes by; undefined: nearest rounding on the plain
/// squared error). recipe.rounding, scale_search,
/// act_order, damping, block_size, codebook (up to kMostCodebookBits bits) and group_size apply (a
/// group_size of K or more is one group).
///
/// A Hessian that cannot be factorised raises the damping up to three times by ten, then falls back
/// to nearest; so does a result that is worse than nearest. `outcome` says which.
/// The result does not depend on `threads`.
/// Throws Error(kNumerical) for a non-finite weight or Hessian, Error(kInternal) for wrong shapes.
QuantizedWeight quantize_weight(const at::Tensor& weight, const at::Tensor& hessian, int bits,
                                const WeightRecipe& recipe, int threads = 1);

}  // namespace repquant
