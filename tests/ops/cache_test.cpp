// Keys and values as codes, and codes on grids of heads.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

#include "ops/levels.h"
#include "ops/operators.h"

namespace repquant {
namespace {

/// [2, 3, 4, width] with a row of equal values.
at::Tensor kept(std::int64_t width) {
  at::manual_seed(21);
  at::Tensor x = at::randn({2, 3, 4, width}) * 5 + 1;
  x[0][1][2].fill_(-0.75);
  return x;
}

at::Tensor low_of(const at::Tensor& x) { return x.amin(-1, true); }
at::Tensor step_of(const at::Tensor& x) {
  return ((x.amax(-1, true) - low_of(x)) / 255).clamp_min(std::numeric_limits<float>::min());
}

at::Tensor written(const at::Tensor& x) {
  const at::Tensor low = low_of(x), step = step_of(x);
  const at::Tensor codes = ((x - low) * step.reciprocal()).round().clamp(0, 255).to(at::kByte);
  return at::cat({codes, at::cat({low, step}, -1).view(at::kByte)}, -1);
}

at::Tensor read(const at::Tensor& codes) {
  const std::int64_t width = codes.size(-1) - 8;
  const at::Tensor grids = codes.narrow(-1, width, 8).contiguous().view(at::kFloat);
  return codes.narrow(-1, 0, width).to(at::kFloat) * grids.narrow(-1, 1, 1) +
         grids.narrow(-1, 0, 1);
}

TEST(CacheOperators, CodesAndGridsOfRowsAtEveryLevel) {
  for (const std::int64_t width : {1, 3, 16, 64, 70, 300}) {
    const at::Tensor x = kept(width), expected = written(x);
    for (const auto& level : ops::cpu_levels()) {
      const testing::LevelScope scope(level);
      const at::Tensor codes = ops::cache_quantize_cpu(x);
      EXPECT_TRUE(at::equal(codes, expected)) << level << " " << width;
      const at::Tensor values = ops::cache_dequantize_cpu(codes);
      EXPECT_TRUE(at::equal(values, read(codes))) << level << " " << width;
      EXPECT_TRUE(((values - x).abs() <= step_of(x) * 0.5001 + 1e-6).all().item<bool>());
      EXPECT_TRUE(at::equal(values[0][1][2], x[0][1][2]));  // equal values are exact
    }
  }
}

TEST(CacheOperators, CodesThatAnEmptyPastMadeFloat32AreRead) {
  const at::Tensor codes = ops::cache_quantize_cpu(kept(16));
  const at::Tensor joined = at::cat({at::zeros({2, 3, 0, 24}), codes}, 2);
  ASSERT_EQ(joined.scalar_type(), at::kFloat);
  EXPECT_TRUE(at::equal(ops::cache_dequantize_cpu(joined), ops::cache_dequantize_cpu(codes)));
}

TEST(CacheOperators, NoTokens) {
  const at::Tensor codes = ops::cache_quantize_cpu(at::zeros({2, 3, 0, 16}));
  EXPECT_EQ(codes.sizes(), (std::vector<std::int64_t>{2, 3, 0, 24}));
  EXPECT_EQ(codes.scalar_type(), at::kByte);
  EXPECT_EQ(ops::cache_dequantize_cpu(codes).sizes(), (std::vector<std::int64_t>{2, 3, 0, 16}));
  EXPECT_EQ(ops::cache_operand_cpu(codes, at::ones({1}), at::zeros({1}), 255, 128).scalar_type(),
            at::kChar);
}

at::Tensor operand(const at::Tensor& x, const at::Tensor& m, const at::Tensor& a, int top,
                   int shift) {
  return ((x * m + a).round().clamp(0, top) - shift).to(at::kChar);
}

TEST(CacheOperators, OperandsOnGridsOfHeadsAndChannels) {
  for (const std::int64_t width : {3, 64, 300}) {
    const at::Tensor x = kept(width), codes = ops::cache_quantize_cpu(x);
    for (const auto& sizes :
         std::vector<std::vector<std::int64_t>>{{1}, {3, 1, 1}, {3, 1, width}, {1, 1, width}}) {
      const at::Tensor m = at::rand(sizes) * 8 + 1, a = at::rand(sizes) * 60 + 90;
      for (const auto& level : ops::cpu_levels()) {
        const testing::LevelScope scope(level);
        EXPECT_TRUE(at::equal(ops::cache_operand_cpu(codes, m, a, 255, 128),
                              operand(read(codes), m, a, 255, 128)))
            << level << " " << m.sizes();
        EXPECT_TRUE(
            at::equal(ops::quantize_cpu(x, m, a, 15, false, true, 0), operand(x, m, a, 15, 0)))
            << level << " " << m.sizes();
      }
    }
  }
}

TEST(CacheOperators, HeadsOfATransposedTensor) {
  const at::Tensor x = kept(5).transpose(1, 2);  // heads are the dimension before the last two
  const at::Tensor m = at::rand({4, 1, 1}) + 1, a = at::full({1, 1, 1}, 7.0F);
  EXPECT_TRUE(at::equal(ops::quantize_cpu(x, m, a, 15, false, true, 0), operand(x, m, a, 15, 0)));
}

TEST(CacheOperators, WhatDoesNotFitIsRefused) {
  const at::Tensor x = kept(16), codes = ops::cache_quantize_cpu(x), one = at::ones({1});
  EXPECT_THROW(ops::cache_quantize_cpu(x.to(at::kDouble)), c10::Error);
  EXPECT_THROW(ops::cache_dequantize_cpu(codes.narrow(-1, 0, 8)), c10::Error);
  EXPECT_THROW(ops::cache_dequantize_cpu(codes.to(at::kInt)), c10::Error);
  for (const auto& sizes : std::vector<std::vector<std::int64_t>>{
           {2, 1, 1}, {3, 2, 1}, {3, 1, 15}, {15}, {0}, {1, 3, 1, 1}}) {
    EXPECT_THROW(ops::cache_operand_cpu(codes, at::ones(sizes), one, 255, 0), c10::Error) << sizes;
    EXPECT_THROW(ops::cache_operand_cpu(codes, one, at::ones(sizes), 255, 0), c10::Error) << sizes;
  }
  EXPECT_THROW(ops::cache_operand_cpu(codes, one, one, 256, 0), c10::Error);
  EXPECT_THROW(ops::cache_operand_cpu(codes, one, one, 255, 129), c10::Error);
  EXPECT_THROW(ops::quantize_cpu(x, at::ones({2, 1, 1}), one, 15, false, true, 0), c10::Error);
  EXPECT_THROW(ops::quantize_cpu(x, at::ones({3, 2, 1}), one, 15, false, true, 0), c10::Error);
}

}  // namespace
}  // namespace repquant
