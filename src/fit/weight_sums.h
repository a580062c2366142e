// One Linear as a least-squares problem, and the sums over its rows that decide its weight.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <functional>
#include <optional>

#include "fit/row_source.h"
#include "gptq/compensation.h"
#include "gptq/gptq.h"
#include "gptq/hessian.h"

namespace repquant {

/// target ~ s codes W^T + bias over all rows. Under a grid per token s is 1 and a row of codes is
/// multiplied by the row's scale.
struct WeightProblem {
  at::Tensor weight;                 // float32 [N, K], folded
  at::Tensor bias;                   // float32 [N], folded: belongs to `weight`
  double scale = 1.0;                // s
  const SourceRows* rows = nullptr;  // not null
  /// Of rows x [n, K]: float32 [n, K], zero point taken out. May be x itself.
  std::function<at::Tensor(const at::Tensor& x)> codes;
  /// What codes and bias should give for some rows, a new tensor float32 [n, N]. Empty: what they
  /// give before the weight is rounded.
  std::function<at::Tensor(const RowBlock&)> target;
  bool affine_target = false;  // the mean row's target is the mean of the targets
  at::Tensor row_weights;      // float64 [rows], mean 1; or undefined
  int threads = 1;
};

/// The sums over pairs of values that are wanted.
struct Products {
  bool of_codes = true;     // the Hessian
  bool diagonal = false;    // of it, no more than the diagonal
  bool with_errors = true;  // the cross moments; a problem without a target has none. The sum of
                            // errors is there always
};

/// Sums over some rows with the weights w, of the codes c counted from a fixed centre and of the
/// errors e = target - s codes W^T - bias.
struct WeightSums {
  std::optional<HessianAccumulator> hessian;  // sum w c c^T
  at::Tensor squares;                         // float64 [K], its diagonal alone; or undefined
  at::Tensor cross;                           // float64 [N, K]: sum w e c^T; or undefined
  at::Tensor codes, errors;                   // float64 [K], [N]: sum w c, sum w e
  double weight = 0.0;                        // sum w

  WeightSums(std::int64_t rows, std::int64_t columns, const Products& products);
  void add(WeightSums other);
};

/// The sums over the first and the second half of the rows.
struct HalvedSums {
  at::Tensor centre;  // float32 [K], whole numbers, so that differences of codes are exact
  std::array<WeightSums, 2> halves;

  at::Tensor mean_code() const;   // float64 [K], not counted from the centre; 0 without rows
  at::Tensor mean_error() const;  // float64 [N]; 0 without rows
};

/// Adds up all rows in fixed ranges, block by block, in double (products with errors in float32
/// within a block). Depends on the rows and their order alone, neither on threads nor on how the
/// rows are split into batches. Needs memory for a few matrices [K, K] (but for a diagonal) and
/// [N, K] in double, and for a batch and a block for each thread.
HalvedSums sum_over_rows(const WeightProblem& problem, const Products& products);

/// The moments of both halves about the means over all rows, or (`centred` false) about zero. Of
/// sums with a Hessian.
std::array<ErrorMoments, 2> moments_of(HalvedSums sums, bool centred);

/// The Hessian alone, of all rows: float64 [K, K], or [K] where the sums have its diagonal alone.
/// Of sums without errors.
at::Tensor hessian_of(HalvedSums sums, bool centred);

}  // namespace repquant
