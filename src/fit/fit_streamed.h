// The fit of a Linear whose rows are too many to hold: the grid on a sample of rows, the weight on
// sums over all of them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "fit/fit_linear.h"

namespace repquant {

/// Values that the grid of such a Linear is fitted on (64 MB).
inline constexpr std::int64_t kSampleValues = std::int64_t{1} << 24;

/// The rows of a site, one batch at a time. The functions may be called from several threads.
struct RowSource {
  std::size_t batches = 0;
  std::function<at::Tensor(std::size_t)> x;        // quantized stream [.., K]
  std::function<at::Tensor(std::size_t)> x_float;  // floating-point stream; or empty
  /// What the residual lacks that the output is added to, [.., N]; or empty.
  std::function<at::Tensor(std::size_t)> residual_error;
};

/// As fit_linear(), of which it takes everything but x, x_float and residual_error from `input`.
/// Needs memory for a few matrices [K, K] and [N, K] in double and for one batch for each thread.
/// The grid is fitted on at most kSampleValues: evenly spaced rows, and the extremes of every
/// channel over all rows. The sums do not depend on threads. Throws Error as fit_linear().
LinearPlan fit_linear_streamed(const LinearFitInput& input, const RowSource& rows,
                               const Recipe& recipe, std::string& note);

}  // namespace repquant
