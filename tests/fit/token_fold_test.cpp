#include "fit/token_fold.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "plan/simulate.h"

namespace repquant {
namespace {

class TokenFoldTest : public ::testing::Test {
 protected:
  TokenFoldTest() {
    at::manual_seed(5);
    problem.x = at::randn({512, 16}) * at::logspace(-1, 1, 16) + 3 * at::randn({16});
    problem.weight = at::randn({24, 16});
    problem.importance = problem.weight.square().sum(0);
  }

  TokenFold fit(bool with_shift = true) { return fit_token_fold(terms(), with_shift); }

  FoldTerms terms() const {
    TokenFoldProblem whole = problem;
    whole.units = units_of(problem.x, problem.weight);
    whole.unexplained = unexplained_variance(problem.x, whole.units);
    return FoldTerms(whole);
  }

  /// Mean over other rows of what grids per token and a rounded weight lose of the output.
  double loss(const TokenFold& fold) const {
    InputQuantizer input = per_token_quantizer(problem.activation_bits);
    input.multiplier = fold.multiplier;
    input.offset = fold.offset;
    const at::Tensor error = fake_quantize(problem.x, input) - problem.x;
    return error.matmul(problem.weight.t()).square().sum(1).mean().item<double>() +
           weight_error(terms(), fold.multiplier);
  }

  TokenFold power(double exponent) const {
    const at::Tensor low = problem.x.amin(0), high = problem.x.amax(0);
    const at::Tensor m = ((high - low) / 2).pow(-exponent);
    return {m, (low + high) / -2 * m};
  }

  TokenFoldProblem problem;
};

TEST_F(TokenFoldTest, LosesLessThanAnyPowerOfTheWidths) {
  for (const int weight_bits : {4, 8}) {
    problem.weight_bits = weight_bits;
    const double fitted = loss(fit());
    for (const double exponent : {0.0, 0.25, 0.5, 0.75, 1.0}) {
      EXPECT_LT(fitted, loss(power(exponent))) << weight_bits << " " << exponent;
    }
  }
}

// As of a table of numbers in their own units, six powers of ten apart.
TEST_F(TokenFoldTest, WeightsThatMakeUpForUnitsAreFollowed) {
  problem.x = at::randn({512, 16});
  problem.weight = at::randn({24, 16});
  problem.importance = problem.weight.square().sum(0);
  const double alike = loss(fit());
  const at::Tensor units = at::logspace(-3, 3, 16);
  problem.x = problem.x * units;
  problem.weight = problem.weight / units;
  problem.importance = problem.weight.square().sum(0);
  EXPECT_LT(loss(fit()), 1.5 * alike);
}

TEST_F(TokenFoldTest, NarrowWeightsTakeLessOfTheFold) {
  const auto spread = [&](int weight_bits) {
    problem.weight_bits = weight_bits;
    const at::Tensor m = fit().multiplier;
    return (m.max() / m.min()).item<double>();
  };
  EXPECT_LT(spread(3), 0.7 * spread(8));
}

TEST_F(TokenFoldTest, AUnitChangesNothing) {
  const TokenFold fold = fit();
  problem.x = problem.x * 1024;
  const TokenFold scaled = fit();
  const at::Tensor ratio = scaled.multiplier / fold.multiplier;
  EXPECT_LT(((ratio.max() / ratio.min()) - 1).item<double>(), 1e-3);
}

// But for rounding: behind shifts that would be all that codes stand for.
TEST_F(TokenFoldTest, RowsThatAreAlikeAreNotShifted) {
  const at::Tensor row = at::randn({1, 16});
  problem.x = row * (1 + 1e-7 * at::randn({512, 1}));
  EXPECT_FALSE(fit().offset.any().item<bool>());
  problem.x.select(1, 3).add_(at::randn({512}));
  EXPECT_TRUE(fit().offset.any().item<bool>());
}

TEST_F(TokenFoldTest, WithoutAShiftZeroStaysZero) {
  EXPECT_FALSE(fit(false).offset.any().item<bool>());
}

TEST_F(TokenFoldTest, RowsOfZerosAreLeftAlone) {
  problem.x = at::zeros({16, 16});
  const TokenFold fold = fit();
  EXPECT_TRUE(at::equal(fold.multiplier, at::ones({16})));
  EXPECT_FALSE(fold.offset.any().item<bool>());
}

TEST_F(TokenFoldTest, ADeadChannelGetsABoundedMultiplier) {
  problem.x.select(1, 3).zero_();
  const TokenFold fold = fit();
  EXPECT_TRUE(fold.multiplier.isfinite().all().item<bool>());
  EXPECT_LT((fold.multiplier.max() / fold.multiplier.median()).item<double>(), 1e4);
}

}  // namespace
}  // namespace repquant
