// The recipe: every choice of a quantization run, as a value. No LibTorch here.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace repquant {

/// Activation bits that mean weight-only: activations stay in floating point.
inline constexpr int kWeightOnlyBits = 16;

/// Bits of weights and activations, as in `w4a8`.
struct BitWidths {
  int weight_bits = 8;      // 2..8
  int activation_bits = 8;  // 2..8, or kWeightOnlyBits

  bool weight_only() const { return activation_bits == kWeightOnlyBits; }
  friend bool operator==(const BitWidths&, const BitWidths&) = default;
};

/// How the per-channel lower and upper clipping factors of LayerNorm outputs are found
/// (RepQuant, arXiv 2402.05628, section on per-channel dual clipping).
enum class Clipping { kMinMax, kPercentile, kSearch, kLearned };

/// Granularity of a Linear's input grid. kPerChannel needs a fold into a norm or a vector in the
/// requantization; kAuto takes whichever gives the smaller error of the layer's output. kPerToken
/// gives each row a scale and an offset of its own at run time, and up to 6 bits learned levels;
/// such a site has neither side columns nor a quadratic grid, and a fold of
/// its own. The other settings of NormRecipe and InputRecipe are for static grids.
enum class InputGranularity { kPerTensor, kPerChannel, kAuto, kPerToken };

/// Where each token of q and k may have a scale, found at run time: at little cost, as behind
/// rotary positions (kAuto), or wherever that loses less.
enum class TokenScales { kNever, kAlways, kAuto };

/// Grid for inputs bounded below by a small constant (GELU outputs): x = s (q - z) or s (q^2 - z).
enum class GeluGrid { kUniform, kQuadratic, kAuto };

/// Grid of softmax outputs. kLog: base 2^(1/steps_per_octave), with an exact zero code.
enum class SoftmaxGrid { kLog, kUniform, kAuto };

/// What the scale of a softmax output refers to: each row's maximum, or the whole tensor (paper).
enum class SoftmaxScaling { kRowMaximum, kPerTensor };

enum class WeightRounding { kNearest, kGptq };

/// What the weights of a Linear make up for before they are rounded. kInput: the error of its own
/// quantized input; kStream: all errors so far, against the floating-point model (GPTAQ, ERQ).
enum class Compensation { kNone, kInput, kStream };

/// How much time a run spends on accuracy: named sets of the settings below.
enum class Effort { kFast, kStandard, kHigh };

struct WeightRecipe {
  WeightRounding rounding = WeightRounding::kGptq;
  bool scale_search = true;  // row scales by squared error weighted with diag(H); else absolute max
  bool act_order = true;     // columns in order of falling diag(H)
  double damping = 0.01;     // share of mean(diag H) added to the diagonal, 0..1
  int block_size = 128;      // columns per lazy update
  int group_size = 0;        // weight-only sites: columns that share a scale; 0: the whole row.
                             // Behind inputs in groups: those groups, unless 0
  bool codebook = true;   // up to 6 bits, integer products: learned levels instead of whole numbers
  bool shrinkage = true;  // more damping where the Hessian has few rows
  bool bias_correction = true;  // move the mean output error of the site into its bias
  Compensation compensation = Compensation::kStream;
  bool share_calls = true;   // a weight that several Linears read is rounded and stored once
  double sensitivity = 0.8;  // weight of the output's gradient in the errors of tokens, 0..1

  friend bool operator==(const WeightRecipe&, const WeightRecipe&) = default;
};

struct NormRecipe {
  InputGranularity granularity = InputGranularity::kPerToken;
  Clipping clipping = Clipping::kSearch;
  double fold_exponent = 1.0;   // r = (s / s~)^fold_exponent, 0..1; 1 is the paper's fold
  bool integer_offsets = true;  // per-channel zero points are integers (else real, folded exactly)

  friend bool operator==(const NormRecipe&, const NormRecipe&) = default;
};

struct AttentionRecipe {
  bool quantize = true;           // quantize q, k, v and the softmax output
  bool per_head = true;           // one grid per head for q, k and v
  bool value_per_channel = true;  // one grid per channel for v
  bool equalization = true;       // keys centred, channels of q and k scaled against each other
  SoftmaxGrid softmax_grid = SoftmaxGrid::kAuto;
  SoftmaxScaling softmax_scaling = SoftmaxScaling::kRowMaximum;
  double log_steps_per_octave = 0;  // 2 is log-sqrt2, 1 is log2; 0: chosen by bits
  bool head_room = true;            // ranges of q, k, v beyond the data, by cross-validation
  bool zero_code = true;            // the last code means exactly zero
  TokenScales token_scales = TokenScales::kAuto;  // a scale for each token of q and k
  int cache_bits = 0;  // keys and values that a decoder keeps; 0: floating point, 8

  friend bool operator==(const AttentionRecipe&, const AttentionRecipe&) = default;
};

struct InputRecipe {  // inputs of Linear sites that no norm feeds directly
  InputGranularity granularity = InputGranularity::kPerToken;
  int group_size = 0;  // grids per token, behind norms too: columns that share one; 0: the row
  GeluGrid gelu_grid = GeluGrid::kAuto;  // kAuto: quadratic up to 4 bits
  double massive_threshold = 12.0;  // channel wider than this times the median: side column; 0: off
  int massive_bits = 8;             // bits of a side column
  bool head_room = true;            // ranges (of norms too) beyond the data, by cross-validation

  friend bool operator==(const InputRecipe&, const InputRecipe&) = default;
};

/// Bits of the first (patch embedding) and last (head) layer; 0 means as `bits` says.
struct EdgeRecipe {
  int weight_bits = 0;
  int activation_bits = 0;

  friend bool operator==(const EdgeRecipe&, const EdgeRecipe&) = default;
};

struct EmbeddingRecipe {
  int bits = 8;  // codes of embedding tables, a scale for each row: 2..8; 0: floating point

  friend bool operator==(const EmbeddingRecipe&, const EmbeddingRecipe&) = default;
};

/// Per-site override: the first pattern (glob on the site path) that matches decides.
struct SiteOverride {
  std::string pattern;
  int weight_bits = 0;      // 0: keep
  int activation_bits = 0;  // 0: keep

  friend bool operator==(const SiteOverride&, const SiteOverride&) = default;
};

struct CalibrationRecipe {
  int samples = 128;
  std::uint64_t seed = 0;
  int batch_size = 0;  // 0: 8, fewer where the model's values are large
  /// An eighth of the samples, at most this many, is not fitted but judges; 0: none.
  int hold_back = 16;
  /// Output SQNR on them, in dB, below which there is a warning; negative: by the bits.
  double warn_below_db = -1.0;

  friend bool operator==(const CalibrationRecipe&, const CalibrationRecipe&) = default;
};

/// Learning after the fit: all weights together, with the floating-point model as the teacher.
struct LearningRecipe {
  int steps = 0;       // of Adam; 0: nothing is learned
  int samples = 16;    // in each step
  double rate = 0.01;  // how far a step moves a weight, in distances between its codes
  /// Where there are twice as many fitted samples, the plans that are learned from are fitted to so
  /// many of them: roundings that know all samples leave nothing to learn from them. 0: never.
  int start_samples = 128;

  friend bool operator==(const LearningRecipe&, const LearningRecipe&) = default;
};

struct Recipe {
  std::string name = "custom";
  Effort effort = Effort::kStandard;
  BitWidths bits;
  WeightRecipe weights;
  NormRecipe norm;
  AttentionRecipe attention;
  InputRecipe input;
  EdgeRecipe first_layer{0, 8};
  EdgeRecipe last_layer{0, 0};
  EmbeddingRecipe embedding;
  CalibrationRecipe calibration;
  LearningRecipe learning;
  std::vector<SiteOverride> overrides;
  std::vector<std::string> exclude;  // glob patterns of site paths to keep in floating point

  friend bool operator==(const Recipe&, const Recipe&) = default;
};

}  // namespace repquant
