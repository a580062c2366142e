// Keys and values of earlier tokens, which a decoder takes and gives back so that each token is
// computed once.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace repquant {

/// Name of the extra file in a TorchScript archive that says which tensors these are.
inline constexpr const char* kCacheFile = "cache.json";

/// For each tensor its sizes for one sample without tokens, the 0 where the tokens count: [heads,
/// 0, width] for keys. They are the last inputs of forward() and, longer by the tokens of the call,
/// its last outputs. None: the model keeps nothing.
using PastShapes = std::vector<std::vector<std::int64_t>>;

/// Parses {"schema_version": 1, "past": [[heads, 0, width], ...]}. `where` names the source in
/// messages. Throws Error kUsage for anything else: unknown or missing keys, no tensor or more than
/// 4096, other than 2 to 4 sizes, none of them 0 or several.
PastShapes past_from_json(const std::string& text, const std::string& where);

/// The text that past_from_json() reads back to an equal value.
std::string past_to_json(const PastShapes& past);

/// What the archive of a model says; none if it says nothing. Throws Error kFile or kUsage if it
/// cannot be read.
PastShapes find_past(const std::filesystem::path& model);

/// The tensors before the first token: float32 [samples, ...] without elements.
std::vector<at::Tensor> empty_past(const PastShapes& past, std::int64_t samples);

}  // namespace repquant
