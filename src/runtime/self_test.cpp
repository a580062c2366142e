// The fused operators on small problems, at every instruction set that this processor has.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "format/codes.h"
#include "ops/operators.h"
#include "repquant/load.h"
#include "tensor/deviation.h"

namespace repquant {
namespace {

/// Numbers without a pattern that a wrong kernel could share: multiples of an odd step, folded
/// into low .. high.
class Pattern {
 public:
  explicit Pattern(std::uint32_t step) : step_(step) {}
  at::Tensor codes(int low, int high, at::IntArrayRef sizes, at::ScalarType type) {
    at::Tensor result = at::empty(sizes, at::kInt);
    auto* data = result.mutable_data_ptr<std::int32_t>();
    const auto width = static_cast<std::uint32_t>(high - low + 1);
    for (std::int64_t i = 0; i < result.numel(); ++i) {
      state_ += step_;
      data[i] = low + static_cast<int>((state_ >> 8U) % width);
    }
    return result.to(type);
  }

 private:
  std::uint32_t step_;
  std::uint32_t state_ = 1;
};

// Multiples of nothing.
constexpr std::int64_t kRows = 5, kManyRows = 37, kChannels = 70, kColumns = 33;

at::Tensor whole_panels(const at::Tensor& vector) {
  return at::constant_pad_nd(vector, {0, (64 - vector.size(0) % 64) % 64}).contiguous();
}

/// Largest difference over the largest value.
double apart(const at::Tensor& got, const at::Tensor& expected) {
  return got.sizes().equals(expected.sizes()) ? relative_difference(got, expected) : 1.0;
}

bool linear_is_right(int bits, std::int64_t rows) {
  Pattern pattern(2654435761U);
  const int limit = (1 << (bits - 1)) - 1;
  const at::Tensor x = pattern.codes(0, 255, {rows, kColumns}, at::kByte);
  const at::Tensor w = pattern.codes(-limit, limit, {kChannels, kColumns}, at::kChar);
  const std::int64_t zero = 90;
  at::Tensor expected = at::zeros({rows, kChannels}, at::kDouble);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t n = 0; n < kChannels; ++n) {
      std::int64_t sum = 0;
      for (std::int64_t k = 0; k < kColumns; ++k) {
        sum += (x.const_data_ptr<std::uint8_t>()[r * kColumns + k] - zero) *
               w.const_data_ptr<std::int8_t>()[n * kColumns + k];
      }
      expected.mutable_data_ptr<double>()[r * kChannels + n] =
          static_cast<double>(sum) * 0.25 + 3.0;
    }
  }
  const auto [packed, sums] = ops::pack_weight_cpu(pack_codes(w, bits), bits, kColumns);
  const at::Tensor scale = whole_panels(at::full({kChannels}, 0.25, at::kFloat));
  const at::Tensor bias = whole_panels(at::full({kChannels}, 3.0, at::kFloat));
  const at::Tensor got = ops::linear_cpu(x, packed, sums * zero, scale, bias, {}, {}, {}, kChannels,
                                         kColumns, bits, 0, 0, 0, 0, false);
  return apart(got, expected) < 1e-6;
}

/// Whole inputs and scales that are powers of two: no product is rounded. Few rows and many take
/// different ways through the kernel.
bool weight_only_is_right(int bits) {
  constexpr std::int64_t kMany = 11, kGroup = 12;
  Pattern pattern(1664525U);
  const int limit = (1 << (bits - 1)) - 1;
  const at::Tensor x = pattern.codes(-200, 300, {kMany, kColumns}, at::kInt);
  const at::Tensor w = pattern.codes(-limit - 1, limit, {kChannels, kColumns}, at::kChar);
  const std::int64_t groups = (kColumns + kGroup - 1) / kGroup;
  const at::Tensor powers = pattern.codes(-3, 0, {kChannels, groups}, at::kInt);
  at::Tensor expected = at::zeros({kMany, kChannels}, at::kDouble);
  for (std::int64_t r = 0; r < kMany; ++r) {
    for (std::int64_t n = 0; n < kChannels; ++n) {
      double sum = 3.0;
      for (std::int64_t k = 0; k < kColumns; ++k) {
        sum += std::ldexp(x.const_data_ptr<std::int32_t>()[r * kColumns + k] *
                              w.const_data_ptr<std::int8_t>()[n * kColumns + k],
                          powers.const_data_ptr<std::int32_t>()[n * groups + k / kGroup]);
      }
      expected.mutable_data_ptr<double>()[r * kChannels + n] = sum;
    }
  }
  const auto [packed, scale] = ops::pack_weight_only_cpu(
      pack_codes(w, bits), at::exp2(powers.to(at::kFloat)), bits, kColumns, kGroup);
  const at::Tensor bias = whole_panels(at::full({kChannels}, 3.0, at::kFloat));
  const auto right = [&, &packed = packed, &scale = scale](std::int64_t rows) {
    const at::Tensor got =
        ops::weight_only_linear_cpu(x.narrow(0, 0, rows).to(at::kFloat), packed, scale, bias,
                                    kChannels, kColumns, bits, kGroup, 0);
    return at::equal(got.to(at::kDouble), expected.narrow(0, 0, rows));
  };
  return right(1) && right(kMany);
}

/// Steps of 1 and scales that are powers of two: nothing is rounded.
bool group_linear_is_right(int bits) {
  constexpr std::int64_t kMany = 11, kGroup = 16;
  Pattern pattern(22695477U);
  const int limit = (1 << (bits - 1)) - 1;
  const at::Tensor x = pattern.codes(0, 255, {kMany, kColumns}, at::kInt);
  const std::int64_t groups = (kColumns + kGroup - 1) / kGroup;
  const at::Tensor w = pattern.codes(-limit - 1, limit, {kChannels, kColumns}, at::kChar);
  const at::Tensor powers = pattern.codes(-3, 0, {kChannels, groups}, at::kInt);
  const at::Tensor lows = pattern.codes(-90, 90, {kMany, groups}, at::kInt);
  at::Tensor expected = at::zeros({kMany, kChannels}, at::kDouble);
  for (std::int64_t r = 0; r < kMany; ++r) {
    for (std::int64_t n = 0; n < kChannels; ++n) {
      double sum = 3.0;
      for (std::int64_t k = 0; k < kColumns; ++k) {
        const std::int32_t value = x.const_data_ptr<std::int32_t>()[r * kColumns + k] +
                                   lows.const_data_ptr<std::int32_t>()[r * groups + k / kGroup];
        sum += std::ldexp(value * w.const_data_ptr<std::int8_t>()[n * kColumns + k],
                          powers.const_data_ptr<std::int32_t>()[n * groups + k / kGroup]);
      }
      expected.mutable_data_ptr<double>()[r * kChannels + n] = sum;
    }
  }
  const auto [packed, scale] = ops::pack_group_weight_cpu(
      pack_codes(w, bits), at::exp2(powers.to(at::kFloat)), bits, kColumns, kGroup);
  const at::Tensor bias = whole_panels(at::full({kChannels}, 3.0, at::kFloat));
  const at::Tensor codes = x.to(at::kByte),
                   grids = at::stack({lows, at::ones_like(lows)}, -1).to(at::kFloat);
  const auto right = [&, &packed = packed, &scale = scale](std::int64_t rows) {
    const at::Tensor got =
        ops::group_linear_cpu(codes.narrow(0, 0, rows), grids.narrow(0, 0, rows), packed, scale,
                              bias, kChannels, kColumns, bits, kGroup, 0);
    return at::equal(got.to(at::kDouble), expected.narrow(0, 0, rows));
  };
  return right(1) && right(kMany);
}

/// x is a quarter above whole codes, so that nothing is at a tie.
bool quantize_is_right() {
  Pattern pattern(40503U);
  const at::Tensor codes = pattern.codes(-40, 300, {kRows, kColumns}, at::kInt);
  const at::Tensor x = (codes.to(at::kFloat) + 0.25) * 0.5 - 4.0;
  const at::Tensor got = ops::quantize_cpu(x, at::full({1}, 2.0, at::kFloat),
                                           at::full({1}, 8.0, at::kFloat), 255, false, false, 0);
  return at::equal(got, codes.clamp(0, 255).to(at::kByte));
}

/// A norm's rounding may meet a tie: one code, by one.
bool norm_is_right() {
  Pattern pattern(69069U);
  const at::Tensor x = pattern.codes(-900, 900, {kRows, kColumns}, at::kFloat) * 0.01;
  const at::Tensor weight = pattern.codes(5, 40, {kColumns}, at::kFloat);
  const at::Tensor bias = pattern.codes(80, 160, {kColumns}, at::kFloat);
  const double epsilon = 1e-5;
  const at::Tensor wide = x.to(at::kDouble);
  const at::Tensor got = ops::norm_quantize_cpu(x, weight, bias, epsilon, 255);
  const at::Tensor centred = wide - wide.mean(-1, true);
  const at::Tensor deviation = (centred.square().mean(-1, true) + epsilon).sqrt();
  const at::Tensor expected =
      (at::floor(centred / deviation * weight.to(at::kDouble) + bias.to(at::kDouble) + 0.5))
          .clamp(0, 255);
  const at::Tensor difference = (got.to(at::kDouble) - expected).abs();
  return difference.max().item<double>() <= 1.0 && difference.sum().item<double>() <= 1.0;
}

bool attention_is_right() {
  constexpr std::int64_t kQueries = 3, kKeys = 21, kDepth = 16;
  constexpr double kFactor = 1.3e-4;  // code units for each integer of a score
  constexpr int kMaxCode = 15;
  Pattern pattern(22695477U);
  const at::Tensor q = pattern.codes(-128, 127, {1, kQueries, kDepth}, at::kChar);
  const at::Tensor k = pattern.codes(-128, 127, {1, kKeys, kDepth}, at::kChar);
  const at::Tensor v = pattern.codes(-128, 127, {1, kKeys, kDepth}, at::kChar);
  const at::Tensor factor = at::full({1}, kFactor, at::kFloat);
  at::Tensor expected = at::zeros({1, kQueries, kDepth}, at::kDouble);
  for (std::int64_t t = 0; t < kQueries; ++t) {
    std::array<std::int64_t, kKeys> scores{};
    for (std::int64_t s = 0; s < kKeys; ++s) {
      for (std::int64_t d = 0; d < kDepth; ++d) {
        scores[static_cast<std::size_t>(s)] +=
            (q.const_data_ptr<std::int8_t>()[t * kDepth + d] - 7) *
            k.const_data_ptr<std::int8_t>()[s * kDepth + d];
      }
    }
    const std::int64_t top = *std::max_element(scores.begin(), scores.end());
    double sum = 0.0;
    for (std::int64_t s = 0; s < kKeys; ++s) {
      const auto below = static_cast<float>(top - scores[static_cast<std::size_t>(s)]);
      const float units = below * factor.const_data_ptr<float>()[0];
      const double code = std::nearbyint(units);
      const double weight = code >= kMaxCode ? 0.0 : std::exp2(-code / 2.0);
      sum += weight;
      for (std::int64_t d = 0; d < kDepth; ++d) {
        expected.mutable_data_ptr<double>()[t * kDepth + d] +=
            weight * (v.const_data_ptr<std::int8_t>()[s * kDepth + d] - 5);
      }
    }
    expected.select(1, t).div_(sum);
  }
  const at::Tensor one = at::ones({1}, at::kFloat);
  const at::Tensor got = ops::attention_cpu(
      q, k, v, {}, at::full({1}, 7, at::kInt), at::full({1}, 5, at::kInt), one, factor, 1.0, one,
      at::zeros({1}, at::kFloat), 0, 2.0, kMaxCode, true, 0, false);
  return apart(got, expected) < 1e-5;
}

/// Names of the operators that are wrong at the level in use.
std::string wrong_operators() {
  std::string names;
  const auto note = [&names](bool right, const char* name) {
    if (!right) names += (names.empty() ? "" : ", ") + std::string(name);
  };
  note(linear_is_right(4, kRows) && linear_is_right(4, kManyRows), "linear w4");
  note(linear_is_right(8, kRows) && linear_is_right(8, kManyRows), "linear w8");
  note(weight_only_is_right(4), "weight_only_linear w4");
  note(weight_only_is_right(8), "weight_only_linear w8");
  note(group_linear_is_right(4), "group_linear w4");
  note(group_linear_is_right(8), "group_linear w8");
  note(quantize_is_right(), "quantize");
  note(norm_is_right(), "norm_quantize");
  note(attention_is_right(), "attention");
  return names;
}

}  // namespace

std::vector<KernelTest> test_kernels() {
  const at::NoGradGuard no_grad;
  const std::string before = ops::cpu_level();
  std::vector<KernelTest> tests;
  for (const std::string& level : ops::known_cpu_levels()) {
    if (ops::set_cpu_level(level) != level) {
      tests.push_back({.level = level, .available = false, .wrong = ""});
      continue;
    }
    KernelTest test{.level = level, .available = true, .wrong = ""};
    try {
      test.wrong = wrong_operators();
    } catch (const std::exception& e) {
      test.wrong = e.what();
    }
    tests.push_back(std::move(test));
  }
  ops::set_cpu_level(before);
  return tests;
}

}  // namespace repquant
