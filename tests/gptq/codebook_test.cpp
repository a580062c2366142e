// Learned levels of a weight.
#include "gptq/codebook.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdint>

#include "gptq/gptq.h"
#include "support/random.h"

namespace repquant {
namespace {

WeightRecipe nearest(bool codebook) {
  WeightRecipe recipe;
  recipe.rounding = WeightRounding::kNearest;
  recipe.codebook = codebook;
  return recipe;
}

double error_db(const at::Tensor& weight, const QuantizedWeight& quantized) {
  const at::Tensor error = quantized.dequantize() - weight;
  return 10 * at::log10(error.square().sum(at::kDouble) / weight.square().sum(at::kDouble))
                  .item<double>();
}

// Max (1960): the best 16 levels of a Gaussian lose 20.2 dB, the best 16 equal steps 19.4 dB. Here
// scales are searched for each row, which helps either.
TEST(Codebook, IsTheBetterOnGaussianAndHeavyTails) {
  testing::Random random(5);
  const at::Tensor gaussian = random.normal({96, 256});
  const at::Tensor heavy = gaussian * random.normal({96, 256}).abs();
  for (const int bits : {2, 3, 4, 5, 6}) {
    for (const at::Tensor& weight : {gaussian, heavy}) {
      const double even = error_db(weight, quantize_weight(weight, {}, bits, nearest(false)));
      const double learned = error_db(weight, quantize_weight(weight, {}, bits, nearest(true)));
      EXPECT_LT(learned, even - (bits == 2 ? 0.1 : 0.4)) << bits;
    }
  }
}

void expect_whole_rising_levels(const at::Tensor& weight, std::int64_t group_size) {
  for (const int bits : {2, 3, 4, 5, 6}) {
    const WeightCodes codes = fit_codebook(weight, at::ones({weight.size(1)}), bits, group_size);
    ASSERT_EQ(codes.levels.size(), std::size_t{1} << bits);
    EXPECT_EQ(codes.low, codes.levels.front());
    EXPECT_EQ(codes.high, codes.levels.back());
    EXPECT_GE(codes.low, -max_weight_level(bits));
    EXPECT_LE(codes.high, max_weight_level(bits));
    for (std::size_t i = 0; i < codes.levels.size(); ++i) {
      EXPECT_EQ(codes.levels[i], static_cast<float>(static_cast<int>(codes.levels[i])));
      if (i > 0) {
        EXPECT_GT(codes.levels[i], codes.levels[i - 1]);
      }
    }
  }
}

TEST(Codebook, LevelsAreWholeRisingAndWithinBounds) {
  const at::Tensor weight = testing::Random(6).normal({40, 70});
  for (const std::int64_t group_size : {70, 32, 1}) {
    expect_whole_rising_levels(weight, group_size);
    expect_whole_rising_levels(weight.sign(), group_size);  // fewer values than levels
    expect_whole_rising_levels(weight.clamp(-0.1, 0.1), group_size);
  }
}

// Rows are multiples of sixteen uneven values.
TEST(Codebook, ValuesThatAreAFewLevelsAreExact) {
  const at::Tensor values = at::tensor({-64.0F, -41.0F, -29.0F, -20.0F, -13.0F, -8.0F, -4.0F, -1.0F,
                                        2.0F, 5.0F, 9.0F, 14.0F, 21.0F, 30.0F, 42.0F, 60.0F});
  testing::Random random(7);
  const at::Tensor scale = random.normal({30, 1}).abs() + 0.1;
  const at::Tensor weight = values.repeat({30, 8}) * scale;
  const QuantizedWeight quantized = quantize_weight(weight, {}, 4, nearest(true));
  EXPECT_LT(error_db(weight, quantized), -60);
}

TEST(Codebook, CodesAreLevelsAndTheirNumbersGoBack) {
  testing::Random random(8);
  const at::Tensor x =
      at::mm(random.normal({300, 12}), random.normal({12, 48})) + random.normal({300, 48});
  const at::Tensor hessian = at::mm(x.t(), x).to(at::kDouble);
  const at::Tensor weight = random.normal({70, 48});
  WeightRecipe recipe;
  recipe.codebook = false;
  const QuantizedWeight even = quantize_weight(weight, hessian, 4, recipe);
  EXPECT_FALSE(even.levels.defined());
  EXPECT_TRUE(at::equal(even.numbered(), even.codes));
  recipe.codebook = true;
  const QuantizedWeight learned = quantize_weight(weight, hessian, 4, recipe);
  EXPECT_EQ(learned.outcome, "gptq");
  EXPECT_LT(learned.error_gptq, 0.95 * even.error_gptq);
  ASSERT_EQ(learned.levels.numel(), 16);
  const at::Tensor number = learned.numbered();
  EXPECT_GE(number.min().item<int>(), -8);
  EXPECT_LE(number.max().item<int>(), 7);
  const at::Tensor back =
      learned.levels.index_select(0, number.flatten().to(at::kLong) + 8).view_as(number);
  EXPECT_TRUE(at::equal(back, learned.codes));
  for (const int threads : {2, 5}) {
    EXPECT_TRUE(
        at::equal(quantize_weight(weight, hessian, 4, recipe, threads).codes, learned.codes));
  }
}

// Importance decides which weights the levels suit.
TEST(Codebook, ColumnsThatMatterGetTheLevels) {
  testing::Random random(9);
  at::Tensor weight = random.normal({64, 64});
  weight.slice(1, 0, 32).sign_().mul_(0.7).add_(0.3);  // -0.4 and 1
  at::Tensor importance = at::ones({64});
  importance.slice(0, 0, 32).mul_(1e4);
  const at::Tensor hessian = at::diag(importance).to(at::kDouble);
  const QuantizedWeight quantized = quantize_weight(weight, hessian, 2, nearest(true));
  const at::Tensor error = (quantized.dequantize() - weight).slice(1, 0, 32);
  EXPECT_LT(error.abs().max().item<double>(), 0.05);
}

TEST(Codebook, NothingButZerosAndWhereThereIsNone) {
  const QuantizedWeight zeros = quantize_weight(at::zeros({4, 8}), {}, 4, nearest(true));
  EXPECT_EQ(zeros.dequantize().abs().max().item<double>(), 0);
  const at::Tensor weight = testing::Random(10).normal({4, 64});
  EXPECT_FALSE(quantize_weight(weight, {}, 7, nearest(true)).levels.defined());
}

// Each group of a row is a multiple of sixteen uneven values.
TEST(Codebook, GroupsHaveScalesOfTheirOwnAndLevelsInCommon) {
  const at::Tensor values = at::tensor({-64.0F, -41.0F, -29.0F, -20.0F, -13.0F, -8.0F, -4.0F, -1.0F,
                                        2.0F, 5.0F, 9.0F, 14.0F, 21.0F, 30.0F, 42.0F, 60.0F});
  testing::Random random(11);
  const at::Tensor scale = random.normal({30, 4}).abs() + 0.1;
  const at::Tensor weight = values.repeat({30, 8}) * scale.repeat_interleave(32, 1);
  WeightRecipe groups = nearest(true);
  groups.group_size = 32;
  EXPECT_LT(error_db(weight, quantize_weight(weight, {}, 4, groups)), -60);
  EXPECT_GT(error_db(weight, quantize_weight(weight, {}, 4, nearest(true))), -30);
}

}  // namespace
}  // namespace repquant
