// One Linear, from its rows to its plan.
#include "fit/linear.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <vector>

#include "gptq/hessian.h"
#include "plan/simulate.h"
#include "recipe/json.h"
#include "support/random.h"

namespace repquant {
namespace {

constexpr std::int64_t kSamples = 12, kTokens = 40, kColumns = 32, kOutputs = 24;

/// A Linear whose input has lost something upstream, in batches of `batch` samples.
struct LinearCase {
  LinearSite site;
  at::Tensor x, x_float, residual;  // [samples, tokens, ..]
  LinearProblem problem;

  explicit LinearCase(std::int64_t batch = 2) {
    testing::Random random(3);
    site.weight = random.normal({kOutputs, kColumns}) / 6;
    site.bias = random.normal({kOutputs});
    x_float = random.normal({kSamples, kTokens, kColumns}) * 2 + 1;
    x = 0.95 * x_float + 0.05 * random.normal({kSamples, kTokens, kColumns});
    residual = 0.1 * random.normal({kSamples, kTokens, kOutputs});
    problem.path = "site";
    problem.site = &site;
    problem.readers = {{.weight = site.weight, .counts = {}}};
    problem.rows.batches = static_cast<std::size_t>((kSamples + batch - 1) / batch);
    const auto read = [batch](const at::Tensor& all) {
      return [&all, batch](std::size_t i) {
        const auto from = static_cast<std::int64_t>(i) * batch;
        return all.slice(0, from, from + batch);
      };
    };
    problem.rows.x = read(x);
    problem.rows.x_float = read(x_float);
    problem.rows.residual_error = read(residual);
  }
  LinearCase(const LinearCase&) = delete;

  at::Tensor target() const { return at::linear(x_float, site.weight, site.bias) + residual; }
  double error(const LinearPlan& plan) const {
    return (simulate_linear(plan, x) - target()).square().sum(at::kDouble).item<double>();
  }
  LinearPlan fit(const Recipe& recipe) const {
    std::string note;
    return fit_linear(problem, recipe, note);
  }
};

Recipe w8a8() { return recipe_for_bits({8, 8}); }

void expect_equal(const LinearPlan& a, const LinearPlan& b) {
  EXPECT_TRUE(at::equal(a.weight.codes, b.weight.codes));
  EXPECT_TRUE(at::equal(a.weight.scale, b.weight.scale));
  EXPECT_TRUE(at::equal(a.bias, b.bias));
  if (!a.quantized_input) return;
  EXPECT_TRUE(at::equal(a.input.multiplier, b.input.multiplier));
  EXPECT_TRUE(at::equal(a.input.offset, b.input.offset));
}

TEST(FitLinear, BatchesAndThreadsDoNotChangeABit) {
  for (const int bits : {4, kWeightOnlyBits}) {
    for (const bool weighted : {false, true}) {
      SCOPED_TRACE(bits);
      const auto fit = [&](std::int64_t batch, int threads) {
        LinearCase made(batch);
        made.problem.weight_bits = 4;
        made.problem.activation_bits = bits;
        made.problem.threads = threads;
        if (weighted) {
          made.problem.row_weights =
              testing::Random(4).uniform({kSamples * kTokens}, 0.5, 1.5).to(at::kDouble);
        }
        return made.fit(w8a8());
      };
      const LinearPlan whole = fit(kSamples, 1);
      for (const std::int64_t batch : {1, 5, 7}) {
        for (const int threads : {1, 3}) expect_equal(fit(batch, threads), whole);
      }
    }
  }
}

TEST(FitLinear, MakesUpForWhatWasLostUpstream) {
  const LinearCase made;
  const LinearPlan plan = made.fit(w8a8());
  LinearPlan plain = plan;
  Recipe none = w8a8();
  none.weights.compensation = Compensation::kNone;
  EXPECT_LT(made.error(plan), 0.97 * made.error(made.fit(none)));
  // The mean of what is missing, the residual's among it, is in the bias.
  const at::Tensor mean = (simulate_linear(plan, made.x) - made.target()).mean({0, 1});
  EXPECT_LT(mean.abs().max().item<double>(), 1e-3);
}

/// What a weight alone is given has errors, too: of the weights before it.
TEST(FitLinear, AWeightAloneMakesUpForItsInput) {
  LinearCase made;
  made.problem.activation_bits = kWeightOnlyBits;
  Recipe none = w8a8();
  none.weights.compensation = Compensation::kNone;
  EXPECT_LT(made.error(made.fit(w8a8())), 0.97 * made.error(made.fit(none)));
}

/// Rows of very different magnitude under a grid per token: a row counts by what it holds.
TEST(FitLinear, RowsOfATokenGridCountByWhatTheyHold) {
  LinearCase made;
  const at::Tensor magnitude = at::logspace(-2, 1, kTokens).view({1, kTokens, 1});
  made.x.mul_(magnitude);
  made.x_float.mul_(magnitude);
  Recipe token = recipe_for_bits({4, 8});
  token.input.granularity = InputGranularity::kPerToken;
  made.problem.weight_bits = 4;
  std::string note;
  const LinearPlan plan = fit_linear(made.problem, token, note);
  EXPECT_TRUE(plan.input.per_token);
  EXPECT_TRUE(note.starts_with("per token; ")) << note;
  // Codes alone would count a row of 0.01 like one of 10.
  token.weights.rounding = WeightRounding::kNearest;
  token.weights.compensation = Compensation::kNone;
  EXPECT_LT(made.error(plan), 0.9 * made.error(made.fit(token)));
}

/// Codes that other Linears share stay; only grid and bias are fitted.
TEST(FitLinear, RoundedWeightsStay) {
  for (const int bits : {8, kWeightOnlyBits}) {
    SCOPED_TRACE(bits);
    LinearCase made;
    made.problem.activation_bits = bits;
    made.problem.weight_bits = 4;
    WeightRecipe nearest;
    nearest.rounding = WeightRounding::kNearest;
    const QuantizedWeight rounded = quantize_weight(made.site.weight, {}, 4, nearest);
    made.problem.rounded = &rounded;
    made.site.source = InputSource::kNorm;  // would have a grid per channel
    const LinearPlan plan = made.fit(w8a8());
    EXPECT_TRUE(plan.weight.codes.is_same(rounded.codes));
    EXPECT_TRUE(plan.weight.scale.is_same(rounded.scale));
    EXPECT_TRUE(bits == kWeightOnlyBits || !plan.input.per_channel());
    // The mean error of the rounded weight is in the bias.
    const at::Tensor mean = (simulate_linear(plan, made.x) - made.target()).mean({0, 1});
    EXPECT_LT(mean.abs().max().item<double>(), 1e-3);
    EXPECT_FALSE(at::allclose(plan.bias, made.site.bias, 1e-2, 1e-2));
  }
}

/// A weight alone: GPTQ against the rows as they are.
TEST(FitLinear, WeightOnlyIsRoundedAgainstTheHessianOfItsRows) {
  LinearCase made;
  made.problem.activation_bits = kWeightOnlyBits;
  made.problem.weight_bits = 4;
  Recipe recipe = w8a8();
  recipe.weights.group_size = 8;
  recipe.weights.compensation = Compensation::kNone;
  recipe.weights.shrinkage = false;
  std::string note;
  const LinearPlan plan = fit_linear(made.problem, recipe, note);
  EXPECT_FALSE(plan.quantized_input);
  EXPECT_EQ(note, "weight only; groups of 8; gptq, 16 weight levels");
  const at::Tensor rows = made.x.reshape({-1, kColumns}).to(at::kDouble);
  const at::Tensor centred = rows - rows.mean(0);
  const QuantizedWeight expected =
      quantize_weight(made.site.weight, at::mm(centred.t(), centred), 4, recipe.weights);
  EXPECT_TRUE(at::equal(plan.weight.codes, expected.codes));
  // Sums of the Hessian are float32, and scales are refitted on them.
  EXPECT_LT((plan.weight.scale / expected.scale - 1).abs().max().item<double>(), 1e-4);
}

}  // namespace
}  // namespace repquant
