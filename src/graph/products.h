// Operators that multiply, and operators that read parameters: what coverage is measured by.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "graph/walker.h"

namespace repquant {

/// True for operators that multiply and accumulate: matrix products, einsum, convolutions,
/// recurrent layers, attention, grouped, scaled and quantized products.
bool is_product(const torch::jit::Node* node);

/// True for operators of unknown meaning: of another library, or reading parameters that are
/// neither added, compared nor moved around. What they multiply is not known.
bool is_unknown_operator(const torch::jit::Node* node);

/// Multiply-accumulates of one executed product over the whole batch, from the values of its
/// operands and outputs, which must be among `values`. 0 for operators that are no product.
std::int64_t product_macs(const torch::jit::Node* node, const Values& values);

/// The floating-point constants that a node reads itself or in lists, scalars left out.
std::vector<at::Tensor> parameters_of(const torch::jit::Node* node);

/// True if one of the constants that a node reads holds complex numbers.
bool reads_complex_weight(const torch::jit::Node* node);

/// Why this product is not quantized, when structure alone tells.
std::string reason_for_gap(const torch::jit::Node* node);

}  // namespace repquant
