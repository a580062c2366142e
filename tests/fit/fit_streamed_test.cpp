// A Linear fitted batch by batch against the fit on all rows in memory.
#include "fit/fit_streamed.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

#include "plan/simulate.h"
#include "recipe/json.h"
#include "repquant/error.h"
#include "support/errors.h"
#include "support/random.h"

namespace repquant {
namespace {

constexpr int kBatches = 6;

struct Problem {
  Site site;
  std::vector<at::Tensor> x, x_float, residual;
  LinearFitInput in;
  RowSource rows;

  Problem() {
    at::manual_seed(3);
    site.path = "site";
    site.weight = at::randn({24, 32}) / 6;
    site.bias = at::randn({24});
    for (int i = 0; i < kBatches; ++i) {
      x_float.push_back(at::randn({2, 40, 32}) * 2 + 1);
      x.push_back(x_float.back() + 0.05 * at::randn({2, 40, 32}));
      residual.push_back(0.1 * at::randn({2, 40, 24}));
    }
    in.site = &site;
    in.gram = at::matmul(site.weight.t(), site.weight);
    rows.batches = kBatches;
    rows.x = [this](std::size_t i) { return x[i]; };
    rows.x_float = [this](std::size_t i) { return x_float[i]; };
    rows.residual_error = [this](std::size_t i) { return residual[i]; };
  }

  LinearFitInput in_memory() const {
    LinearFitInput all = in;
    all.x = x;
    all.x_float = x_float;
    all.residual_error = residual;
    return all;
  }
};

Recipe recipe() { return recipe_for_bits({8, 8}); }

double difference(const LinearPlan& a, const LinearPlan& b, const at::Tensor& x) {
  const auto left = simulate_linear(a, x), right = simulate_linear(b, x);
  return ((left - right).norm() / left.norm()).item<double>();
}

TEST(FitStreamed, FollowsTheFitInMemory) {
  for (const bool weighted : {false, true}) {
    SCOPED_TRACE(weighted);
    Problem problem;
    if (weighted) problem.in.row_weights = at::rand({kBatches * 80}, at::kDouble) + 0.5;
    std::string note, streamed_note;
    const auto memory = fit_linear(problem.in_memory(), recipe(), note);
    const auto streamed = fit_linear_streamed(problem.in, problem.rows, recipe(), streamed_note);
    // Ranges see other samples of rows, so outputs differ by about a quantization error; what
    // counts is the distance to the target below.
    EXPECT_LT(difference(memory, streamed, problem.x[0]), 0.02);
    EXPECT_LT(at::max(at::abs(memory.bias - streamed.bias)).item<double>(), 0.02);
    const auto target = at::linear(problem.x_float[0], problem.site.weight, problem.site.bias) +
                        problem.residual[0];
    const auto error = [&](const LinearPlan& plan) {
      return (simulate_linear(plan, problem.x[0]) - target).norm().item<double>();
    };
    EXPECT_LT(error(streamed), 1.05 * error(memory));
  }
}

/// Rows of very different magnitude under a grid per token: both fits weigh a row by what it holds.
TEST(FitStreamed, FollowsTheFitInMemoryPerToken) {
  Problem problem;
  const at::Tensor magnitude = at::logspace(-2, 1, 40).view({1, 40, 1});
  for (int i = 0; i < kBatches; ++i) {
    const auto batch = static_cast<std::size_t>(i);
    problem.x[batch].mul_(magnitude);
    problem.x_float[batch].mul_(magnitude);
  }
  Recipe token = recipe_for_bits({4, 8});
  token.input.granularity = InputGranularity::kPerToken;
  problem.in.weight_bits = 4;
  std::string note, streamed_note;
  const auto memory = fit_linear(problem.in_memory(), token, note);
  const auto streamed = fit_linear_streamed(problem.in, problem.rows, token, streamed_note);
  EXPECT_TRUE(memory.input.per_token && streamed.input.per_token);
  EXPECT_TRUE(note.starts_with("per token; ")) << note;
  EXPECT_LT(difference(memory, streamed, problem.x[0]), 0.02);
  EXPECT_TRUE(at::allclose(memory.bias, streamed.bias, 1e-2, 1e-3));
  const auto error = [&](const LinearPlan& plan) {
    double sum = 0;
    for (int i = 0; i < kBatches; ++i) {
      const auto batch = static_cast<std::size_t>(i);
      const auto target =
          at::linear(problem.x_float[batch], problem.site.weight, problem.site.bias) +
          problem.residual[batch];
      sum += (simulate_linear(plan, problem.x[batch]) - target).square().sum().item<double>();
    }
    return sum;
  };
  EXPECT_LT(error(streamed), 1.02 * error(memory));
  // Fitted to the rows as they are: codes alone would count a row of 0.01 like one of 10.
  LinearPlan nearest = memory;
  token.weights.rounding = WeightRounding::kNearest;
  token.weights.compensation = Compensation::kNone;
  nearest = fit_linear(problem.in_memory(), token, note);
  EXPECT_LT(error(memory), 0.9 * error(nearest));
}

/// Codes that other Linears share stay; only grid and bias are fitted.
TEST(FitStreamed, RoundedWeightsStay) {
  for (const int bits : {8, kWeightOnlyBits}) {
    SCOPED_TRACE(bits);
    Problem problem;
    problem.in.activation_bits = bits;
    problem.in.weight_bits = 4;
    WeightRecipe nearest;
    nearest.rounding = WeightRounding::kNearest;
    const QuantizedWeight rounded = quantize_weight(problem.site.weight, {}, 4, nearest);
    problem.in.rounded = &rounded;
    problem.site.source = InputSource::kNorm;  // would have a grid per channel
    std::string note;
    const auto memory = fit_linear(problem.in_memory(), recipe(), note);
    const auto streamed = fit_linear_streamed(problem.in, problem.rows, recipe(), note);
    for (const LinearPlan* plan : {&memory, &streamed}) {
      EXPECT_TRUE(plan->weight.codes.is_same(rounded.codes));
      EXPECT_TRUE(plan->weight.scale.is_same(rounded.scale));
      EXPECT_TRUE(bits == kWeightOnlyBits || !plan->input.per_channel());
    }
    EXPECT_TRUE(at::allclose(memory.bias, streamed.bias, 1e-2, 1e-2));
    // The mean error of the rounded weight is in the bias.
    EXPECT_FALSE(at::allclose(memory.bias, problem.site.bias, 1e-2, 1e-2));
    EXPECT_LT(difference(memory, streamed, problem.x[0]), 0.02);
  }
}

TEST(FitStreamed, WeightOnlyIsTheSame) {
  Problem problem;
  problem.in.activation_bits = 16;
  problem.in.weight_bits = 4;
  std::string note, streamed_note;
  const auto memory = fit_linear(problem.in_memory(), recipe(), note);
  const auto streamed = fit_linear_streamed(problem.in, problem.rows, recipe(), streamed_note);
  EXPECT_FALSE(streamed.quantized_input);
  EXPECT_EQ(note, streamed_note);
  const double changed =
      (memory.weight.codes != streamed.weight.codes).to(at::kFloat).mean().item<double>();
  EXPECT_LT(changed, 0.01);  // sums in another order
  EXPECT_LT(difference(memory, streamed, problem.x[0]), 0.02);
}

TEST(FitStreamed, ThreadsDoNotChangeABit) {
  Problem problem;
  std::string note;
  const auto one = fit_linear_streamed(problem.in, problem.rows, recipe(), note);
  problem.in.threads = 3;
  const auto three = fit_linear_streamed(problem.in, problem.rows, recipe(), note);
  EXPECT_TRUE(at::equal(one.weight.codes, three.weight.codes));
  EXPECT_TRUE(at::equal(one.weight.scale, three.weight.scale));
  EXPECT_TRUE(at::equal(one.bias, three.bias));
}

TEST(FitStreamed, NamesTheSiteWithNan) {
  Problem problem;
  problem.x[4][0][0][0] = std::numeric_limits<float>::quiet_NaN();
  std::string note;
  const auto error =
      testing::error_of([&] { fit_linear_streamed(problem.in, problem.rows, recipe(), note); });
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->kind(), ErrorKind::kNumerical);
  EXPECT_EQ(error->parts().where, "site");
}

}  // namespace
}  // namespace repquant
