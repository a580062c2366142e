#include "gptq/gptq.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "gptq/hessian.h"
#include "repquant/error.h"
#include "support/random.h"

namespace repquant {
namespace {

// Correlated inputs: a few common directions, and channels of very different size.
at::Tensor correlated(testing::Random& random, std::int64_t rows, std::int64_t columns) {
  const at::Tensor common = at::mm(random.normal({rows, 8}), random.normal({8, columns}));
  const at::Tensor scale = random.uniform({columns}, 0.1, 2.0);
  return (common * 0.5 + random.normal({rows, columns})) * scale;
}

at::Tensor hessian_of(const at::Tensor& x) {
  HessianAccumulator accumulator(x.size(-1));
  accumulator.add(x);
  return accumulator.hessian();
}

double objective(const at::Tensor& weight, const QuantizedWeight& quantized,
                 const at::Tensor& hessian) {
  at::Tensor scale = quantized.scale.to(at::kDouble);
  scale = quantized.group_size == 0
              ? scale.unsqueeze(1)
              : scale.repeat_interleave(quantized.group_size, 1).slice(1, 0, weight.size(1));
  const at::Tensor error = weight.to(at::kDouble) - quantized.codes.to(at::kDouble) * scale;
  return (at::mm(error, hessian) * error).sum().item<double>();
}

WeightRecipe plain_recipe(WeightRounding rounding) {
  WeightRecipe recipe;
  recipe.rounding = rounding;
  recipe.scale_search = false;
  recipe.act_order = false;
  recipe.damping = 0;
  recipe.codebook = false;
  return recipe;
}

/// The default on whole numbers.
WeightRecipe whole_numbers() {
  WeightRecipe recipe;
  recipe.codebook = false;
  return recipe;
}

TEST(Gptq, IdentityHessianIsNearest) {
  testing::Random random(1);
  const at::Tensor weight = random.normal({33, 70});
  const at::Tensor identity = at::eye(70, at::kDouble);
  for (const int bits : {2, 3, 4, 8}) {
    const auto gptq = quantize_weight(weight, identity, bits, plain_recipe(WeightRounding::kGptq));
    const auto nearest =
        quantize_weight(weight, identity, bits, plain_recipe(WeightRounding::kNearest));
    // The codes are the same; gptq may still refit the row scales.
    EXPECT_TRUE(at::equal(gptq.codes, nearest.codes)) << bits;
    EXPECT_EQ(nearest.outcome, "nearest");
  }
}

// w = (0.6, 2.6, -8), absolute-maximum scale 1 at 4 bits, H = [[2, 1, 0], [1, 1, 0], [0, 0, 1]].
// Column 0: q = 1, error -0.4. The loop minimises over the later columns, so column 1 becomes
// w_1 - (H^-1)_01 / (H^-1)_00 * (-0.4); H^-1 = [[1, -1], [-1, 2]] gives 2.6 - 0.4 = 2.2: q = 2.
TEST(Gptq, TwoByTwoByHand) {
  const at::Tensor weight = at::tensor({0.6F, 2.6F, -8.0F}).view({1, 3});
  const at::Tensor hessian =
      at::tensor({2.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0}, at::kDouble).view({3, 3});
  const auto nearest = quantize_weight(weight, hessian, 4, plain_recipe(WeightRounding::kNearest));
  const auto gptq = quantize_weight(weight, hessian, 4, plain_recipe(WeightRounding::kGptq));
  EXPECT_TRUE(at::equal(nearest.codes, at::tensor({1, 3, -8}, at::kChar).view({1, 3})));
  EXPECT_TRUE(at::equal(gptq.codes, at::tensor({1, 2, -8}, at::kChar).view({1, 3})));
  // dW = (-0.4, -0.4): 0.16 (2 + 2 + 1) = 0.8.
  EXPECT_NEAR(gptq.error_rtn, 0.8, 1e-6);
  // s = w H q / q H q; w H = (3.8, 3.2, -8), q H = (4, 3, -8): s = 74.2 / 74.
  EXPECT_NEAR(gptq.scale[0].item<double>(), 74.2 / 74.0, 1e-6);
  EXPECT_NEAR(gptq.error_gptq, objective(weight, gptq, hessian), 1e-7);
  EXPECT_LT(gptq.error_gptq, 0.8);
  EXPECT_EQ(gptq.outcome, "gptq");
}

// As nearest rounding by the whole Hessian does, which reads no more of it for codes and scales.
TEST(Gptq, ADiagonalIsRoundedToNearestByIt) {
  testing::Random random(5);
  const at::Tensor weight = random.normal({70, 48});
  const at::Tensor hessian = hessian_of(correlated(random, 300, 48));
  const at::Tensor diagonal = hessian.diagonal().clone();
  WeightRecipe nearest;
  nearest.rounding = WeightRounding::kNearest;
  for (const int bits : {4, 8}) {
    const auto expected = quantize_weight(weight, hessian, bits, nearest);
    const auto got = quantize_weight(weight, diagonal, bits, {});
    EXPECT_TRUE(at::equal(got.codes, expected.codes));
    EXPECT_TRUE(at::equal(got.scale, expected.scale));
    EXPECT_EQ(got.outcome, kNearestByDiagonal);
    EXPECT_EQ(quantize_weight(weight, diagonal, bits, nearest).outcome, "nearest");
    EXPECT_NEAR(got.error_gptq / objective(weight, got, at::diag(diagonal)), 1, 1e-6);
  }
  EXPECT_FALSE(at::equal(quantize_weight(weight, {}, 4, nearest).scale,
                         quantize_weight(weight, diagonal, 4, nearest).scale));
}

TEST(Gptq, BetterThanNearestOnCorrelatedInputs) {
  testing::Random random(2);
  const at::Tensor weight = random.normal({96, 160});
  const at::Tensor hessian = hessian_of(correlated(random, 1200, 160));
  for (const int bits : {2, 3, 4, 6, 8}) {
    for (const bool act_order : {false, true}) {
      WeightRecipe recipe = whole_numbers();
      recipe.act_order = act_order;
      const auto quantized = quantize_weight(weight, hessian, bits, recipe);
      EXPECT_EQ(quantized.outcome, "gptq");
      EXPECT_LT(quantized.error_gptq, 0.8 * quantized.error_rtn) << bits;
      EXPECT_NEAR(quantized.error_gptq / objective(weight, quantized, hessian), 1, 1e-6);
      const int last = (1 << (bits - 1)) - 1;
      EXPECT_LE(quantized.codes.max().item<int>(), last);
      EXPECT_GE(quantized.codes.min().item<int>(), bits == 8 ? -last : -last - 1);
    }
  }
}

// The widest weight has the lowest code, so a row that reaches far above 0 has a negative scale.
TEST(Gptq, AllCodesBelowEightBits) {
  const at::Tensor weight = at::tensor({4.0F, -3.0F, 1.0F, 3.0F, -4.0F, 0.0F}).view({2, 3});
  const WeightRecipe recipe = plain_recipe(WeightRounding::kNearest);
  const auto three = quantize_weight(weight, {}, 3, recipe);
  EXPECT_TRUE(at::equal(three.codes, at::tensor({-4, 3, -1, 3, -4, 0}, at::kChar).view({2, 3})));
  EXPECT_TRUE(at::equal(three.scale, at::tensor({-1.0F, 1.0F})));
  EXPECT_EQ(three.error_gptq, 0);
  const auto eight = quantize_weight(weight, {}, 8, recipe);
  EXPECT_EQ(eight.codes[0][0].item<int>(), 127);
  EXPECT_EQ(eight.codes[1][1].item<int>(), -127);
  EXPECT_GT(eight.scale.min().item<double>(), 0);
}

TEST(Gptq, SearchedScalesBeatTheMaximum) {
  testing::Random random(3);
  at::Tensor weight = random.normal({64, 128});
  weight.select(1, 5).mul_(4);
  const at::Tensor hessian = hessian_of(correlated(random, 800, 128));
  WeightRecipe recipe;
  recipe.rounding = WeightRounding::kNearest;
  const double searched = quantize_weight(weight, hessian, 4, recipe).error_gptq;
  recipe.scale_search = false;
  EXPECT_LT(searched, 0.85 * quantize_weight(weight, hessian, 4, recipe).error_gptq);
}

// With many columns and 8 bits the errors that decide are estimates.
TEST(Gptq, EstimatedErrorsDecideAsWell) {
  testing::Random random(12);
  const at::Tensor weight = random.normal({40, 320});
  const at::Tensor hessian = hessian_of(correlated(random, 1200, 320));
  const WeightRecipe recipe = whole_numbers();
  const auto eight = quantize_weight(weight, hessian, 8, recipe);
  at::Tensor damped = hessian.clone();
  damped.diagonal().add_(recipe.damping * hessian.diagonal().mean());
  const double kept = objective(weight, eight, damped);
  EXPECT_NEAR(eight.error_gptq / kept, 1, 0.05);
  WeightRecipe nearest = recipe;
  nearest.rounding = WeightRounding::kNearest;
  const double rounded = objective(weight, quantize_weight(weight, hessian, 8, nearest), damped);
  EXPECT_NEAR(eight.error_rtn / rounded, 1, 0.05);
  EXPECT_LT(kept, 0.8 * rounded);
  // Refitted scales are within the noise of the best ones for the codes.
  const at::Tensor codes = eight.codes.to(at::kDouble), seen = at::mm(codes, damped);
  const at::Tensor best = (seen * weight.to(at::kDouble)).sum(1) / (seen * codes).sum(1);
  EXPECT_LT((eight.scale / best - 1).abs().max().item<double>(), 1e-3);
}

TEST(Gptq, GroupsHaveTheirOwnScales) {
  testing::Random random(6);
  at::Tensor weight = random.normal({70, 100});
  weight.slice(1, 32, 64).mul_(20);  // one group far wider than the others
  const at::Tensor hessian = hessian_of(correlated(random, 700, 100));
  WeightRecipe recipe = whole_numbers();
  const auto whole = quantize_weight(weight, hessian, 4, recipe);
  recipe.group_size = 32;  // three groups and a rest of four columns
  const auto groups = quantize_weight(weight, hessian, 4, recipe, 2);
  EXPECT_EQ(groups.group_size, 32);
  EXPECT_EQ(groups.scale.sizes(), (std::vector<std::int64_t>{70, 4}));
  EXPECT_GT((groups.scale.select(1, 1) / groups.scale.select(1, 0)).abs().min().item<double>(),
            5.0);
  EXPECT_EQ(groups.codes.min().item<int>(), -8);
  EXPECT_LT(groups.error_gptq, 0.5 * whole.error_gptq);
  EXPECT_LT(groups.error_gptq, groups.error_rtn);
  EXPECT_NEAR(groups.error_gptq / objective(weight, groups, hessian), 1, 1e-6);
  for (const std::int64_t column : {0, 31, 32, 99}) {  // which scale belongs to a column
    EXPECT_TRUE(at::equal(
        groups.dequantize().select(1, column),
        groups.codes.select(1, column).to(at::kFloat) * groups.scale.select(1, column / 32)));
  }
}

TEST(Gptq, OneGroupIsTheWholeRow) {
  testing::Random random(7);
  const at::Tensor weight = random.normal({20, 48});
  const at::Tensor hessian = hessian_of(correlated(random, 300, 48));
  WeightRecipe recipe;
  const auto whole = quantize_weight(weight, hessian, 4, recipe);
  recipe.group_size = 64;
  const auto group = quantize_weight(weight, hessian, 4, recipe);
  EXPECT_EQ(group.group_size, 0);
  EXPECT_TRUE(at::equal(whole.codes, group.codes));
  EXPECT_TRUE(at::equal(whole.scale, group.scale));
}

TEST(Gptq, SameBytesForAnyThreadsAndBlocksCloseForAnyBlockSize) {
  testing::Random random(4);
  const at::Tensor weight = random.normal({200, 300});
  const at::Tensor hessian = hessian_of(correlated(random, 900, 300));
  const WeightRecipe recipe;
  const auto one = quantize_weight(weight, hessian, 4, recipe, 1);
  for (const int threads : {2, 3}) {
    const auto many = quantize_weight(weight, hessian, 4, recipe, threads);
    EXPECT_TRUE(at::equal(one.codes, many.codes));
    EXPECT_TRUE(at::equal(one.scale, many.scale));
    EXPECT_EQ(one.error_gptq, many.error_gptq);
  }
  WeightRecipe small = recipe;
  small.block_size = 16;
  // The same sums in another order: only ties in rounding may fall differently.
  const auto other = quantize_weight(weight, hessian, 4, small);
  EXPECT_LT(at::ne(one.codes, other.codes).to(at::kFloat).mean().item<double>(), 0.02);
  EXPECT_NEAR(one.error_gptq / other.error_gptq, 1, 0.02);
}

TEST(Gptq, RowsDoNotInfluenceEachOther) {
  testing::Random random(5);
  const at::Tensor weight = random.normal({130, 50});
  const at::Tensor hessian = hessian_of(correlated(random, 400, 50));
  const auto all = quantize_weight(weight, hessian, 3, whole_numbers());
  const auto last = quantize_weight(weight.slice(0, 64), hessian, 3, whole_numbers());
  EXPECT_TRUE(at::equal(all.codes.slice(0, 64), last.codes));
}

TEST(Gptq, DeadColumnsAreRoundedAndHarmless) {
  testing::Random random(6);
  const at::Tensor weight = random.normal({20, 32});
  at::Tensor x = correlated(random, 300, 32);
  x.select(1, 3).zero_();
  x.select(1, 17).zero_();
  const at::Tensor hessian = hessian_of(x);
  const auto quantized = quantize_weight(weight, hessian, 4, whole_numbers());
  EXPECT_EQ(quantized.outcome, "gptq");
  EXPECT_LT(quantized.error_gptq, quantized.error_rtn);
  const at::Tensor error = (quantized.dequantize() - weight).abs().select(1, 3);
  const at::Tensor reachable = weight.select(1, 3).abs() <= 7 * quantized.scale;
  // Half a step, and what the refit of the scale moved.
  EXPECT_TRUE((error <= 0.6 * quantized.scale).logical_or_(~reachable).all().item<bool>());
}

TEST(Gptq, AllInputsZero) {
  const auto quantized =
      quantize_weight(testing::Random(7).normal({4, 8}), at::zeros({8, 8}, at::kDouble), 4, {});
  EXPECT_EQ(quantized.outcome, "nearest: all inputs are zero");
  EXPECT_EQ(quantized.error_gptq, 0);
}

TEST(Gptq, SingularHessianRaisesDamping) {
  // Two identical inputs and no damping: the first factorization must fail.
  testing::Random random(8);
  at::Tensor x = random.normal({50, 6});
  x.select(1, 1).copy_(x.select(1, 0));
  x.mul_(1024).round_();
  WeightRecipe recipe;
  recipe.damping = 0;
  const auto quantized = quantize_weight(random.normal({5, 6}), hessian_of(x), 4, recipe);
  EXPECT_EQ(quantized.outcome, "gptq, damping x10");
}

TEST(Gptq, IndefiniteHessianFallsBackToNearest) {
  at::Tensor hessian = at::eye(4, at::kDouble);
  hessian[0][1] = 50;
  hessian[1][0] = 50;
  const auto quantized = quantize_weight(testing::Random(9).normal({3, 4}), hessian, 4, {});
  EXPECT_EQ(quantized.outcome, "nearest: the Hessian could not be factorized");
  EXPECT_EQ(quantized.error_gptq, quantized.error_rtn);
}

TEST(Gptq, WithoutHessian) {
  const at::Tensor weight = testing::Random(10).normal({6, 10});
  const auto quantized = quantize_weight(weight, {}, 8, {});
  EXPECT_EQ(quantized.outcome, "nearest: no Hessian");
  EXPECT_LT((quantized.dequantize() - weight).abs().max().item<double>(), 0.02);
}

TEST(Gptq, ZeroRowAndTinyRow) {
  at::Tensor weight = testing::Random(11).normal({3, 8});
  weight[0].zero_();
  weight[1].fill_(1e-44F);
  const auto quantized = quantize_weight(weight, at::eye(8, at::kDouble), 4, {});
  EXPECT_TRUE((quantized.scale != 0).all().item<bool>());
  EXPECT_EQ(quantized.codes[0].abs().max().item<int>(), 0);
  EXPECT_TRUE(at::isfinite(quantized.dequantize()).all().item<bool>());
}

TEST(Gptq, RejectsBadInput) {
  const at::Tensor weight = at::ones({2, 3});
  EXPECT_THROW(quantize_weight(weight, {}, 1, {}), Error);
  EXPECT_THROW(quantize_weight(weight, {}, 9, {}), Error);
  EXPECT_THROW(quantize_weight(weight, at::eye(4, at::kDouble), 4, {}), Error);
  at::Tensor bad = weight.clone();
  bad[0][0] = std::numeric_limits<float>::quiet_NaN();
  try {
    quantize_weight(bad, {}, 4, {});
    FAIL() << "a NaN was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kNumerical);
  }
}

}  // namespace
}  // namespace repquant
