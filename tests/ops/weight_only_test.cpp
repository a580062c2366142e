// Products of rows with packed weight codes, against the dequantized weight in double precision,
// and all levels, batch sizes and numbers of threads against each other.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "artifact/classes.h"
#include "ops/kernels/kernels.h"
#include "ops/levels.h"
#include "ops/operators.h"

namespace repquant {
namespace {

using testing::LevelScope;
using testing::padded;
using testing::random_codes;

struct ProductShape {
  std::int64_t rows, channels, columns, group_size;
};

/// Nothing is a multiple of anything; few and many rows; groups and steps with a rest; empty.
const std::vector<ProductShape> kProductShapes{
    {1, 1, 1, 0},      {1, 10, 7, 0},     {2, 64, 64, 32},     {3, 70, 33, 0},
    {4, 65, 130, 64},  {5, 17, 300, 128}, {6, 65, 130, 20},    {7, 129, 31, 7},
    {8, 48, 200, 500}, {9, 33, 65, 32},   {13, 100, 9, 1},     {24, 80, 520, 128},
    {130, 70, 97, 32}, {250, 40, 300, 0}, {1, 200, 1100, 128}, {1, 2, 600000, 0},
    {0, 8, 8, 0}};

struct WeightOnlyProblem {
  ProductShape shape;
  std::int64_t bits = 0;
  at::Tensor x, bias, weight, packed, scale;
  at::Tensor dequantized;  // float32 [N, K]
  at::Tensor bound;        // of rounding errors, [rows, N]
};

/// Steps of the inputs' 16-bit codes, [rows, K]: 2^(e - 14) where the largest of a chunk (of a
/// group, at most 256 columns) has the exponent e.
at::Tensor input_steps(const at::Tensor& x, std::int64_t group_size) {
  const std::int64_t columns = x.size(1), width = group_size > 0 ? group_size : columns;
  at::Tensor steps = at::zeros_like(x, x.options().dtype(at::kDouble));
  for (std::int64_t group = 0; group < columns; group += width) {
    const std::int64_t end = std::min(group + width, columns);
    for (std::int64_t begin = group; begin < end; begin += 256) {
      const std::int64_t size = std::min<std::int64_t>(256, end - begin);
      const at::Tensor largest =
          x.narrow(1, begin, size).to(at::kDouble).abs().amax(1, /*keepdim=*/true);
      steps.narrow(1, begin, size).copy_(at::exp2(at::floor(at::log2(largest)) - 14.0));
    }
  }
  return steps;
}

WeightOnlyProblem weight_only_problem(const ProductShape& shape, std::int64_t bits) {
  WeightOnlyProblem p;
  p.shape = shape;
  p.bits = bits;
  const std::int64_t limit = (std::int64_t{1} << (bits - 1)) - 1;
  const std::int64_t width = shape.group_size > 0 ? shape.group_size : shape.columns;
  const std::int64_t groups = (shape.columns + width - 1) / width;
  p.x = at::randn({shape.rows, shape.columns});
  p.x.select(1, 0).mul_(1000.0);  // coarse steps for its own chunk alone
  p.bias = at::randn({shape.channels});
  p.weight = random_codes(-limit - 1, limit, {shape.channels, shape.columns}, at::kChar);
  const at::Tensor scale = at::rand({shape.channels, groups}) * 0.01 + 0.001;
  std::tie(p.packed, p.scale) = ops::pack_weight_only_cpu(
      pack_codes(p.weight, static_cast<int>(bits)), shape.group_size > 0 ? scale : scale.squeeze(1),
      bits, shape.columns, shape.group_size);
  const at::Tensor scales =
      at::repeat_interleave(scale, width, 1).narrow(1, 0, shape.columns).contiguous();
  p.dequantized = p.weight.to(at::kFloat) * scales;
  const at::Tensor magnitude = p.weight.to(at::kDouble).abs() * scales;
  // Half a step; a whole one where the largest input would be the code 2^15.
  const at::Tensor x = p.x.to(at::kDouble).abs() * 1e-6 + input_steps(p.x, shape.group_size);
  p.bound = at::matmul(x, magnitude.t()) + p.bias.abs() * 1e-6;
  return p;
}

at::Tensor product(const WeightOnlyProblem& p, const at::Tensor& x, std::int64_t activation = 0) {
  return ops::weight_only_linear_cpu(x, p.packed, p.scale, padded(p.bias), p.shape.channels,
                                     p.shape.columns, p.bits, p.shape.group_size, activation);
}

std::string text_of(const ProductShape& shape) {
  return std::to_string(shape.rows) + " x " + std::to_string(shape.channels) + " x " +
         std::to_string(shape.columns) + " by " + std::to_string(shape.group_size);
}

class WeightOnlyTest : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override { at::manual_seed(200 + GetParam()); }
};

TEST_P(WeightOnlyTest, IsTheProductWithTheDequantizedWeight) {
  for (const ProductShape& shape : kProductShapes) {
    const WeightOnlyProblem p = weight_only_problem(shape, GetParam());
    const at::Tensor exact =
        at::linear(p.x.to(at::kDouble), p.dequantized.to(at::kDouble), p.bias.to(at::kDouble));
    at::Tensor first;
    for (const auto& level : ops::cpu_levels()) {
      SCOPED_TRACE(level + " " + text_of(shape));
      const LevelScope scope(level);
      const at::Tensor y = product(p, p.x);
      ASSERT_EQ(y.sizes(), exact.sizes());
      EXPECT_TRUE((y.to(at::kDouble) - exact).abs().le(p.bound).all().item<bool>());
      if (!first.defined()) first = y;
      EXPECT_TRUE(at::equal(y, first)) << "levels differ";
    }
  }
}

TEST_P(WeightOnlyTest, WholeNumbersBelowTwoToThe15AreExact) {
  WeightOnlyProblem p = weight_only_problem({11, 70, 700, 0}, GetParam());
  p.x = at::randint(-32767, 32768, p.x.sizes()).to(at::kFloat);
  p.bias.zero_();
  p.scale.fill_(0.5);
  const at::Tensor x = p.x.to(at::kDouble), w = p.weight.to(at::kDouble);
  const at::Tensor exact = at::linear(x, w) * 0.5;
  const at::Tensor magnitude = at::linear(x.abs(), w.abs()) * 0.5;
  for (const auto& level : ops::cpu_levels()) {
    const LevelScope scope(level);
    const at::Tensor error = (product(p, p.x).to(at::kDouble) - exact).abs();
    EXPECT_LT((error / magnitude).max().item<double>(), 2e-7) << level;  // of float32 sums
  }
}

TEST_P(WeightOnlyTest, ARowDoesNotDependOnTheOthers) {
  for (const ProductShape& shape : kProductShapes) {
    SCOPED_TRACE(text_of(shape));
    const WeightOnlyProblem p = weight_only_problem(shape, GetParam());
    const at::Tensor all = product(p, p.x);
    for (const std::int64_t count : {1, 2, 5, 8, 11, 122}) {
      if (count > shape.rows) continue;
      const std::int64_t begin = shape.rows - count;
      EXPECT_TRUE(at::equal(product(p, p.x.narrow(0, begin, count)), all.narrow(0, begin, count)))
          << count << " rows";
    }
  }
}

TEST_P(WeightOnlyTest, ThreadsDoNotChangeTheResult) {
  for (const std::int64_t rows : {1, 300}) {
    const WeightOnlyProblem p = weight_only_problem({rows, 400, 700, 128}, GetParam());
    const int before = at::get_num_threads();
    at::set_num_threads(1);
    const at::Tensor one = product(p, p.x, 2);
    at::set_num_threads(2);
    const at::Tensor two = product(p, p.x, 2);
    at::set_num_threads(before);
    EXPECT_TRUE(at::equal(one, two));
  }
}

INSTANTIATE_TEST_SUITE_P(Bits, WeightOnlyTest, ::testing::Values(2, 3, 4, 5, 8));

TEST(WeightOnlyOperatorTest, TakesAnActivationIn) {
  at::manual_seed(210);
  const WeightOnlyProblem p = weight_only_problem({5, 70, 40, 16}, 4);
  const at::Tensor y = product(p, p.x);
  const std::vector<at::Tensor> expected{y, at::relu(y), at::gelu(y), at::gelu(y, "tanh"),
                                         at::silu(y)};
  for (std::int64_t i = 0; i < 5; ++i) {
    EXPECT_TRUE(at::allclose(product(p, p.x, i), expected[static_cast<std::size_t>(i)], 1e-5, 1e-6))
        << i;
  }
}

TEST(WeightOnlyOperatorTest, NibblesStandForLevels) {
  at::manual_seed(214);
  const WeightOnlyProblem p = weight_only_problem({11, 70, 90, 32}, 4);
  const at::Tensor levels = random_codes(-128, 127, {16}, at::kChar);
  const at::Tensor looked_up =
      levels.index_select(0, p.weight.flatten().to(at::kLong) + 8).view_as(p.weight);
  const at::Tensor scale = at::rand({70, 3}) + 0.5;
  const auto run = [&](const at::Tensor& codes, std::int64_t bits,
                       const std::optional<at::Tensor>& table) {
    const auto [packed, scales] = ops::pack_weight_only_cpu(
        pack_codes(codes, static_cast<int>(bits)), scale, bits, 90, 32, table);
    return ops::weight_only_linear_cpu(p.x, packed, scales, padded(p.bias), 70, 90, bits, 32, 0);
  };
  for (const auto& level : ops::cpu_levels()) {
    const LevelScope scope(level);
    EXPECT_TRUE(at::equal(run(p.weight, 4, levels), run(looked_up, 8, {}))) << level;
  }
}

TEST(WeightOnlyOperatorTest, InputsHaveAnyShapeAndStrides) {
  at::manual_seed(211);
  const WeightOnlyProblem p = weight_only_problem({12, 70, 40, 16}, 4);
  const at::Tensor y = product(p, p.x);
  EXPECT_TRUE(at::equal(product(p, p.x.view({2, 2, 3, 40})), y.view({2, 2, 3, 70})));
  EXPECT_TRUE(at::equal(product(p, p.x.t().contiguous().t()), y));
  EXPECT_TRUE(at::equal(product(p, p.x[3]), y[3]));
}

TEST(WeightOnlyOperatorTest, WeightsStayAtTheirWidth) {
  const ProductShape shape{1, 128, 512, 128};
  EXPECT_EQ(weight_only_problem(shape, 4).packed.numel(), 64 + 128 * 512 / 2);
  EXPECT_EQ(weight_only_problem(shape, 8).packed.numel(), 128 * 512);
  EXPECT_EQ(weight_only_problem(shape, 4).scale.numel(), 128 * 4);
}

TEST(WeightOnlyOperatorTest, AValueThatIsNotFiniteStaysInItsRow) {
  at::manual_seed(212);
  WeightOnlyProblem p = weight_only_problem({4, 70, 40, 16}, 4);
  const at::Tensor y = product(p, p.x);
  p.x[2][5] = std::numeric_limits<float>::quiet_NaN();
  p.x[0][39] = std::numeric_limits<float>::infinity();
  const at::Tensor changed = product(p, p.x);
  EXPECT_TRUE(changed[2].isnan().all().item<bool>());
  EXPECT_FALSE(changed[0].isfinite().any().item<bool>());
  EXPECT_TRUE(at::equal(changed[1], y[1]));
  EXPECT_TRUE(at::equal(changed[3], y[3]));
}

TEST(WeightOnlyOperatorTest, TakesValuesOfAnySize) {
  at::manual_seed(213);
  WeightOnlyProblem p = weight_only_problem({3, 70, 40, 16}, 4);
  p.bias.zero_();
  const at::Tensor y = product(p, p.x);
  EXPECT_TRUE(at::equal(product(p, p.x * 0x1p80F), y * 0x1p80F));
  EXPECT_TRUE(at::equal(product(p, p.x * 0x1p-80F), y * 0x1p-80F));
  EXPECT_TRUE(at::equal(product(p, at::full_like(p.x, 1e-40)), at::zeros_like(y)));
}

TEST(WeightOnlyOperatorTest, RefusesUnsuitableArguments) {
  const WeightOnlyProblem p = weight_only_problem({3, 10, 20, 8}, 4);
  const at::Tensor bias = padded(p.bias);
  const auto call = [&](const at::Tensor& x, const at::Tensor& b, std::int64_t channels,
                        std::int64_t columns, std::int64_t bits, std::int64_t group,
                        std::int64_t activation) {
    return ops::weight_only_linear_cpu(x, p.packed, p.scale, b, channels, columns, bits, group,
                                       activation);
  };
  EXPECT_NO_THROW(call(p.x, bias, 10, 20, 4, 8, 0));
  EXPECT_THROW(call(p.x.to(at::kDouble), bias, 10, 20, 4, 8, 0), c10::Error);
  EXPECT_THROW(call(p.x.narrow(1, 0, 19), bias, 10, 20, 4, 8, 0), c10::Error);
  EXPECT_THROW(call(p.x, p.bias, 10, 20, 4, 8, 0), c10::Error);
  EXPECT_THROW(call(p.x, bias, 10, 20, 8, 8, 0), c10::Error);
  EXPECT_THROW(call(p.x, bias, 10, 20, 4, 4, 0), c10::Error);
  EXPECT_THROW(call(p.x, bias, 10, 20, 4, -1, 0), c10::Error);
  EXPECT_THROW(call(p.x, bias, 10, 20, 4, 8, ops::kActivations), c10::Error);
  const at::Tensor codes = pack_codes(p.weight, 4), scale = at::ones({10, 3});
  EXPECT_NO_THROW(ops::pack_weight_only_cpu(codes, scale, 4, 20, 8));
  EXPECT_THROW(ops::pack_weight_only_cpu(codes, scale, 8, 20, 8), c10::Error);
  EXPECT_THROW(ops::pack_weight_only_cpu(codes, scale, 4, 22, 8), c10::Error);
  EXPECT_THROW(ops::pack_weight_only_cpu(codes, scale, 4, 20, 4), c10::Error);
  const at::Tensor levels = at::arange(-8, 8, at::kChar);
  EXPECT_NO_THROW(ops::pack_weight_only_cpu(codes, scale, 4, 20, 8, levels));
  EXPECT_THROW(ops::pack_weight_only_cpu(codes, scale, 4, 20, 8, levels.narrow(0, 0, 15)),
               c10::Error);
  EXPECT_THROW(ops::pack_weight_only_cpu(p.weight, scale, 8, 20, 8, levels), c10::Error);
}

}  // namespace
}  // namespace repquant
