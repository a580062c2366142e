// What a grid per token leaves to be fitted.
#include "fit/token_input.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "plan/simulate.h"

namespace repquant {
namespace {

class TokenFit : public ::testing::Test {
 protected:
  TokenFit() {
    at::manual_seed(7);
    site.weight = at::randn({6, 8});
    rows.x = at::randn({64, 8}) * at::logspace(-1, 1, 8) + at::arange(8);
    problem.site = &site;
    problem.readers = {{.weight = site.weight, .counts = {}}};
    problem.activation_bits = 8;
  }

  LinearSite site;
  WeightedRows rows;
  LinearProblem problem;
};

TEST_F(TokenFit, APassOverTheInputMustPay) {
  // All channels alike: nothing to gain.
  site.weight = at::randn({512, 8});
  problem.readers = {{.weight = site.weight, .counts = {}}};
  rows.x = at::rand({64, 8}) * 2 - 1;
  const InputQuantizer plain = fit_token_input(rows, problem);
  EXPECT_TRUE(plain.per_token);
  EXPECT_FALSE(plain.per_channel());
  EXPECT_FALSE(plain.levels.defined());
  rows.x = at::randn({64, 8}) * at::logspace(-2, 1, 8);
  const InputQuantizer scaled = fit_token_input(rows, problem);
  EXPECT_TRUE(scaled.per_channel());
  EXPECT_FALSE(scaled.offset.any().item<bool>());  // one pass, not two
  problem.one_grid = true;
  EXPECT_FALSE(fit_token_input(rows, problem).per_channel());
}

TEST_F(TokenFit, ANormTakesTheMiddleAndPartOfTheWidth) {
  torch::jit::Node* const some = reinterpret_cast<torch::jit::Node*>(&site);  // not looked at
  site.norm = some;
  const InputQuantizer quantizer = fit_token_input(rows, problem);
  ASSERT_TRUE(quantizer.per_channel());
  const at::Tensor low = rows.x.amin(0), high = rows.x.amax(0);
  const at::Tensor width = (high - low) * quantizer.multiplier;
  const auto spread = [](const at::Tensor& t) { return (t.max() / t.min()).item<double>(); };
  EXPECT_LT(spread(width), 0.3 * spread(high - low));
  const at::Tensor middle = (low + high) / 2 * quantizer.multiplier + quantizer.offset;
  EXPECT_TRUE((middle.abs() < width / 2).all().item<bool>());
  site.scale_only_fold = true;  // the zeros of padding stay zeros
  EXPECT_FALSE(fit_token_input(rows, problem).offset.any().item<bool>());
}

TEST_F(TokenFit, GroupsLoseLessThanRows) {
  rows.x = at::randn({256, 8}).mul_(at::tensor({1, 1, 1, 1, 50, 50, 50, 50}));
  site.weight = at::randn({6, 8}) / at::tensor({1, 1, 1, 1, 50, 50, 50, 50});
  problem.readers = {{.weight = site.weight, .counts = {}}};
  problem.one_grid = true;  // no fold that would do the same
  for (const int bits : {3, 8}) {
    problem.activation_bits = bits;
    const auto error = [&](int group_size) {
      const InputQuantizer quantizer = fit_token_input(rows, problem, group_size);
      EXPECT_EQ(quantizer.group_size, group_size < 8 ? group_size : 0);
      EXPECT_EQ(quantizer.levels.defined(), bits == 3);
      const at::Tensor difference = fake_quantize(rows.x, quantizer) - rows.x;
      return at::matmul(difference, site.weight.t()).square().sum().item<double>();
    };
    EXPECT_LT(100 * error(4), error(0)) << bits;
    EXPECT_EQ(error(8), error(0)) << bits;  // one group is the row
  }
}

TEST_F(TokenFit, LevelsBeatTheUniformGrid) {
  rows.x = at::randn({256, 8}).abs().pow(3);  // most values near the lower end
  problem.activation_bits = 4;
  const InputQuantizer learned = fit_token_input(rows, problem);
  ASSERT_EQ(learned.levels.numel(), 16);
  const at::Tensor other = at::randn({256, 8}).abs().pow(3);
  const auto error = [&](const InputQuantizer& quantizer) {
    const at::Tensor difference = fake_quantize(other, quantizer) - other;
    return at::matmul(difference, site.weight.t()).square().sum().item<double>();
  };
  EXPECT_LT(error(learned), 0.7 * error(per_token_quantizer(4)));
}

}  // namespace
}  // namespace repquant
