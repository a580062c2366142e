// A multiplier and an offset for each channel in front of a grid per token.
#pragma once

#include <ATen/core/Tensor.h>

namespace repquant {

/// u = multiplier x + offset; float32 [K] each.
struct TokenFold {
  at::Tensor multiplier, offset;
};

/// What channels of rows x, float32 [n, K], are measured in, float64 [K]: the columns' largest
/// weights where those make up for channels in units of their own, as of a table whose numbers are
/// powers of ten apart; else ones.
at::Tensor units_of(const at::Tensor& x, const at::Tensor& weight);

/// l^2 below of rows x, float32 [n, K], damped in these units: float64 [K].
at::Tensor unexplained_variance(const at::Tensor& x, const at::Tensor& units);

/// What the fold of an input is chosen by.
struct TokenFoldProblem {
  at::Tensor x;            // float32 [n, K]: rows of the input
  at::Tensor units;        // float64 [K]: units_of()
  at::Tensor unexplained;  // float64 [K]: unexplained_variance()
  at::Tensor importance;   // [K]: diagonal of the Gram matrix of the Linears behind
  at::Tensor weight;       // float32 [N, K] of one of them
  int activation_bits = 8;
  int weight_bits = 8;
};

/// What of the problem the search goes by, computed once: the error below as a function of m and a.
struct FoldTerms {
  explicit FoldTerms(const TokenFoldProblem& problem);

  at::Tensor x;           // float32 [n, K]
  at::Tensor units;       // float64 [K]
  at::Tensor magnitudes;  // float32 [some of N, K]: of the weight
  at::Tensor importance;  // float64 [K]: g / top^2
  at::Tensor rest;        // float64 [K]: l^2 / top_w^2, for all N
};

/// The fold u = m x + a with the least expected error of the output, since what is taken from the
/// input's channels is given to the weight's columns, W / m. A row of u with range R_t has steps in
/// proportion to R_t, a row of W / m with largest magnitude R_o steps in proportion to R_o, and
///     error = mean_t R_t^2 / top^2  sum_c g_c / m_c^2
///           + sum_o R_o^2 / top_w^2  sum_c m_c^2 l_c^2
/// (times 1 / 12) with g the importance, scaled in the second term by the share of this weight,
/// and l_c^2 the variance of channel c that the channels before it do not explain: what GPTQ
/// cannot make up for (Cholesky factor of the covariance). Minimised by subgradient steps (Adam,
/// arXiv 1412.6980) over log m and, `with_shift`, the channels' centres; without, a = 0.
/// RepQuant's fold (arXiv 2402.05628, section on LayerNorm) gives each channel its own step
/// instead, and leaves the weight what that makes of it.
TokenFold fit_token_fold(const FoldTerms& terms, bool with_shift);

/// The second term, by which a fold makes the weight harder to round; per row of x.
double weight_error(const FoldTerms& terms, const at::Tensor& multiplier);

}  // namespace repquant
