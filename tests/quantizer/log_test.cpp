#include "quantizer/log.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "repquant/error.h"
#include "support/random.h"

namespace repquant {
namespace {

at::Tensor all_codes(const LogGrid& grid) { return at::arange(grid.max_code() + 1, at::kFloat); }

TEST(Log, PowersOfTheBaseAreExact) {
  const LogGrid grid;  // log-sqrt2, 4 bits, zero code
  std::vector<float> scores;
  for (int k = 0; k < 15; ++k) scores.push_back(static_cast<float>(-k * std::log(2.0) / 2));
  const at::Tensor codes = log_codes_from_scores(at::tensor(scores), grid);
  EXPECT_TRUE(at::equal(codes, at::arange(15, at::kFloat)));
  const at::Tensor weights = log_weights(codes, grid);
  for (int k = 0; k < 15; ++k) {
    EXPECT_EQ(weights[k].item<float>(), static_cast<float>(std::exp2(-k / 2.0)));
  }
}

TEST(Log, LastCodeIsZeroAndOneOfTheLevels) {
  const LogGrid grid;
  const at::Tensor far = at::tensor({-50.0F, -std::numeric_limits<float>::infinity()});
  EXPECT_TRUE(at::equal(log_codes_from_scores(far, grid), at::full({2}, 15.0F)));
  EXPECT_TRUE(at::equal(log_weights(at::full({2}, 15.0F), grid), at::zeros({2})));
  EXPECT_EQ(log_table(grid).numel(), 16);
  LogGrid without = grid;
  without.zero_code = false;
  EXPECT_EQ(log_table(without)[15].item<float>(), static_cast<float>(std::exp2(-7.5)));
}

TEST(Log, RelativeErrorIsHalfAStep) {
  testing::Random random(1);
  for (const auto& [bits, steps] : {std::pair{4, 2.0}, {4, 1.5}, {6, 4.0}, {8, 8.0}}) {
    const LogGrid grid{bits, steps, true, false};
    // Inside the grid: above the smallest weight.
    const double least = -(grid.max_code() - 1.0) / steps * std::log(2.0);
    const at::Tensor x = random.uniform({2000}, least, 0);
    const at::Tensor weights = log_weights(log_codes_from_scores(x, grid), grid);
    const at::Tensor octaves = (weights.log2() - x * std::log2(std::exp(1.0))).abs();
    EXPECT_LE(octaves.max().item<double>(), 0.5 / steps + 1e-4);
  }
}

TEST(Log, U8TableHoldsIntegers) {
  const LogGrid grid{6, 4, true, true};
  const at::Tensor integers = log_table(grid) * 255;
  EXPECT_LT((integers - at::round(integers)).abs().max().item<double>(), 1e-4);
  EXPECT_EQ(log_table(grid)[0].item<float>(), 1);
  LogGrid real = grid;
  real.u8_table = false;
  EXPECT_LE((log_table(grid) - log_table(real)).abs().max().item<double>(), 0.5 / 255 + 1e-7);
}

// The paper's identity a^ = s 2^(-ceil(q/2)) (1 + (q mod 2)(sqrt2 - 1)) in integers: exact in
// double for every code, every width up to 8 bits.
TEST(Log, ParitySplitReproducesEveryCode) {
  for (const int bits : {2, 3, 4, 5, 6}) {
    for (const bool zero_code : {true, false}) {
      const LogGrid grid{bits, 2, zero_code, false};
      const at::Tensor codes = all_codes(grid);
      const ParitySplit split = split_by_parity(codes, grid);
      EXPECT_TRUE(at::equal(at::round(split.even), split.even));
      EXPECT_TRUE(at::equal(at::round(split.odd), split.odd));
      EXPECT_EQ((split.even * split.odd).abs().max().item<float>(), 0);
      const at::Tensor value =
          (split.even.to(at::kDouble) + std::sqrt(2.0) * split.odd.to(at::kDouble)) *
          std::exp2(-split.shift);
      for (int q = 0; q <= grid.max_code(); ++q) {
        const double expected = zero_code && q == grid.max_code() ? 0 : std::exp2(-q / 2.0);
        EXPECT_NEAR(value[q].item<double>(), expected, 1e-15 * expected) << bits << " " << q;
      }
    }
  }
}

TEST(Log, FourBitParitySplitFitsEightBits) {
  const LogGrid grid;
  const ParitySplit split = split_by_parity(all_codes(grid), grid);
  EXPECT_EQ(split.shift, 7);
  EXPECT_EQ(split.even.max().item<float>(), 128);
  EXPECT_EQ(split.even[14].item<float>(), 1);
  EXPECT_EQ(split.odd[1].item<float>(), 64);
  EXPECT_EQ(split.odd[13].item<float>(), 1);
  EXPECT_EQ(split.even[15].item<float>() + split.odd[15].item<float>(), 0);
}

TEST(Log, ProductThroughTheSplit) {
  // A V = s_v 2^-K (E + sqrt2 O) with integer products of the codes.
  testing::Random random(2);
  const LogGrid grid;
  const at::Tensor scores = random.uniform({5, 40}, -6, 0);
  const at::Tensor codes = log_codes_from_scores(scores, grid);
  const at::Tensor v = at::round(random.uniform({40, 3}, -8, 7));
  const ParitySplit split = split_by_parity(codes, grid);
  const at::Tensor product =
      (at::mm(split.even, v) + at::mm(split.odd, v) * std::sqrt(2.0F)) * std::exp2(-split.shift);
  EXPECT_TRUE(at::allclose(product, at::mm(log_weights(codes, grid), v), 1e-5, 1e-5));
}

TEST(Log, RejectsBadGrids) {
  EXPECT_THROW(log_table({9, 2, true, false}), Error);
  EXPECT_THROW(log_table({4, 0, true, false}), Error);
  EXPECT_THROW(split_by_parity(at::zeros({1}), {4, 4, true, false}), Error);
}

}  // namespace
}  // namespace repquant
