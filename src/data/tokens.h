// Streams of token ids: reading them and cutting them into windows.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "repquant/tokens.h"

namespace repquant {

/// Positions [begin, end) of a sample.
struct TokenSpan {
  std::int64_t begin = 0;
  std::int64_t end = 0;

  friend bool operator==(const TokenSpan&, const TokenSpan&) = default;
};

/// One sample of a stream: the ids [begin, end) of it, after BOS if `bos`.
struct TokenWindow {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  bool bos = false;
  /// Positions in the sample whose id counts in a perplexity: those that no earlier window has
  /// counted, without the first position, which nothing predicts.
  TokenSpan targets{};

  /// Ids in the sample, without padding.
  std::int64_t length() const { return end - begin + (bos ? 1 : 0); }
};

/// Throws Error kUsage for a window, stride, BOS or element type that makes no sense: the window
/// has at least two ids, and the stride leaves no id out.
void check_token_options(const TokenOptions& options);

/// The whole stream, int64 [N], N > 0: an array file with one array of one dimension of integers,
/// or, with `options.dtype` (uint16, int32, uint32 or int64, little-endian), a file of nothing but
/// ids. Throws Error kFile for anything else, and for negative ids.
at::Tensor read_token_stream(const std::filesystem::path& path, const TokenOptions& options);

/// Cuts a stream, int64 [N], into windows. Within a document each starts `stride` after the one
/// before it; the last one may be shorter. Windows in which no id counts are left out. With
/// `whole`, so are the shorter ones. Throws as check_token_options().
std::vector<TokenWindow> cut_windows(const at::Tensor& stream, const TokenOptions& options,
                                     bool whole);

/// The ids of some windows, int64 [B, options.window]; shorter ones are filled up with zeros.
at::Tensor window_ids(const at::Tensor& stream, std::span<const TokenWindow> windows,
                      const TokenOptions& options);

/// "windows of 512 ids, stride 511, BOS 1 before each, none across documents (id 1)".
std::string describe(const TokenOptions& options);

}  // namespace repquant
