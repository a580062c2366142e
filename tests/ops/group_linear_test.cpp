// Codes on grids of groups of columns and their product with weights on scales of the same groups,
// against the simulated Linear; and all levels, numbers of rows and of threads against each other.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <limits>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "artifact/classes.h"
#include "ops/kernels/kernels.h"
#include "ops/levels.h"
#include "ops/operators.h"
#include "plan/simulate.h"

namespace repquant {
namespace {

using testing::LevelScope;
using testing::padded;
using testing::random_codes;

struct GroupShape {
  std::int64_t rows, channels, columns;
  int group_size;
};

/// Few rows and many, whole groups and rests of all sizes, panels and vectors that are not full,
/// more columns than are unpacked at a time, a group of more than that, one group.
const std::vector<GroupShape> kGroupShapes{
    {1, 1, 9, 8},       {1, 70, 96, 32},    {2, 64, 64, 32}, {3, 130, 77, 32},  {4, 33, 100, 8},
    {5, 65, 130, 64},   {7, 100, 300, 128}, {9, 64, 33, 32}, {13, 70, 520, 32}, {13, 200, 61, 24},
    {24, 48, 700, 512}, {300, 70, 97, 32},  {6, 20, 40, 64}};

struct GroupProblem {
  LinearPlan plan;
  at::Tensor x, codes, grids, packed, scale;

  std::int64_t channels() const { return plan.weight.codes.size(0); }
  std::int64_t columns() const { return plan.weight.codes.size(1); }
};

ops::OptionalTensor codebook(const InputQuantizer& quantizer) {
  return quantizer.levels.defined() ? ops::OptionalTensor(quantizer.levels) : std::nullopt;
}

struct Widths {
  int weight_bits, input_bits;
  bool learned;
  bool scales_of_groups = true;
};

GroupProblem group_problem(const GroupShape& shape, const Widths& widths) {
  GroupProblem p;
  p.x = at::randn({shape.rows, shape.columns}) + 0.5;
  p.x.select(1, 0).mul_(100.0);  // a coarse grid for its own group alone
  InputQuantizer& input = p.plan.input;
  input = per_token_quantizer(widths.input_bits);
  input.group_size = shape.group_size;
  if (widths.learned) {
    const at::Tensor drawn = at::randperm(256).slice(0, 0, std::int64_t{1} << widths.input_bits);
    input.levels = std::get<0>(drawn.sort()).to(at::kByte);
  }
  const int limit = (1 << (widths.weight_bits - 1)) - 1;
  const std::int64_t groups = (shape.columns + shape.group_size - 1) / shape.group_size;
  QuantizedWeight& weight = p.plan.weight;
  weight.bits = widths.weight_bits;
  weight.codes = random_codes(-limit - 1, limit, {shape.channels, shape.columns}, at::kChar);
  weight.scale = at::rand({shape.channels, widths.scales_of_groups ? groups : 1}) * 0.01 + 0.001;
  weight.group_size = shape.group_size;
  if (!widths.scales_of_groups) {
    weight.scale = weight.scale.squeeze(1);
    weight.group_size = 0;
  }
  p.plan.bias = at::randn({shape.channels});
  std::tie(p.packed, p.scale) =
      ops::pack_group_weight_cpu(pack_codes(weight.codes, weight.bits), weight.scale, weight.bits,
                                 shape.columns, shape.group_size);
  std::tie(p.codes, p.grids) =
      ops::group_codes_cpu(p.x, shape.group_size, input.max_product_code(), codebook(input));
  return p;
}

at::Tensor product(const GroupProblem& p, const at::Tensor& codes, const at::Tensor& grids,
                   std::int64_t activation = 0) {
  return ops::group_linear_cpu(codes, grids, p.packed, p.scale, padded(p.plan.bias), p.channels(),
                               p.columns(), p.plan.weight.bits, p.plan.input.group_size,
                               activation);
}

at::Tensor product(const GroupProblem& p, std::int64_t activation = 0) {
  return product(p, p.codes, p.grids, activation);
}

/// What rounding errors go with: products without their signs, a group's largest value for all of
/// it, since codes count from its lowest one.
at::Tensor magnitude(const LinearPlan& plan, const at::Tensor& x) {
  const at::Tensor groups = split_groups(x.abs(), plan.input);
  const at::Tensor largest = groups.amax(-1, /*keepdim=*/true).expand_as(groups);
  return at::linear(join_groups(largest, plan.input, x.size(-1)), plan.weight.dequantize().abs());
}

std::string text_of(const GroupShape& shape) {
  return std::to_string(shape.rows) + " x " + std::to_string(shape.channels) + " x " +
         std::to_string(shape.columns) + " by " + std::to_string(shape.group_size);
}

TEST(GroupCodes, AreTheSimulations) {
  at::manual_seed(21);
  at::Tensor x = at::randn({3, 7, 77}) * at::logspace(-20, 4, 7).view({1, 7, 1});
  x[1][2].fill_(-3.5);
  x[2][0].zero_();
  for (const auto& level : ops::cpu_levels()) {
    const LevelScope scope(level);
    for (const int group_size : {1, 5, 16, 32, 76, 77, 100}) {
      for (const int bits : {2, 3, 6, 8}) {
        for (const bool learned : {false, true}) {
          SCOPED_TRACE(level + " " + std::to_string(group_size) + " " + std::to_string(bits));
          InputQuantizer quantizer = per_token_quantizer(bits);
          quantizer.group_size = group_size;
          if (learned) {
            const at::Tensor drawn = at::randperm(256).slice(0, 0, std::int64_t{1} << bits);
            quantizer.levels = std::get<0>(drawn.sort()).to(at::kByte);
          }
          const auto [codes, grids] = ops::group_codes_cpu(
              x, group_size, quantizer.max_product_code(), codebook(quantizer));
          const at::Tensor expected = product_codes(encode(x, quantizer), quantizer);
          EXPECT_TRUE(at::equal(codes.to(at::kFloat), expected));
          const TokenGrids found = token_grids(split_groups(x, quantizer), quantizer);
          EXPECT_TRUE(at::equal(grids, at::cat({found.low, found.step}, -1)));
        }
      }
    }
    EXPECT_THROW(ops::group_codes_cpu(x, 0, 7, {}), c10::Error);
    EXPECT_THROW(ops::group_codes_cpu(x, 32, 256, {}), c10::Error);
    EXPECT_THROW(ops::group_codes_cpu(x, 32, 15, at::zeros({16}, at::kByte)), c10::Error);
    EXPECT_THROW(ops::group_codes_cpu(x.to(at::kDouble), 32, 7, {}), c10::Error);
    EXPECT_EQ(std::get<0>(ops::group_codes_cpu(x.slice(0, 0, 0), 32, 7, {})).numel(), 0);
  }
}

TEST(GroupCodes, AGroupThatIsNotFiniteGetsAGridThatIsNot) {
  at::manual_seed(22);
  at::Tensor x = at::randn({3, 80});
  x[0][79] = std::numeric_limits<float>::quiet_NaN();
  x[1][3] = -std::numeric_limits<float>::infinity();
  for (const auto& level : ops::cpu_levels()) {
    const LevelScope scope(level);
    const at::Tensor low = std::get<1>(ops::group_codes_cpu(x, 32, 255, {})).select(2, 0);
    at::Tensor expected = at::ones({3, 3}, at::kBool);
    expected[0][2] = expected[1][0] = false;
    EXPECT_TRUE(at::equal(low.isfinite(), expected)) << level;
  }
}

TEST(GroupCodes, NormsAreComputedOnTheWay) {
  at::manual_seed(23);
  for (const std::int64_t width : {50, 64, 96}) {
    const at::Tensor x = at::randn({4, 9, width}) * 3 + 1, weight = at::rand({width}),
                     bias = at::randn({width});
    InputQuantizer quantizer = per_token_quantizer(8);
    quantizer.group_size = 32;
    for (const auto& level : ops::cpu_levels()) {
      const LevelScope scope(level);
      for (const bool mean_square : {false, true}) {
        const at::Tensor y = mean_square ? at::rms_norm(x, {width}, weight, 1e-5) + bias
                                         : at::layer_norm(x, {width}, weight, bias, 1e-5);
        const auto [codes, grids] =
            ops::norm_group_codes_cpu(x, weight, bias, 1e-5, mean_square, 32, 255, {});
        const TokenGrids found = token_grids(split_groups(y, quantizer), quantizer);
        EXPECT_TRUE(at::allclose(grids, at::cat({found.low, found.step}, -1), 1e-5, 1e-5)) << level;
        const auto difference = testing::difference(codes, encode(y, quantizer).to(at::kByte));
        EXPECT_LE(difference.largest, 1) << level;
        EXPECT_LE(difference.count, codes.numel() / 200) << level;
        // The rows' norms alone are the token operator's.
        const at::Tensor normal = std::get<0>(
            ops::norm_and_tokens_cpu(x, weight, bias, 1e-5, mean_square, 255, {}, {}, {}));
        const auto [alone, alone_grids] = ops::group_codes_cpu(normal, 32, 255, {});
        EXPECT_TRUE(at::equal(codes, alone)) << level;
        EXPECT_TRUE(at::equal(grids, alone_grids)) << level;
      }
    }
    EXPECT_THROW(ops::norm_group_codes_cpu(x, weight.slice(0, 1), bias, 1e-5, false, 32, 255, {}),
                 c10::Error);
    EXPECT_THROW(ops::norm_group_codes_cpu(x, weight, bias, 1e-5, false, 0, 255, {}), c10::Error);
  }
}

class GroupLinearTest : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override { at::manual_seed(300 + GetParam()); }
};

TEST_P(GroupLinearTest, IsTheSimulatedLinear) {
  for (const GroupShape& shape : kGroupShapes) {
    for (const Widths& widths : {Widths{GetParam(), 3, true}, Widths{GetParam(), 8, false},
                                 Widths{GetParam(), 4, false, false}}) {
      const GroupProblem p = group_problem(shape, widths);
      const at::Tensor expected = simulate_linear(p.plan, p.x), size = magnitude(p.plan, p.x);
      at::Tensor first;
      for (const auto& level : ops::cpu_levels()) {
        SCOPED_TRACE(level + " " + text_of(shape));
        const LevelScope scope(level);
        const at::Tensor y = product(p);
        ASSERT_EQ(y.sizes(), expected.sizes());
        EXPECT_LT(((y - expected).abs() / (size + 1.0)).max().item<double>(), 1e-6);
        if (!first.defined()) first = y;
        EXPECT_TRUE(at::equal(y, first)) << "levels differ";
      }
    }
  }
}

TEST_P(GroupLinearTest, ARowDoesNotDependOnTheOthers) {
  for (const GroupShape& shape : kGroupShapes) {
    SCOPED_TRACE(text_of(shape));
    const GroupProblem p = group_problem(shape, {GetParam(), 4, false});
    for (const auto& level : ops::cpu_levels()) {
      const LevelScope scope(level);
      const at::Tensor all = product(p);
      for (const std::int64_t count : {1, 2, 3, 5, 8, 11, 122}) {
        if (count > shape.rows) continue;
        const std::int64_t begin = shape.rows - count;
        const auto rows = [&](const at::Tensor& t) { return t.narrow(0, begin, count); };
        EXPECT_TRUE(at::equal(product(p, rows(p.codes), rows(p.grids)), rows(all)))
            << level << " " << count << " rows";
      }
    }
  }
}

TEST_P(GroupLinearTest, ThreadsDoNotChangeTheResult) {
  for (const std::int64_t rows : {1, 300}) {
    const GroupProblem p = group_problem({rows, 400, 700, 64}, {GetParam(), 4, false});
    const int before = at::get_num_threads();
    at::set_num_threads(1);
    const at::Tensor one = product(p, 2);
    at::set_num_threads(2);
    const at::Tensor two = product(p, 2);
    at::set_num_threads(before);
    EXPECT_TRUE(at::equal(one, two));
  }
}

INSTANTIATE_TEST_SUITE_P(Bits, GroupLinearTest, ::testing::Values(2, 3, 4, 6, 8));

TEST(GroupLinearOperatorTest, TakesAnActivationIn) {
  at::manual_seed(310);
  const GroupProblem p = group_problem({5, 70, 300, 32}, {4, 8, false});
  const at::Tensor y = product(p);
  const std::vector<at::Tensor> expected{
      y, at::relu(y), at::gelu(y), at::gelu(y, "tanh"), at::silu(y), at::hardswish(y)};
  for (std::int64_t i = 0; i < ops::kActivations; ++i) {
    EXPECT_TRUE(at::allclose(product(p, i), expected[static_cast<std::size_t>(i)], 1e-5, 1e-6))
        << i;
  }
}

TEST(GroupLinearOperatorTest, AddsAResidualLast) {
  at::manual_seed(316);
  for (const std::int64_t rows : {1, 5, 40}) {
    const GroupProblem p = group_problem({rows, 70, 300, 32}, {4, 8, false});
    const auto with = [&](const at::Tensor& residual, std::int64_t activation) {
      return ops::group_linear_cpu(p.codes, p.grids, p.packed, p.scale, padded(p.plan.bias), 70,
                                   300, 4, 32, activation, residual);
    };
    const at::Tensor residual = at::randn({70, rows}).t(), wide = at::randn({2, rows, 70});
    for (const auto& level : ops::cpu_levels()) {
      const LevelScope scope(level);
      EXPECT_TRUE(at::equal(with(residual, 0), residual + product(p))) << level;
      EXPECT_TRUE(at::equal(with(residual, 2), residual + product(p, 2))) << level;
      EXPECT_TRUE(at::equal(with(wide, 0), wide + product(p))) << level;
      EXPECT_TRUE(at::equal(with(residual[0], 0), residual[0] + product(p))) << level;
    }
  }
}

TEST(GroupLinearOperatorTest, NibblesStandForLevels) {
  at::manual_seed(314);
  const GroupProblem p = group_problem({11, 70, 90, 32}, {4, 8, false});
  const at::Tensor levels = random_codes(-128, 127, {16}, at::kChar);
  const at::Tensor& codes = p.plan.weight.codes;
  const at::Tensor looked_up =
      levels.index_select(0, codes.flatten().to(at::kLong) + 8).view_as(codes);
  const auto run = [&](const at::Tensor& weight, std::int64_t bits,
                       const std::optional<at::Tensor>& table) {
    const auto [packed, scale] = ops::pack_group_weight_cpu(
        pack_codes(weight, static_cast<int>(bits)), p.plan.weight.scale, bits, 90, 32, table);
    return ops::group_linear_cpu(p.codes, p.grids, packed, scale, padded(p.plan.bias), 70, 90, bits,
                                 32, 0);
  };
  for (const auto& level : ops::cpu_levels()) {
    const LevelScope scope(level);
    EXPECT_TRUE(at::equal(run(codes, 4, levels), run(looked_up, 8, {}))) << level;
  }
}

TEST(GroupLinearOperatorTest, WhatFollowsAnOddNumberOfNibblesDoesNotMatter) {
  at::manual_seed(315);
  const GroupProblem p = group_problem({5, 70, 33, 32}, {4, 8, false});
  at::Tensor codes = pack_codes(p.plan.weight.codes, 4).clone();
  codes.select(1, 16).bitwise_or_(0xB0);
  const auto [packed, scale] = ops::pack_group_weight_cpu(codes, p.plan.weight.scale, 4, 33, 32);
  EXPECT_TRUE(at::equal(
      ops::group_linear_cpu(p.codes, p.grids, packed, scale, padded(p.plan.bias), 70, 33, 4, 32, 0),
      product(p)));
}

TEST(GroupLinearOperatorTest, InputsHaveAnyShapeAndStrides) {
  at::manual_seed(311);
  const GroupProblem p = group_problem({12, 70, 40, 16}, {4, 8, false});
  const at::Tensor y = product(p);
  EXPECT_TRUE(at::equal(product(p, p.codes.view({2, 2, 3, 40}), p.grids.view({2, 2, 3, 3, 2})),
                        y.view({2, 2, 3, 70})));
  EXPECT_TRUE(at::equal(product(p, p.codes.t().contiguous().t(),
                                p.grids.transpose(0, 1).contiguous().transpose(0, 1)),
                        y));
  EXPECT_TRUE(at::equal(product(p, p.codes[3], p.grids[3]), y[3]));
  EXPECT_EQ(product(p, p.codes.slice(0, 0, 0), p.grids.slice(0, 0, 0)).numel(), 0);
}

TEST(GroupLinearOperatorTest, AValueThatIsNotFiniteStaysInItsRow) {
  at::manual_seed(312);
  const GroupProblem p = group_problem({4, 70, 40, 16}, {4, 8, false});
  const at::Tensor y = product(p);
  at::Tensor x = p.x.clone();
  x[2][5] = std::numeric_limits<float>::quiet_NaN();
  x[0][39] = std::numeric_limits<float>::infinity();
  for (const auto& level : ops::cpu_levels()) {
    const LevelScope scope(level);
    const auto [codes, grids] = ops::group_codes_cpu(x, 16, 255, {});
    const at::Tensor changed = product(p, codes, grids);
    EXPECT_TRUE(changed[2].isnan().all().item<bool>()) << level;
    EXPECT_FALSE(changed[0].isfinite().any().item<bool>()) << level;
    EXPECT_TRUE(at::equal(changed[1], y[1])) << level;
    EXPECT_TRUE(at::equal(changed[3], y[3])) << level;
  }
}

TEST(GroupLinearOperatorTest, SumsOfTheLargestGroupDoNotOverflow) {
  const std::int64_t columns = 65536;
  const at::Tensor codes = at::full({2, columns}, 255, at::kByte),
                   weight = at::full({1, columns}, -128, at::kChar);
  const auto [packed, scale] =
      ops::pack_group_weight_cpu(weight, at::ones({1}), 8, columns, columns);
  const at::Tensor grids = at::tensor({0.0F, 1.0F, 0.0F, 1.0F}).view({2, 1, 2});
  for (const auto& level : ops::cpu_levels()) {
    const LevelScope scope(level);
    const at::Tensor y = ops::group_linear_cpu(codes, grids, packed, scale, padded(at::zeros({1})),
                                               1, columns, 8, columns, 0);
    EXPECT_EQ(y[1][0].item<float>(), -255.0F * 128.0F * 65536.0F) << level;
  }
}

TEST(GroupLinearOperatorTest, RefusesUnsuitableArguments) {
  const GroupProblem p = group_problem({3, 10, 20, 8}, {4, 8, false});
  const at::Tensor bias = padded(p.plan.bias);
  const auto call = [&](const at::Tensor& codes, const at::Tensor& grids, const at::Tensor& b,
                        std::int64_t channels, std::int64_t columns, std::int64_t bits,
                        std::int64_t group, std::int64_t activation) {
    return ops::group_linear_cpu(codes, grids, p.packed, p.scale, b, channels, columns, bits, group,
                                 activation);
  };
  const at::Tensor &x = p.codes, &g = p.grids;
  EXPECT_NO_THROW(call(x, g, bias, 10, 20, 4, 8, 0));
  EXPECT_THROW(call(x.to(at::kChar), g, bias, 10, 20, 4, 8, 0), c10::Error);
  EXPECT_THROW(call(x.narrow(1, 0, 19), g, bias, 10, 20, 4, 8, 0), c10::Error);
  EXPECT_THROW(call(x, g.narrow(1, 0, 2), bias, 10, 20, 4, 8, 0), c10::Error);
  EXPECT_THROW(call(x, g.narrow(0, 0, 2), bias, 10, 20, 4, 8, 0), c10::Error);
  EXPECT_THROW(call(x, g.to(at::kDouble), bias, 10, 20, 4, 8, 0), c10::Error);
  EXPECT_THROW(call(x, g, p.plan.bias, 10, 20, 4, 8, 0), c10::Error);
  EXPECT_THROW(call(x, g, bias, 65, 20, 4, 8, 0), c10::Error);
  EXPECT_THROW(call(x, g, bias, 10, 20, 8, 8, 0), c10::Error);
  EXPECT_THROW(call(x, g, bias, 10, 20, 4, 16, 0), c10::Error);
  EXPECT_THROW(call(x, g, bias, 10, 20, 4, 4, 0), c10::Error);
  EXPECT_THROW(call(x, g, bias, 10, 20, 4, 0, 0), c10::Error);
  EXPECT_THROW(call(x, g, bias, 10, 20, 4, -8, 0), c10::Error);
  EXPECT_THROW(call(x, g, bias, 10, 20, 4, 8, ops::kActivations), c10::Error);
  const at::Tensor codes = pack_codes(p.plan.weight.codes, 4), scale = at::ones({10, 3});
  EXPECT_NO_THROW(ops::pack_group_weight_cpu(codes, scale, 4, 20, 8));
  EXPECT_NO_THROW(ops::pack_group_weight_cpu(p.plan.weight.codes, at::ones({10, 5}), 8, 20, 4));
  EXPECT_THROW(ops::pack_group_weight_cpu(codes, at::ones({10, 5}), 4, 20, 4), c10::Error);
  EXPECT_THROW(ops::pack_group_weight_cpu(codes, scale, 4, 20, 12), c10::Error);
  EXPECT_THROW(ops::pack_group_weight_cpu(codes, scale, 4, 22, 8), c10::Error);
  EXPECT_THROW(ops::pack_group_weight_cpu(codes, at::ones({10, 2}), 4, 20, 8), c10::Error);
  EXPECT_THROW(ops::pack_group_weight_cpu(codes, scale, 8, 20, 8), c10::Error);
  EXPECT_THROW(ops::pack_group_weight_cpu(codes, scale, 4, 20, 8, at::zeros({15}, at::kChar)),
               c10::Error);
}

}  // namespace
}  // namespace repquant
