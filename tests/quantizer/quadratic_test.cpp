#include "quantizer/quadratic.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "quantizer/kernels.h"
#include "repquant/error.h"
#include "support/random.h"

namespace repquant {
namespace {

TEST(Quadratic, CodesByHand) {
  const QuadraticGrid grid{4, 0.5, 4};  // levels 0.5 (q^2 - 4): -2, -1.5, 0, 2.5, 6 ... 110.5
  const at::Tensor x = at::tensor({-9.0F, -1.8F, -1.6F, 0.0F, 1.2F, 1.3F, 110.0F, 1e9F});
  EXPECT_TRUE(
      at::equal(quantize(x, grid), at::tensor({0.0F, 0.0F, 1.0F, 2.0F, 2.0F, 3.0F, 15.0F, 15.0F})));
  EXPECT_EQ(fake_quantize(at::zeros({1}), grid)[0].item<float>(), 0);
}

// Rounding twice (to an integer u, then the root) gives the nearest level for every value: checked
// on a fine grid that includes every midpoint, where both neighbours are nearest.
TEST(Quadratic, EncodesToTheNearestLevel) {
  for (const int bits : {2, 3, 4}) {
    for (const int zero_point : {0, 1, 4, 6}) {
      const QuadraticGrid grid{bits, 1.0, zero_point};
      const int top = grid.max_code() * grid.max_code();
      const at::Tensor x = at::arange(-8 * 64, (top + 8) * 64, at::kFloat).div_(64);
      const at::Tensor levels = at::arange(grid.max_code() + 1, at::kFloat).square_() - zero_point;
      const at::Tensor nearest = at::amin((x.unsqueeze(1) - levels).abs(), 1);
      EXPECT_TRUE(at::equal((fake_quantize(x, grid) - x).abs(), nearest)) << bits << zero_point;
    }
  }
}

TEST(Quadratic, RootOfEveryIntegerRoundsToTheNearestSquare) {
  // sqrt(q^2 + q) rounds to q and sqrt(q^2 + q + 1) to q + 1, in float32.
  for (int q = 0; q < 16; ++q) {
    const auto low = static_cast<float>(q * q + q);
    EXPECT_EQ(std::nearbyint(std::sqrt(low)), static_cast<float>(q));
    EXPECT_EQ(std::nearbyint(std::sqrt(low + 1)), static_cast<float>(q + 1));
  }
}

TEST(Quadratic, SearchLoopsAgreeWithTheQuantizer) {
  const at::Tensor x = testing::Random(1).normal({777});
  const QuadraticGrid grid{3, 0.07, 5};
  const at::Tensor expected = fake_quantize(x, grid) - x;
  at::Tensor error = at::empty_like(x);
  quantization_error(0.07F, 5, 7, x.const_data_ptr<float>(), error.data_ptr<float>(), x.numel());
  EXPECT_LT((error.abs() - expected.abs()).abs().max().item<double>(), 1e-5);
  EXPECT_NEAR(squared_error(0.07F, 5, 7, x.const_data_ptr<float>(), x.numel()),
              expected.square().sum().item<double>(), 1e-2);
}

TEST(Quadratic, RejectsBadGrids) {
  EXPECT_THROW(quantize(at::zeros({1}), QuadraticGrid{5, 1.0, 0}), Error);
  EXPECT_THROW(quantize(at::zeros({1}), QuadraticGrid{4, 0.0, 0}), Error);
}

}  // namespace
}  // namespace repquant
