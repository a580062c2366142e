#include "quantizer/range_search.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

#include "quantizer/output_metric.h"
#include "repquant/error.h"
#include "support/random.h"

namespace repquant {
namespace {

AffineGrid extremes_grid(const at::Tensor& x, int bits) {
  return affine_grid(x.min().clamp_max(0).view({1}), x.max().clamp_min(0).view({1}), bits);
}

double error_of(const at::Tensor& x, const AffineGrid& grid, const at::Tensor& gram = {}) {
  return output_error(x, fake_quantize(x, grid), gram);
}

TEST(RangeSearch, FollowsTheRowsThatCount) {
  testing::Random random(9);
  const at::Tensor narrow = random.uniform({500, 8}, -1, 1);
  const at::Tensor x = at::cat({narrow, random.uniform({500, 8}, -8, 8)});
  SearchOptions options;
  options.row_weights = at::cat({at::ones({500}, at::kDouble), at::zeros({500}, at::kDouble)});
  const AffineGrid grid = search_per_tensor(x, {}, 4, options);
  EXPECT_LT(error_of(narrow, grid), 0.1 * error_of(narrow, search_per_tensor(x, {}, 4)));
}

TEST(OutputMetric, MatchesTheDefinitionInEveryForm) {
  testing::Random random(1);
  const at::Tensor error = random.normal({100, 24});
  const at::Tensor value = at::zeros({100, 24});
  for (const std::int64_t outputs : {4, 200}) {  // low rank: factored; full rank: not
    const at::Tensor weight = random.normal({outputs, 24});
    const at::Tensor gram = at::mm(weight.t(), weight);
    const OutputMetric metric(gram, 24, false);
    EXPECT_EQ(metric.cost(), outputs == 4 ? 24 * 4 : 24 * 24);
    const double direct = at::mm(error, weight.t()).square().sum(1).mean().item<double>();
    EXPECT_NEAR(metric.of(error) / direct, 1, 1e-4);
    EXPECT_NEAR(output_error(value, error, gram) / direct, 1, 1e-4);
    const at::Tensor centred = error - error.mean(0, true);
    EXPECT_NEAR(OutputMetric(gram, 24, true).of(error) /
                    at::mm(centred, weight.t()).square().sum(1).mean().item<double>(),
                1, 1e-4);
  }
  EXPECT_NEAR(OutputMetric({}, 24, false).of(error), error.square().sum(1).mean().item<double>(),
              1e-3);
}

TEST(OutputMetric, OneCentredColumnIsItsVariance) {
  testing::Random random(2);
  const at::Tensor error = random.normal({2500, 1}) + 3.0;  // several runs, a mean that goes
  EXPECT_NEAR(OutputMetric({}, 1, true).of(error), error.var(0, false).item<double>(), 1e-4);
}

TEST(SearchPerHead, WithoutMetricIsEachHeadByItself) {
  testing::Random random(5);
  at::Tensor x = random.normal({600, 5, 1}) * at::arange(5, at::kFloat).view({5, 1});
  x = x.contiguous();  // the first head is zero
  SearchOptions options;
  options.max_rows = 100;
  options.centred_error = true;
  const AffineGrid heads = search_per_head(x, {}, 4, options);
  for (std::int64_t head = 1; head < 5; ++head) {
    const AffineGrid own = search_per_tensor(x.select(1, head), {}, 4, options);
    EXPECT_EQ(heads.scale[head].item<float>(), own.scale.item<float>()) << head;
    EXPECT_EQ(heads.zero_point[head].item<float>(), own.zero_point.item<float>()) << head;
  }
  EXPECT_GT(heads.scale[0].item<float>(), 0.0F);
}

TEST(RangeSearch, NeverWorseThanTheExtremesAndCloseToExhaustive) {
  testing::Random random(2);
  for (const int bits : {2, 3, 4, 8}) {
    at::Tensor x = random.normal({400, 20});
    x = at::where(x > 0, x * 3, x);  // lopsided, heavy upper side
    const AffineGrid found = search_per_tensor(x, {}, bits);
    const double error = error_of(x, found);
    EXPECT_LE(error, error_of(x, extremes_grid(x, bits)) * (1 + 1e-6));
    double exhaustive = std::numeric_limits<double>::infinity();
    for (double lower = 0.1; lower <= 1.001; lower += 0.05) {
      for (double upper = 0.1; upper <= 1.001; upper += 0.05) {
        const AffineGrid grid =
            affine_grid((x.min() * lower).view({1}), (x.max() * upper).view({1}), bits);
        exhaustive = std::min(exhaustive, error_of(x, grid));
      }
    }
    EXPECT_LT(error, 1.03 * exhaustive) << bits;
  }
}

TEST(RangeSearch, FollowsTheConsumer) {
  // One wide channel that the consumer hardly reads: its Gram matrix says to clip it.
  testing::Random random(3);
  at::Tensor x = random.normal({500, 8});
  x.select(1, 0).mul_(20);
  at::Tensor weight = random.normal({16, 8});
  weight.select(1, 0).mul_(1e-3);
  const at::Tensor gram = at::mm(weight.t(), weight);
  const AffineGrid aware = search_per_tensor(x, gram, 4);
  const AffineGrid plain = search_per_tensor(x, {}, 4);
  EXPECT_LT(error_of(x, aware, gram), 0.2 * error_of(x, plain, gram));
}

TEST(RangeSearch, ZeroIsAlwaysACode) {
  testing::Random random(4);
  for (const double offset : {-9.0, 0.0, 9.0}) {
    const AffineGrid grid = search_per_tensor(random.normal({100, 4}) + offset, {}, 4);
    EXPECT_EQ(fake_quantize(at::zeros({1}), grid)[0].item<float>(), 0);
    EXPECT_GE(grid.zero_point[0].item<float>(), 0);
    EXPECT_LE(grid.zero_point[0].item<float>(), 15);
  }
}

TEST(RangeSearch, ConstantAndTinySamples) {
  for (const float value : {0.0F, 2.5F, -2.5F}) {
    const AffineGrid grid = search_per_tensor(at::full({3, 2}, value), {}, 4);
    EXPECT_FLOAT_EQ(fake_quantize(at::full({1}, value), grid)[0].item<float>(), value);
    const QuadraticGrid quadratic = search_quadratic(at::full({3, 2}, value), {}, 4);
    EXPECT_NEAR(fake_quantize(at::full({1}, value), quadratic)[0].item<float>(), value, 1e-5);
  }
}

TEST(RangeSearch, PerHeadIsPerTensorOfEachHead) {
  testing::Random random(5);
  at::Tensor x = random.normal({300, 3, 8});
  x.select(1, 1).mul_(10);
  const at::Tensor k = random.normal({3, 50, 8});
  const at::Tensor gram = at::bmm(k.transpose(1, 2), k);
  const AffineGrid heads = search_per_head(x, gram, 4);
  EXPECT_EQ(heads.scale.sizes(), at::IntArrayRef({3}));
  for (std::int64_t head = 0; head < 3; ++head) {
    const AffineGrid own = search_per_tensor(x.select(1, head), gram[head], 4);
    EXPECT_EQ(heads.scale[head].item<float>(), own.scale[0].item<float>());
    EXPECT_EQ(heads.zero_point[head].item<float>(), own.zero_point[0].item<float>());
  }
  EXPECT_GT(heads.scale[1].item<float>(), 5 * heads.scale[0].item<float>());
}

TEST(RangeSearch, QuadraticGridSuitsGeluOutputs) {
  testing::Random random(6);
  const at::Tensor x = at::gelu(random.normal({2000, 16}) * 1.5 - 0.5);
  const AffineGrid uniform = search_per_tensor(x, {}, 4);
  const QuadraticGrid quadratic = search_quadratic(x, {}, 4);
  const double error = output_error(x, fake_quantize(x, quadratic), {});
  EXPECT_LT(error, 0.5 * error_of(x, uniform));
  EXPECT_GE(quadratic.zero_point, 0);
  // The lower end lies near GELU's minimum.
  EXPECT_NEAR(quadratic.zero_point * quadratic.scale, 0.17, 0.12);
}

TEST(RangeSearch, MassiveChannels) {
  EXPECT_EQ(massive_channels(at::tensor({1.0F, 2.0F, 100.0F, 1.5F, 30.0F}), 12),
            (std::vector<std::int64_t>{2, 4}));
  EXPECT_TRUE(massive_channels(at::tensor({1.0F, 2.0F, 100.0F}), 0).empty());
  EXPECT_TRUE(massive_channels(at::zeros({4}), 12).empty());
  EXPECT_TRUE(massive_channels(at::zeros({0}), 12).empty());
}

TEST(RangeSearch, RejectsBadInput) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW(search_per_tensor(at::full({2, 2}, nan), {}, 4), Error);
  EXPECT_THROW(search_per_tensor(at::zeros({0, 2}), {}, 4), Error);
  EXPECT_THROW(search_per_tensor(at::ones({2, 2}), at::eye(3), 4), Error);
  EXPECT_THROW(search_quadratic(at::ones({2, 2}), {}, 5), Error);
  EXPECT_THROW(search_per_head(at::ones({2, 2}), {}, 4), Error);
}

}  // namespace
}  // namespace repquant
