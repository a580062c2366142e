#include "fit/site_errors.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "fit/attention.h"
#include "plan/simulate.h"
#include "support/random.h"

namespace repquant {
namespace {

double decibels(const at::Tensor& signal, const at::Tensor& got) {
  const double noise = (got - signal).square().sum(at::kDouble).item<double>();
  return 10 * std::log10(signal.square().sum(at::kDouble).item<double>() / noise);
}

/// The quantized stream has lost a little.
StreamedValue streamed(testing::Random& random, const std::vector<std::int64_t>& sizes) {
  const at::Tensor floating = random.normal(sizes);
  return {floating + 0.05 * random.normal(sizes), floating};
}

TEST(SiteErrors, OfALinearAreAgainstItsOwnInputAndTheFloatOne) {
  testing::Random random(6);
  const LinearSite site{.weight = random.normal({6, 10}), .bias = random.normal({6})};
  const StreamedValue x = streamed(random, {3, 7, 10});
  LinearPlan plan;
  plan.quantized_input = false;
  WeightRecipe nearest;
  nearest.rounding = WeightRounding::kNearest;
  plan.weight = quantize_weight(site.weight, {}, 4, nearest);
  plan.bias = site.bias;
  const SiteErrors errors = linear_errors(site, plan, x);
  const at::Tensor got = at::linear(x.quantized, plan.weight.dequantize(), plan.bias);
  EXPECT_NEAR(errors.own_output_sqnr_db,
              decibels(at::linear(x.quantized, site.weight, site.bias), got), 1e-3);
  EXPECT_NEAR(errors.output_sqnr_db, decibels(at::linear(x.floating, site.weight, site.bias), got),
              1e-3);
}

TEST(SiteErrors, OfAttentionProducts) {
  testing::Random random(7);
  const StreamedValue left = streamed(random, {2, 2, 5, 4}), right = streamed(random, {2, 2, 4, 5});
  const ScoresPlan scores = fit_scores({left.quantized}, {right.quantized}, {.heads = true}, 4, {});
  const SiteErrors of_scores = scores_errors(scores, left, right);
  const at::Tensor got = simulate_scores(scores, left.quantized, right.quantized);
  EXPECT_NEAR(of_scores.own_output_sqnr_db,
              decibels(at::matmul(left.quantized, right.quantized), got), 1e-3);
  EXPECT_NEAR(of_scores.output_sqnr_db, decibels(at::matmul(left.floating, right.floating), got),
              1e-3);

  const StreamedValue rows = streamed(random, {2, 2, 5, 5}), value = streamed(random, {2, 2, 5, 4});
  const AttendPlan attend =
      fit_attend({value.quantized}, {.heads = true, .columns = true}, 4, {}, true);
  const at::Tensor exact = at::matmul(at::softmax(rows.floating, -1), value.floating);
  const SiteErrors of_attend = attend_errors(attend, rows.quantized, value.quantized, exact);
  const at::Tensor out = simulate_attend(attend, rows.quantized, value.quantized);
  EXPECT_NEAR(of_attend.own_output_sqnr_db,
              decibels(at::matmul(at::softmax(rows.quantized, -1), value.quantized), out), 1e-3);
  EXPECT_NEAR(of_attend.output_sqnr_db, decibels(exact, out), 1e-3);
  EXPECT_LT(of_attend.output_sqnr_db, of_attend.own_output_sqnr_db);
}

// Tokens that pad a sentence may lie far outside of grids that were fitted without them.
TEST(SiteErrors, LeaveOutWhatNothingDependsOn) {
  testing::Random random(8);
  const StreamedValue left = streamed(random, {2, 2, 5, 4}), right = streamed(random, {2, 2, 4, 6});
  const ScoresPlan scores = fit_scores({left.quantized}, {right.quantized}, {.heads = true}, 8, {});
  const at::Tensor rows = at::ones({2, 1, 5, 1}, at::kBool), columns = at::ones({1, 6}, at::kBool);
  rows[1][0][4] = false;
  columns[0][2] = false;
  const auto spoilt = [](const StreamedValue& value, std::int64_t axis, std::int64_t at) {
    StreamedValue result{value.quantized.clone(), value.floating};
    result.quantized[1].select(axis, at).mul_(50);
    return result;
  };
  const StreamedValue bad_left = spoilt(left, 1, 4), bad_right = spoilt(right, 2, 2);
  const auto own = [&](const StreamedValue& l, const StreamedValue& r, const at::Tensor& used) {
    return scores_errors(scores, l, r, used).own_output_sqnr_db;
  };
  EXPECT_GT(own(left, right, {}), 30.0);
  EXPECT_LT(own(bad_left, right, {}), 10.0);
  EXPECT_LT(own(left, bad_right, rows), 10.0);
  EXPECT_NEAR(own(bad_left, right, rows), own(left, right, rows), 1e-6);
  EXPECT_NEAR(own(bad_left, bad_right, rows.logical_and(columns)),
              own(left, right, rows.logical_and(columns)), 1e-6);

  const LinearSite site{.weight = random.normal({6, 4}), .bias = at::zeros({6})};
  LinearPlan plan;
  plan.input.multiplier = at::full({1}, 32.0F);
  plan.input.offset = at::full({1}, 128.0F);
  plan.input.scale = 1.0 / 32;
  plan.input.zero_point = 128;
  WeightRecipe nearest;
  nearest.rounding = WeightRounding::kNearest;
  plan.weight = quantize_weight(site.weight, {}, 8, nearest);
  plan.bias = at::zeros({6});
  const at::Tensor used = rows.expand({2, 2, 5, 1}).flatten().to(at::kDouble);
  const double exact = linear_errors(site, plan, left, used).own_output_sqnr_db;
  EXPECT_GT(exact, 30.0);
  EXPECT_LT(linear_errors(site, plan, bad_left).own_output_sqnr_db, 10.0);
  EXPECT_NEAR(linear_errors(site, plan, bad_left, used).own_output_sqnr_db, exact, 1e-6);
}

TEST(SiteErrors, OfATableAreTheSameInBothStreams) {
  testing::Random random(9);
  const EmbeddingSite site{random.normal({20, 8})};
  WeightRecipe nearest;
  nearest.rounding = WeightRounding::kNearest;
  const EmbeddingPlan plan{quantize_weight(site.table, {}, 4, nearest)};
  const at::Tensor indices = at::tensor({3, 3, 17, 0}, at::kLong);
  const SiteErrors errors = embedding_errors(site, plan, indices);
  EXPECT_NEAR(errors.own_output_sqnr_db,
              decibels(site.table.index_select(0, indices),
                       plan.table.dequantize().index_select(0, indices)),
              1e-3);
  EXPECT_EQ(errors.output_sqnr_db, errors.own_output_sqnr_db);
}

}  // namespace
}  // namespace repquant
