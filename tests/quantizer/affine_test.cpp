#include "quantizer/affine.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "quantizer/kernels.h"
#include "repquant/error.h"
#include "support/random.h"
#include "tensor/simd.h"

namespace repquant {
namespace {

at::Tensor one(float value) { return at::full({1}, value); }

TEST(Affine, CodesByHand) {
  // s = 3 / 15 = 0.2, z = 5.
  const AffineGrid grid = affine_grid(one(-1), one(2), 4);
  EXPECT_FLOAT_EQ(grid.scale[0].item<float>(), 0.2F);
  EXPECT_EQ(grid.zero_point[0].item<float>(), 5);
  const at::Tensor codes =
      quantize(at::tensor({-9.0F, -1.0F, -0.31F, 0.0F, 0.09F, 0.11F, 2.0F, 9.0F}), grid);
  EXPECT_TRUE(at::equal(codes, at::tensor({0.0F, 0.0F, 3.0F, 5.0F, 5.0F, 6.0F, 15.0F, 15.0F})));
}

TEST(Affine, RangesBelowWhatFloatCanScaleAreZero) {
  const AffineGrid alone = affine_grid(one(-1e-40F), one(1e-38F), 8);
  EXPECT_EQ(alone.scale[0].item<float>(), 1);
  EXPECT_EQ(fake_quantize(one(1e-38F), alone)[0].item<float>(), 0);
  const AffineGrid beside =
      affine_grid(at::tensor({-1.0F, -1e-40F}), at::tensor({1.0F, 1e-40F}), 8);
  EXPECT_EQ(beside.scale[1].item<float>(), beside.scale[0].item<float>());
}

TEST(Affine, RoundsHalfToEven) {
  const AffineGrid grid{4, one(1), one(3)};  // an odd zero point must not turn the ties around
  EXPECT_TRUE(at::equal(quantize(at::tensor({0.5F, 1.5F, 2.5F, -0.5F, -1.5F}), grid),
                        at::tensor({3.0F, 5.0F, 5.0F, 3.0F, 1.0F})));
}

TEST(Affine, RoundEvenIsNearbyint) {
  testing::Random random(1);
  for (int i = 0; i < 100000; ++i) {
    const auto x = static_cast<float>((random.uniform() - 0.5) * 8e6);
    ASSERT_EQ(round_even(x), std::nearbyint(x)) << x;
  }
  for (float x = -1000.5F; x < 1000; x += 0.5F) ASSERT_EQ(round_even(x), std::nearbyint(x)) << x;
}

TEST(Affine, ErrorInsideTheRangeIsHalfAStep) {
  testing::Random random(2);
  for (const int bits : {2, 3, 4, 5, 6, 7, 8}) {
    for (const bool integer : {true, false}) {
      const at::Tensor x = random.uniform({500, 7}, -3, 5);
      const AffineGrid grid = affine_grid(at::amin(x, 0), at::amax(x, 0), bits, integer);
      const at::Tensor error = (fake_quantize(x, grid) - x).abs();
      // A rounded zero point moves both ends by up to half a step.
      const double bound = integer ? 1.0 : 0.5;
      EXPECT_TRUE((error <= grid.scale * (bound + 1e-4)).all().item<bool>()) << bits;
      const at::Tensor inner = x.abs() < 2.5;
      EXPECT_TRUE((error <= grid.scale * (0.5 + 1e-4)).logical_or_(~inner).all().item<bool>());
      const at::Tensor codes = quantize(x, grid);
      EXPECT_GE(codes.min().item<float>(), 0);
      EXPECT_LE(codes.max().item<float>(), static_cast<float>((1 << bits) - 1));
      EXPECT_TRUE(at::equal(codes, at::round(codes)));
    }
  }
}

TEST(Affine, ZeroIsACodeWhereTheRangeHoldsIt) {
  const AffineGrid grid =
      affine_grid(at::tensor({-1.0F, 0.0F, -3.0F}), at::tensor({2.0F, 1.0F, 0.0F}), 4);
  EXPECT_TRUE(at::equal(fake_quantize(at::zeros({1, 3}), grid), at::zeros({1, 3})));
  EXPECT_TRUE(at::equal(grid.zero_point, at::tensor({5.0F, 0.0F, 15.0F})));
}

TEST(Affine, OneSidedRangesKeepTheirOffset) {
  const AffineGrid grid = affine_grid(at::tensor({10.0F, -4.0F}), at::tensor({11.5F, -2.5F}), 4);
  EXPECT_TRUE(at::equal(grid.zero_point, at::tensor({-100.0F, 40.0F})));
  const at::Tensor x = at::tensor({10.31F, -3.0F}).view({1, 2});
  EXPECT_TRUE(at::equal(quantize(x, grid), at::tensor({3.0F, 10.0F}).view({1, 2})));
}

TEST(Affine, ConstantChannelsAreExactAndDoNotStickOut) {
  const at::Tensor constant = at::tensor({0.0F, 7.5F, -0.3F, 1e-30F, 1000.0F});
  const at::Tensor lower = at::cat({constant, at::tensor({-1.0F, -2.0F, -1.5F})});
  const at::Tensor upper = at::cat({constant, at::tensor({1.0F, 2.0F, 1.5F})});
  const AffineGrid grid = affine_grid(lower, upper, 4);
  const at::Tensor value = fake_quantize(lower.unsqueeze(0), grid)[0].slice(0, 0, 5);
  EXPECT_TRUE(at::allclose(value, constant, 1e-6, 0));
  // Scales are within a factor of two of the others' median where the constant allows it.
  EXPECT_FLOAT_EQ(grid.scale[0].item<float>(), 0.2F);
  EXPECT_NEAR(grid.scale[1].item<float>(), 0.2, 0.02);
  EXPECT_NEAR(grid.scale[2].item<float>(), 0.2, 0.11);
  EXPECT_NEAR(grid.scale[4].item<float>(), 0.2, 0.02);
}

TEST(Affine, ConstantTensor) {
  for (const float value : {0.0F, 3.0F, -3.0F}) {
    const AffineGrid grid = affine_grid(one(value), one(value), 4);
    EXPECT_GT(grid.scale[0].item<float>(), 0);
    EXPECT_EQ(fake_quantize(one(value), grid)[0].item<float>(), value);
  }
}

TEST(Affine, ExtremeRangesStayFinite) {
  const float huge = std::numeric_limits<float>::max();
  const AffineGrid wide = affine_grid(one(-huge), one(huge), 4);
  EXPECT_TRUE(std::isfinite(wide.scale[0].item<float>()));
  const AffineGrid narrow = affine_grid(one(1.0F), one(std::nextafter(1.0F, 2.0F)), 8);
  EXPECT_NEAR(fake_quantize(one(1.0F), narrow)[0].item<double>(), 1.0, 1e-6);
}

TEST(Affine, PerHeadBroadcast) {
  const AffineGrid grid{4, at::tensor({1.0F, 2.0F}).view({2, 1, 1}),
                        at::tensor({8.0F, 8.0F}).view({2, 1, 1})};
  EXPECT_TRUE(
      at::equal(quantize(at::full({2, 1, 1}, 4.0F), grid).flatten(), at::tensor({12.0F, 10.0F})));
}

TEST(Affine, RejectsBadInput) {
  EXPECT_THROW(affine_grid(one(0), one(1), 1), Error);
  EXPECT_THROW(affine_grid(one(0), one(1), 9), Error);
  EXPECT_THROW(affine_grid(one(0), at::ones({2}), 4), Error);
  EXPECT_THROW(affine_grid(one(2), one(1), 4), Error);
  EXPECT_THROW(affine_grid(one(0), one(std::numeric_limits<float>::infinity()), 4), Error);
}

// The loops of the searches must speak of the same quantizer.
TEST(Affine, SearchLoopsAgreeWithTheQuantizer) {
  testing::Random random(3);
  const at::Tensor x = random.normal({1003});
  for (const bool integer : {true, false}) {
    for (const auto& [lower, upper] : {std::pair{-1.3, 2.1}, {0.4, 1.7}, {-2.0, -0.5}}) {
      const AffineGrid grid =
          affine_grid(one(static_cast<float>(lower)), one(static_cast<float>(upper)), 4, integer);
      const LineGrid line = line_grid(lower, upper, 4, integer);
      at::Tensor error = at::empty_like(x);
      quantization_error(line, x.const_data_ptr<float>(), error.data_ptr<float>(), x.numel());
      const at::Tensor expected = fake_quantize(x, grid) - x;
      EXPECT_LT((error.abs() - expected.abs()).abs().max().item<double>(), 1e-5);
      EXPECT_NEAR(squared_error(line, x.const_data_ptr<float>(), x.numel()) /
                      expected.square().sum().item<double>(),
                  1, 1e-4);
    }
  }
}

TEST(Kernels, EndsOfARowAreThoseOfTheTensor) {
  testing::Random random(3);
  for (const std::int64_t count : {1, 31, 32, 33, 200}) {
    const at::Tensor x = random.normal({count}), multiplier = random.normal({count}).exp();
    const at::Tensor offset = random.normal({count}), values = multiplier * x + offset;
    const Ends ends = ends_of(x.const_data_ptr<float>(), multiplier.const_data_ptr<float>(),
                              offset.const_data_ptr<float>(), count);
    EXPECT_EQ(ends.low, values.min().item<float>()) << count;
    EXPECT_EQ(ends.high, values.max().item<float>()) << count;
    EXPECT_EQ(ends.low_at, values.argmin().item<std::int64_t>()) << count;
    EXPECT_EQ(ends.high_at, values.argmax().item<std::int64_t>()) << count;
  }
}

}  // namespace
}  // namespace repquant
