// Outputs of the operators.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>

namespace repquant::ops {

/// An uninitialised CPU tensor. Large ones take blocks that earlier ones left: malloc gives blocks
/// of megabytes back to the system and takes them anew at every call, page by page, which costs up
/// to a quarter of a forward pass. At most 256 MB are kept for later, in the whole process.
at::Tensor new_output(at::IntArrayRef sizes, at::ScalarType type);

/// From now on every large CPU tensor of the process is made so, and at most `most_kept` bytes are
/// kept for later; they are given back where an allocation fails. For programs, not for libraries.
void reuse_blocks(std::size_t most_kept);

}  // namespace repquant::ops
