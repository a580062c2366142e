// Logarithmic grids for softmax outputs: weight(c) = 2^(-c / steps_per_octave).
//
// steps_per_octave = 2 is the log-sqrt2 quantizer of RepQ-ViT / RepQuant, 1 is log2. The last code
// can be reserved for exactly zero; it is one of the 2^bits codes, not an additional level.
#pragma once

#include <ATen/core/Tensor.h>

namespace repquant {

struct LogGrid {
  int bits = 4;                 // 2..8
  double steps_per_octave = 2;  // > 0, may be a fraction
  bool zero_code = true;        // the last code, 2^bits - 1, means exactly 0
  /// Round the weights to u8: round(255 * 2^(-c / steps)) / 255. The integer-realizable form where
  /// the split by parity (below) does not apply: above 4 bits, and for bases other than sqrt2.
  bool u8_table = false;

  int max_code() const { return (1 << bits) - 1; }
};

/// Codes (float32) of exp(score - row maximum), from score - row maximum in nats (<= 0; -inf gives
/// the last code): code = clamp(round(-x * log2(e) * steps), 0, 2^bits - 1). No exp is taken.
at::Tensor log_codes_from_scores(const at::Tensor& scores_minus_rowmax, const LogGrid& grid);

/// The weight of every code, float32 [2^bits].
at::Tensor log_table(const LogGrid& grid);
/// Weights (float32) of codes: log_table(grid)[codes].
at::Tensor log_weights(const at::Tensor& codes, const LogGrid& grid);

/// Log-sqrt2 codes as two integer operands (log-sqrt2 -> log2 reparameterization):
/// weight(c) = 2^-shift * (even + sqrt2 * odd), where m(c) = 2^(shift - ceil(c / 2)) stands in
/// `even` for even codes and in `odd` for odd codes, and 0 in the other one.
struct ParitySplit {
  at::Tensor even;  // float32, integral, 0 .. 2^shift
  at::Tensor odd;   // float32, integral
  int shift = 0;    // K = ceil(last non-zero code / 2); 7 at 4 bits with a zero code
};
/// Throws Error(kInternal) unless steps_per_octave == 2 and the grid has no u8 table.
ParitySplit split_by_parity(const at::Tensor& codes, const LogGrid& grid);

}  // namespace repquant
