// Operators with a grid for each row: token_quantize, norm_tokens, linear with rows, linear_tokens.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <limits>
#include <optional>
#include <tuple>

#include "ops/levels.h"
#include "ops/operators.h"
#include "plan/simulate.h"

namespace repquant {
namespace {

/// Rows of all sizes, one constant, one of zeros, none a multiple of a vector.
at::Tensor rows() {
  at::Tensor x = at::randn({3, 7, 77}) * at::logspace(-20, 4, 7).view({1, 7, 1});
  x[1][2].fill_(-3.5);
  x[2][0].zero_();
  return x;
}

InputQuantizer quantizer_of(int bits, bool learned) {
  InputQuantizer quantizer = per_token_quantizer(bits);
  if (learned) {
    quantizer.levels =
        std::get<0>(at::randperm(256).slice(0, 0, std::int64_t{1} << bits).sort()).to(at::kByte);
  }
  return quantizer;
}

ops::OptionalTensor codebook(const InputQuantizer& quantizer) {
  return quantizer.levels.defined() ? ops::OptionalTensor(quantizer.levels) : std::nullopt;
}

at::Tensor grids_of(const at::Tensor& x, const InputQuantizer& quantizer) {
  const TokenGrids grids = token_grids(x, quantizer);
  return at::cat({grids.low, grids.step}, -1);
}

/// Largest difference over the largest value.
double apart(const at::Tensor& got, const at::Tensor& expected) {
  return ((got - expected).abs().max() / expected.abs().max()).item<double>();
}

// Codes are not clamped: of a row's ends they are 0 and the top, whatever these are.
TEST(TokenOperators, TheEndsOfARowHaveTheFirstAndTheLastCode) {
  at::manual_seed(12);
  const std::int64_t count = 200000;
  const at::Tensor size = at::pow(10.0, at::rand({count, 1}) * 60 - 30);
  at::Tensor x = at::randn({count, 3}) * size;
  x.select(0, 1).fill_(std::numeric_limits<float>::max());
  x.select(0, 2).fill_(1e-45F);
  x[3] = at::tensor({-3e38F, 3e38F, 0.0F});
  for (const auto& level : ops::cpu_levels()) {
    const testing::LevelScope scope(level);
    for (const std::int64_t top : {3, 7, 15, 63, 255}) {
      const at::Tensor codes = std::get<0>(ops::token_quantize_cpu(x, top, {}));
      EXPECT_LE(codes.max().item<std::int64_t>(), top);
      const auto code_at = [&](const at::Tensor& places) {
        return codes.gather(1, places.unsqueeze(1)).slice(0, 4);
      };
      EXPECT_TRUE((code_at(x.argmin(1)) == 0).all().item<bool>()) << level << top;
      EXPECT_TRUE((code_at(x.argmax(1)) == top).all().item<bool>()) << level << top;
    }
  }
}

TEST(TokenOperators, CodesAndGridsAreTheSimulations) {
  at::manual_seed(11);
  const at::Tensor x = rows();
  for (const auto& level : ops::cpu_levels()) {
    const testing::LevelScope scope(level);
    for (const int bits : {2, 4, 6, 8}) {
      for (const bool learned : {false, true}) {
        const InputQuantizer quantizer = quantizer_of(bits, learned);
        const auto [codes, grids] =
            ops::token_quantize_cpu(x, quantizer.max_product_code(), codebook(quantizer));
        EXPECT_TRUE(at::equal(grids, grids_of(x, quantizer))) << level << bits;
        const at::Tensor expected = product_codes(encode(x, quantizer), quantizer);
        EXPECT_TRUE(at::equal(codes.to(at::kFloat), expected)) << level << bits << learned;
      }
    }
  }
}

TEST(TokenOperators, GroupsAreTheSimulations) {
  at::manual_seed(13);
  at::Tensor x = rows();  // 77 columns
  x[2][3][40] = std::numeric_limits<float>::quiet_NaN();
  for (const auto& level : ops::cpu_levels()) {
    const testing::LevelScope scope(level);
    for (const int group_size : {1, 5, 16, 32, 76, 77, 100}) {
      for (const int bits : {2, 3, 4, 6, 8}) {
        for (const bool learned : {false, true}) {
          InputQuantizer quantizer = quantizer_of(bits, learned);
          quantizer.group_size = group_size;
          const at::Tensor got = ops::group_quantize_cpu(
              x, group_size, quantizer.max_product_code(), codebook(quantizer));
          EXPECT_TRUE(at::allclose(got, product_input(x, quantizer), 0, 0, /*equal_nan=*/true))
              << level << " " << group_size << " " << bits << learned;
        }
      }
    }
    EXPECT_THROW(ops::group_quantize_cpu(x, 0, 7, {}), c10::Error);
    EXPECT_THROW(ops::group_quantize_cpu(x, 32, 256, {}), c10::Error);
    EXPECT_THROW(ops::group_quantize_cpu(x.to(at::kDouble), 32, 7, {}), c10::Error);
    EXPECT_EQ(ops::group_quantize_cpu(x.slice(0, 0, 0), 32, 7, {}).numel(), 0);
  }
}

TEST(TokenOperators, ChannelsAreScaledAndShiftedOnTheWay) {
  at::manual_seed(12);
  const at::Tensor x = rows();
  const at::Tensor multiplier = at::rand({x.size(-1)}) + 0.5, offset = at::randn({x.size(-1)});
  for (const auto& level : ops::cpu_levels()) {
    const testing::LevelScope scope(level);
    const auto equal = [&](const auto& got, const at::Tensor& scaled) {
      const auto [codes, grids] = ops::token_quantize_cpu(scaled, 255, {});
      EXPECT_TRUE(at::equal(std::get<0>(got), codes)) << level;
      EXPECT_TRUE(at::equal(std::get<1>(got), grids)) << level;
    };
    equal(ops::token_quantize_cpu(x, 255, {}, multiplier, offset), x * multiplier + offset);
    equal(ops::token_quantize_cpu(x, 255, {}, multiplier), x * multiplier);
    // One value by a vector: the product is wider than x.
    const at::Tensor narrow = at::randn({5, 1});
    equal(ops::token_quantize_cpu(narrow, 255, {}, multiplier, offset),
          narrow * multiplier + offset);
  }
}

TEST(TokenOperators, ARowThatIsNotFiniteGetsAGridThatIsNot) {
  at::Tensor x = at::randn({3, 40});
  x[0][39] = std::numeric_limits<float>::quiet_NaN();
  x[1][3] = std::numeric_limits<float>::infinity();
  for (const auto& level : ops::cpu_levels()) {
    const testing::LevelScope scope(level);
    const at::Tensor grids = std::get<1>(ops::token_quantize_cpu(x, 255, {}));
    EXPECT_FALSE(grids[0][0].isfinite().item<bool>()) << level;
    EXPECT_FALSE(grids[1][0].isfinite().item<bool>()) << level;
    EXPECT_TRUE(grids[2].isfinite().all().item<bool>()) << level;
  }
}

TEST(TokenOperators, NormsAreComputedOnTheWay) {
  at::manual_seed(12);
  const at::Tensor x = at::randn({4, 9, 50}) * 3 + 1, weight = at::rand({50}),
                   bias = at::randn({50});
  const InputQuantizer quantizer = per_token_quantizer(8);
  for (const auto& level : ops::cpu_levels()) {
    const testing::LevelScope scope(level);
    for (const bool mean_square : {false, true}) {
      const at::Tensor y = mean_square ? at::rms_norm(x, {50}, weight, 1e-5) + bias
                                       : at::layer_norm(x, {50}, weight, bias, 1e-5);
      const auto [codes, grids] = ops::norm_tokens_cpu(x, weight, bias, 1e-5, mean_square, 255, {});
      EXPECT_TRUE(at::allclose(grids, grids_of(y, quantizer), 1e-5, 1e-5)) << level;
      const auto difference = testing::difference(codes, encode(y, quantizer).to(at::kByte));
      EXPECT_LE(difference.largest, 1) << level;
      EXPECT_LE(difference.count, codes.numel() / 200) << level;
    }
  }
}

TEST(TokenOperators, NormsAreGivenBackWhereOthersReadThem) {
  at::manual_seed(14);
  const at::Tensor x = at::randn({4, 9, 50}) * 3 + 1, weight = at::rand({50}),
                   bias = at::randn({50}), multiplier = at::rand({50}) + 0.5,
                   offset = at::randn({50});
  for (const auto& level : ops::cpu_levels()) {
    const testing::LevelScope scope(level);
    for (const bool mean_square : {false, true}) {
      const at::Tensor expected = mean_square ? at::rms_norm(x, {50}, weight, 1e-5) + bias
                                              : at::layer_norm(x, {50}, weight, bias, 1e-5);
      const auto [y, codes, grids] =
          ops::norm_and_tokens_cpu(x, weight, bias, 1e-5, mean_square, 255, {}, multiplier, offset);
      EXPECT_TRUE(at::allclose(y, expected, 1e-5, 1e-5)) << level;
      const auto [scaled_codes, scaled_grids] =
          ops::token_quantize_cpu(y, 255, {}, multiplier, offset);
      EXPECT_TRUE(at::equal(codes, scaled_codes)) << level;
      EXPECT_TRUE(at::equal(grids, scaled_grids)) << level;
      const auto plain = ops::norm_and_tokens_cpu(x, weight, bias, 1e-5, mean_square, 255, {});
      const auto alone = ops::norm_tokens_cpu(x, weight, bias, 1e-5, mean_square, 255, {});
      EXPECT_TRUE(at::equal(std::get<0>(plain), y)) << level;
      EXPECT_TRUE(at::equal(std::get<1>(plain), std::get<0>(alone))) << level;
    }
  }
  EXPECT_THROW(ops::norm_and_tokens_cpu(x, weight, bias, 1e-5, false, 255, {}, {}, offset),
               c10::Error);
  EXPECT_THROW(ops::norm_and_tokens_cpu(x, weight, bias, 1e-5, false, 255, {}, offset.slice(0, 1)),
               c10::Error);
}

class TokenLinear : public ::testing::Test {
 protected:
  TokenLinear() {
    at::manual_seed(13);
    plan.weight.codes = testing::random_codes(-7, 7, {70, 77}, at::kChar);
    plan.weight.scale = at::rand({70}) / 50;
    plan.weight.bits = 4;
    plan.bias = at::randn({70});
    plan.input = per_token_quantizer(8);
    packed = testing::pack(plan.weight.codes, 4);
    none = at::zeros_like(packed.sums);
    x = at::randn({3, 41, 77}) * at::logspace(-1, 2, 41).view({1, 41, 1}) + 1;
    std::tie(codes, grids) = ops::token_quantize_cpu(x, 255, {});
  }

  LinearPlan plan;
  testing::PackedWeight packed;
  at::Tensor none, x, codes, grids;
};

TEST_F(TokenLinear, IsTheSimulatedLinear) {
  const at::Tensor expected = simulate_linear(plan, x), residual = at::randn_like(expected);
  for (const auto& level : ops::cpu_levels()) {
    const testing::LevelScope scope(level);
    const at::Tensor y =
        ops::linear_cpu(codes, packed.weight, none, testing::padded(plan.weight.scale),
                        testing::padded(plan.bias), {}, {}, residual, 70, 77, 4, 0, 0, 0, 255,
                        false, grids, testing::padded(weight_sums(plan.weight)));
    EXPECT_LT(apart(y, expected + residual), 1e-6) << level;
  }
}

TEST_F(TokenLinear, CodesAndGridsOfItsOwnOutputForAnyThreads) {
  const at::Tensor expected = at::relu(simulate_linear(plan, x));
  for (const auto& level : ops::cpu_levels()) {
    const testing::LevelScope scope(level);
    at::Tensor first;
    for (const int threads : {1, 2}) {
      const int before = at::get_num_threads();
      at::set_num_threads(threads);
      const auto [made, rows] =
          ops::linear_tokens_cpu(codes, packed.weight, none, testing::padded(plan.weight.scale),
                                 testing::padded(plan.bias), 70, 77, 4, 1, grids,
                                 testing::padded(weight_sums(plan.weight)), 255, {});
      at::set_num_threads(before);
      EXPECT_LT(apart(rows, grids_of(expected, plan.input)), 1e-5) << level;
      const auto difference = testing::difference(made, encode(expected, plan.input).to(at::kByte));
      EXPECT_LE(difference.largest, 1) << level;
      EXPECT_LE(difference.count, made.numel() / 200) << level;
      if (!first.defined()) first = made;
      EXPECT_TRUE(at::equal(first, made)) << level;
    }
  }
}

TEST_F(TokenLinear, ScalesTheChannelsOfItsOutput) {
  const at::Tensor scale = testing::padded(plan.weight.scale), bias = testing::padded(plan.bias);
  const at::Tensor sums = testing::padded(weight_sums(plan.weight));
  const at::Tensor multiplier = at::rand({70}) + 0.5, offset = at::randn({70});
  for (const auto& level : ops::cpu_levels()) {
    const testing::LevelScope scope(level);
    const at::Tensor y = ops::linear_cpu(codes, packed.weight, none, scale, bias, {}, {}, {}, 70,
                                         77, 4, 2, 0, 0, 255, false, grids, sums);
    for (const bool shifted : {false, true}) {
      const std::optional<at::Tensor> added = shifted ? std::optional(offset) : std::nullopt;
      const auto [expected, expected_rows] = ops::token_quantize_cpu(y, 255, {}, multiplier, added);
      const auto [made, rows] =
          ops::linear_tokens_cpu(codes, packed.weight, none, scale, bias, 70, 77, 4, 2, grids, sums,
                                 255, {}, multiplier, added);
      EXPECT_TRUE(at::equal(made, expected)) << level;
      EXPECT_TRUE(at::equal(rows, expected_rows)) << level;
    }
  }
  EXPECT_THROW(ops::linear_tokens_cpu(codes, packed.weight, none, scale, bias, 70, 77, 4, 2, grids,
                                      sums, 255, {}, multiplier.slice(0, 1)),
               c10::Error);
  EXPECT_THROW(ops::linear_tokens_cpu(codes, packed.weight, none, scale, bias, 70, 77, 4, 2, grids,
                                      sums, 255, {}, {}, offset),
               c10::Error);
}

TEST_F(TokenLinear, RefusesGridsOfOtherRows) {
  EXPECT_THROW(ops::linear_cpu(codes, packed.weight, none, testing::padded(plan.weight.scale),
                               testing::padded(plan.bias), {}, {}, {}, 70, 77, 4, 0, 0, 0, 255,
                               false, grids.slice(1, 1), testing::padded(plan.bias)),
               c10::Error);
  EXPECT_THROW(ops::token_quantize_cpu(x, 256, {}), c10::Error);
  EXPECT_THROW(ops::token_quantize_cpu(x, 15, at::zeros({16}, at::kByte)), c10::Error);
}

}  // namespace
}  // namespace repquant
