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

/// The tensors that a decoder keeps. They are the last inputs of forward() and, longer by the
/// tokens of the call, its last outputs.
struct Past {
  /// Sizes of each for one sample without tokens, the 0 where the tokens count: [heads, 0, width]
  /// for keys. None: the model keeps nothing.
  std::vector<std::vector<std::int64_t>> shapes{};
  /// uint8 as ops/cache.cpp writes it, each row of codes with its grid; else float32.
  bool codes = false;

  bool empty() const { return shapes.empty(); }
  friend bool operator==(const Past&, const Past&) = default;
};

/// Parses {"schema_version": 1, "past": [[heads, 0, width], ...]}, perhaps with "type": "float32"
/// or "uint8". `where` names the source in messages. Throws Error kUsage for anything else: unknown
/// or missing keys, no tensor or more than 4096, other than 2 to 4 sizes, none of them 0 or
/// several.
Past past_from_json(const std::string& text, const std::string& where);

/// The text that past_from_json() reads back to an equal value.
std::string past_to_json(const Past& past);

/// What the archive of a model says; none if it says nothing. Throws Error kFile or kUsage if it
/// cannot be read.
Past find_past(const std::filesystem::path& model);

/// The tensors before the first token: float32 or uint8 [samples, ...] without elements.
std::vector<at::Tensor> empty_past(const Past& past, std::int64_t samples);

}  // namespace repquant
