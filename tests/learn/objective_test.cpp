// The loss in closed form.
#include "learn/objective.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "support/random.h"

namespace repquant {
namespace {

using testing::Random;

double value_of(const Results& got, const Results& expected) {
  return Objective({expected}, 1)(got, expected).item<double>();
}

TEST(Objective, IsZeroForTheSameResults) {
  const Results results{{Random(1).normal({4, 10})}, {Random(2).normal({4, 3, 8})}};
  EXPECT_NEAR(value_of(results, results), 0.0, 1e-7);
}

// Two rows, of which each column has variance 1/4: an error of 1/2 everywhere is all of it.
TEST(Objective, OfOutputsIsRelativeToTheVariance) {
  const at::Tensor expected = at::tensor({1.0F, 0.0F, 0.0F, 1.0F}).view({2, 2});
  EXPECT_NEAR(value_of({{expected + 0.5}, {}}, {{expected}, {}}), 1.0, 3e-3);
}

TEST(Objective, AddsOutputsAndTheMeanOverBlocks) {
  const at::Tensor one = at::tensor({1.0F, 0.0F, 0.0F, 1.0F}).view({2, 2});
  const Results expected{{one}, {one, one, at::Tensor()}};
  EXPECT_NEAR(value_of({{one + 0.5}, {one + 0.5, one, at::Tensor()}}, expected), 1.5, 4e-3);
}

TEST(Objective, OfBlocksIsRelativeToTheVariance) {
  const at::Tensor end = Random(3).normal({2, 50, 16});
  const at::Tensor variance = (end.flatten(0, 1) - end.flatten(0, 1).mean(0)).square().mean();
  const double error = value_of({{}, {end + 0.1, at::Tensor()}}, {{}, {end, at::Tensor()}});
  EXPECT_NEAR(error, 0.01 / (variance.item<double>() * 1.001), 1e-4);
}

TEST(Objective, RowsThatAreNotFiniteDoNotCount) {
  at::Tensor end = Random(4).normal({4, 8});
  at::Tensor got = end + 0.1;
  end[1].fill_(std::numeric_limits<float>::quiet_NaN());
  got[1].fill_(std::numeric_limits<float>::quiet_NaN());
  EXPECT_TRUE(std::isfinite(value_of({{}, {got}}, {{}, {end}})));
}

// One row has no variance of its own: that is over all samples.
TEST(Objective, SeesTheVarianceOfAllSamples) {
  const Results low{{}, {at::zeros({1, 3})}}, high{{}, {at::full({1, 3}, 2.0F)}};
  const Results got{{}, {high.ends[0] + 0.5}};
  EXPECT_NEAR(Objective({low, high}, 2)(got, high).item<double>(), 0.25, 1e-3);
}

// Two rows of logits in each of 1500 samples: the divergence counts half.
TEST(Objective, OfLogitsIsTheDivergenceToo) {
  const Results expected{{at::tensor({0.0F, 0.0F, 3.0F, 1.0F}).view({2, 2})}, {}};
  const Results got{{at::tensor({1.0F, 0.0F, 3.0F, 1.0F}).view({2, 2})}, {}};
  const double p = std::exp(1.0) / (1 + std::exp(1.0));
  const double divergence = (0.5 * std::log(0.5 / p) + 0.5 * std::log(0.5 / (1 - p))) / 2;
  // Variances 9/4 and 1/4, mean square 10/4.
  const double relative = 0.25 / (1.25 + 0.0025);
  EXPECT_NEAR(Objective({expected}, 1500)(got, expected).item<double>(), relative + divergence / 2,
              1e-6);
}

TEST(Objective, RowsThatPadDoNotCount) {
  const at::Tensor end = Random(6).normal({1, 4, 8});
  at::Tensor got = end.clone();
  got.select(1, 3).add_(5.0);
  Results expected{{}, {end}};
  EXPECT_GT(value_of({{}, {got}}, expected), 1.0);
  expected.used = {at::tensor({1.0F, 1.0F, 1.0F, 0.0F}).view({1, 4, 1})};
  EXPECT_NEAR(value_of({{}, {got}}, expected), 0.0, 1e-7);
}

TEST(Objective, JudgesByOutputsAlone) {
  const at::Tensor one = at::tensor({1.0F, 0.0F, 0.0F, 1.0F}).view({2, 2});
  const Results expected{{one}, {one}}, ends{{}, {one}};
  const Objective both({expected}, 1), blocks({ends}, 1);
  EXPECT_NEAR(both.of_outputs({{one + 0.5}, {one}}, expected), 1.0, 3e-3);
  EXPECT_NEAR(both.of_outputs({{one}, {one + 0.5}}, expected), 0.0, 1e-6);
  EXPECT_NEAR(blocks.of_outputs({{}, {one + 0.5}}, ends), 1.0, 3e-3);
  EXPECT_EQ(Objective({Results{}}, 1).of_outputs({}, {}), 0.0);
}

TEST(Objective, IsUndefinedWithoutResults) {
  EXPECT_FALSE(Objective({Results{}}, 1)({}, {}).defined());
  const Results nothing{{}, {at::Tensor()}};
  EXPECT_FALSE(Objective({nothing}, 1)(nothing, nothing).defined());
}

}  // namespace
}  // namespace repquant
