// Linears as readers of an input: what they make of its errors.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace repquant {

/// A Linear in whose output an error e [K] of the input counts e W^T D W e^T.
struct InputReader {
  at::Tensor weight;  // float32 [N, K], W
  at::Tensor counts;  // float64 [N], D; undefined: all alike
};

/// The sum of W^T D W over readers, at least one: float32 [K, K].
at::Tensor gram_of(const std::vector<InputReader>& readers);

/// Its diagonal, float32 [K].
at::Tensor gram_diagonal_of(const std::vector<InputReader>& readers);

/// S, float32 [K, r]: e S S^T e^T is e (sum of W^T D W) e^T on average, for a fraction of the
/// arithmetic where there are thousands of outputs.
at::Tensor gram_sketch_of(const std::vector<InputReader>& readers);

}  // namespace repquant
