#include "gptq/compensation.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

#include "repquant/error.h"
#include "support/random.h"

namespace repquant {
namespace {

constexpr double kManyRows = std::numeric_limits<double>::infinity();

ErrorMoments moments_of(const at::Tensor& x, const at::Tensor& error) {
  const at::Tensor wide = x.to(at::kDouble);
  return {at::mm(wide.t(), wide), at::mm(error.to(at::kDouble).t(), wide)};
}

std::array<ErrorMoments, 2> halves_of(const at::Tensor& x, const at::Tensor& error) {
  const std::int64_t half = x.size(0) / 2;
  return {moments_of(x.slice(0, 0, half), error.slice(0, 0, half)),
          moments_of(x.slice(0, half), error.slice(0, half))};
}

TEST(Compensation, OneColumnByHand) {
  // H = 2 and R = 1 in both halves: with damping l the change is R / (H + l H) on each half, which
  // on the other half is too small, so a is capped at 1 and the smaller damping gains more.
  const ErrorMoments half{at::full({1, 1}, 2.0, at::kDouble), at::full({1, 1}, 1.0, at::kDouble)};
  const WeightChange change = compensate({half, half}, kManyRows);
  EXPECT_EQ(change.strength, 1.0);
  EXPECT_EQ(change.damping, 0.01);
  EXPECT_NEAR(change.change.item<double>(), 2.0 / (4.0 * 1.01), 1e-12);
}

TEST(Compensation, FindsALinearError) {
  testing::Random random(5);
  const at::Tensor x = random.normal({600, 12});
  const at::Tensor truth = random.normal({7, 12});
  const at::Tensor error = at::mm(x, truth.t());
  const WeightChange change = compensate(halves_of(x, error), kManyRows);
  EXPECT_GT(change.strength, 0.95);
  EXPECT_LT((change.change - truth).abs().max().item<double>(), 0.1);
}

TEST(Compensation, LeavesNoiseAlone) {
  // Few rows, many columns, an error that has nothing to do with the input: a plain regression
  // would fit it perfectly.
  testing::Random random(6);
  const at::Tensor x = random.normal({80, 40});
  const at::Tensor error = random.normal({80, 9});
  const WeightChange change = compensate(halves_of(x, error), kManyRows);
  EXPECT_LT(change.strength, 0.15);
}

TEST(Compensation, LowersTheErrorOnOtherRows) {
  // The shrinkage of a noisy input: x^ = x + noise, target W x.
  testing::Random random(7);
  const at::Tensor weight = random.normal({6, 20});
  const auto draw = [&](std::int64_t rows) {
    const at::Tensor x = random.normal({rows, 20});
    const at::Tensor seen = x + 0.7 * random.normal({rows, 20});
    return std::pair(seen, at::mm(x - seen, weight.t()));
  };
  const auto [x, error] = draw(1000);
  const WeightChange change = compensate(halves_of(x, error), kManyRows);
  const auto [other, other_error] = draw(1000);
  const at::Tensor left = other_error - at::mm(other, change.change.to(at::kFloat).t());
  // E|W noise|^2 = 0.49 |W|^2 falls to |W|^2 0.49 / 1.49, two thirds of it.
  EXPECT_LT(left.square().sum().item<double>(), 0.75 * other_error.square().sum().item<double>());
}

TEST(Compensation, IsWeakerTheFewerRowsThereAre) {
  testing::Random random(5);
  const at::Tensor x = random.normal({600, 12});
  const auto halves = halves_of(x, at::mm(x, random.normal({7, 12}).t()));
  const WeightChange full = compensate(halves, kManyRows);
  const WeightChange some = compensate(halves, 6);  // 1 - 12 / (4 x 6)
  EXPECT_DOUBLE_EQ(some.strength, 0.5 * full.strength);
  EXPECT_TRUE(at::allclose(some.change, 0.5 * full.change));
  const WeightChange none = compensate(halves, 3);
  EXPECT_EQ(none.strength, 0.0);
  EXPECT_TRUE(at::equal(none.change, at::zeros_like(none.change)));
}

TEST(Compensation, ZeroInputChangesNothing) {
  const ErrorMoments half{at::zeros({3, 3}, at::kDouble), at::zeros({2, 3}, at::kDouble)};
  const WeightChange change = compensate({half, half}, kManyRows);
  EXPECT_EQ(change.strength, 0.0);
  EXPECT_TRUE(at::equal(change.change, at::zeros({2, 3}, at::kDouble)));
}

TEST(Compensation, RefusesBadSums) {
  ErrorMoments half{at::eye(3, at::kDouble), at::zeros({2, 4}, at::kDouble)};
  EXPECT_THROW(compensate({half, half}, kManyRows), Error);
  half.cross = at::full({2, 3}, std::numeric_limits<double>::quiet_NaN(), at::kDouble);
  EXPECT_THROW(compensate({half, half}, kManyRows), Error);
}

}  // namespace
}  // namespace repquant
