// How much damping a Hessian needs that was measured on few rows.
#pragma once

#include <ATen/core/Tensor.h>

namespace repquant {

/// Damping as a share of mean(diag H), 0..10, that moves H / rows towards a multiple of the identity
/// as far as the oracle approximating shrinkage does (Chen, Wiesel, Eldar, Hero 2010,
/// arXiv 0907.4698, equation 23): near 0 where rows are many, large where they are fewer than
/// columns. `hessian` [K, K] double, `rows` > 0 the (effective) number of rows in it.
double shrinkage_damping(const at::Tensor& hessian, double rows);

/// Kish's effective number of rows of `weights` (float64 [n]): (sum w)^2 / sum w^2.
double effective_rows(const at::Tensor& weights);

}  // namespace repquant
