// What of a model is quantized, at which bits, and what is not and why. No LibTorch types here.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace repquant {

/// Quantized sites of one kind at the same bits.
struct CoverageRow {
  std::string kind;         // "linear", "patch_embedding", "scores", "attend", "embedding",
                            // "convolution", "grouped_convolution"
  int weight_bits = 0;      // 0: a product of two activations
  int activation_bits = 0;  // 16: weight-only
  int sites = 0;
  std::int64_t parameters = 0;  // weight elements, of a weight that several calls share once
  std::int64_t macs = 0;        // multiply-accumulates per sample
};

/// An operator that multiplies, or that reads parameters in a way that is not known, and stays in
/// floating point.
struct CoverageGap {
  std::string path;
  std::string op;  // "linear", "aten::conv2d" ...
  std::string reason;
  bool requested = false;  // the recipe asked for it
  std::int64_t parameters = 0;
  std::int64_t macs = 0;
};

/// What is counted is what forward() of the model's file reads.
struct Coverage {
  std::vector<CoverageRow> rows;
  std::vector<CoverageGap> gaps;
  std::int64_t parameters = 0;  // floating-point elements of the file's tensors, all of them; what
                                // several sites share counts as often as codes of it are stored
  std::int64_t quantized_parameters = 0;  // weights of quantized sites
  std::int64_t macs = 0;                  // 0: not measured
  std::int64_t quantized_macs = 0;
  std::int64_t other_bytes = 0;  // of the file's tensors that are not floating-point
  std::int64_t unread_parameters =
      0;                           // of the file, beside `parameters`: forward() never reads them
  double average_bits = 32.0;      // over all parameters; what is not quantized counts with 32
  std::vector<std::string> notes;  // what was changed so that the model runs here: sentences

  double parameter_share() const { return share(quantized_parameters, parameters); }
  /// Share of multiply-accumulates at the stated bits; 1 when the model has none.
  double mac_share() const { return macs > 0 ? share(quantized_macs, macs) : 1.0; }
  /// Share of the bytes of all tensors, floating-point ones as float32, that are quantized.
  double byte_share() const {
    return share(kFloatBytes * quantized_parameters, kFloatBytes * parameters + other_bytes);
  }
  /// The smallest of the three: what `min_coverage` is compared with.
  double smallest_share() const { return std::min({parameter_share(), mac_share(), byte_share()}); }

  static constexpr std::int64_t kFloatBytes = 4;

 private:
  static double share(std::int64_t part, std::int64_t whole) {
    return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0.0;
  }
};

}  // namespace repquant
