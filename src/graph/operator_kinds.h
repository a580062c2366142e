// What kinds of operators do with elements.
#pragma once

namespace torch::jit {
struct Node;
}  // namespace torch::jit

namespace repquant {

/// True for operators that only move elements (reshape, permute, slice, roll, ...).
bool is_shape_only(const torch::jit::Node* node);

/// True for padding with constant zeros.
bool is_zero_padding(const torch::jit::Node* node);

/// True for padding with a constant that is, or may be, another one.
bool is_other_padding(const torch::jit::Node* node);

/// True for a normalisation of the last dimensions: of a layer, or by the root mean square.
bool is_norm(const torch::jit::Node* node);

/// True for a softmax, over any dimension.
bool is_softmax(const torch::jit::Node* node);

/// True for operators that read shape, type or device and no element.
bool reads_shape_only(const torch::jit::Node* node);

}  // namespace repquant
