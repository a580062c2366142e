#include "plan/simulate.h"
#include "support/random.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace repquant {
namespace {

at::Tensor row(std::initializer_list<double> values) {
  return at::tensor(std::vector<double>(values)).to(at::kFloat);
}

LinearPlan hand_made_linear() {
  LinearPlan plan;
  plan.input.bits = 4;
  plan.input.multiplier = row({2.0});
  plan.input.offset = row({3.0});
  plan.input.scale = 0.5;
  plan.input.zero_point = 3;
  plan.weight.codes = at::tensor(std::vector<int>{1, -2, 3, 0, 5, -7}).to(at::kChar).view({2, 3});
  plan.weight.scale = row({0.25, 2.0});
  plan.weight.bits = 4;
  plan.bias = row({10.0, -1.0});
  return plan;
}

TEST(Simulate, UniformLinearByHand) {
  const LinearPlan plan = hand_made_linear();
  const at::Tensor x = row({0.5, -1.5, 100.0}).view({1, 3});
  // x m + a = 4, 0, 203 -> 4, 0, 15; minus zero point: 1, -3, 12.
  EXPECT_TRUE(at::equal(encode(x, plan.input), row({4, 0, 15}).view({1, 3})));
  const at::Tensor y = simulate_linear(plan, x);
  EXPECT_FLOAT_EQ(y[0][0].item<float>(), 0.5F * 0.25F * (1 + 6 + 36) + 10.0F);
  EXPECT_FLOAT_EQ(y[0][1].item<float>(), 0.5F * 2.0F * (-15 - 84) - 1.0F);
}

TEST(Simulate, TiesRoundToEven) {
  InputQuantizer quantizer;
  quantizer.bits = 8;
  quantizer.multiplier = row({1.0});
  quantizer.offset = row({10.0});
  EXPECT_TRUE(at::equal(encode(row({0.5, 1.5, -0.5, -1.5}), quantizer), row({10, 12, 10, 8})));
}

TEST(Simulate, QuadraticCodesAreNearestInValue) {
  InputQuantizer quantizer;
  quantizer.bits = 4;
  quantizer.form = CodeForm::kQuadratic;
  quantizer.multiplier = row({1.0});
  quantizer.offset = row({2.0});
  quantizer.zero_point = 2;
  const at::Tensor x = at::arange(-20, 300, at::kFloat);
  const at::Tensor codes = encode(x, quantizer);
  const at::Tensor squares = at::arange(0, 16, at::kFloat).square() - 2.0;
  const at::Tensor best = std::get<0>((x.unsqueeze(1) - squares.unsqueeze(0)).abs().min(1));
  EXPECT_TRUE(at::equal((x - (codes.square() - 2.0)).abs(), best));
  EXPECT_EQ(codes.max().item<float>(), 15.0F);
  EXPECT_EQ(codes.min().item<float>(), 0.0F);
}

TEST(Simulate, ChannelVectorsActPerChannel) {
  LinearPlan plan = hand_made_linear();
  plan.input.multiplier = row({1.0, 2.0, 4.0});
  plan.input.offset = row({0.0, 1.0, 2.0});
  const at::Tensor codes = encode(row({3.0, 3.0, 3.0}), plan.input);
  EXPECT_TRUE(at::equal(codes, row({3, 7, 14})));
}

TEST(Simulate, TokensHaveGridsOfTheirOwn) {
  LinearPlan plan = hand_made_linear();
  plan.input = per_token_quantizer(4);
  EXPECT_EQ(plan.input.max_product_code(), 15);
  const at::Tensor x =
      at::stack({row({-5, 10, 2.5}), row({0, 0, 0}), row({100, 400, 250}), row({3, 3, 3})});
  const TokenGrids grids = token_grids(x, plan.input);
  EXPECT_TRUE(at::allclose(grids.low.squeeze(1), row({-5, 0, 100, 3})));
  EXPECT_TRUE(at::allclose(grids.step.squeeze(1).index({at::tensor({0, 2})}), row({1, 20})));
  EXPECT_EQ(grids.step[1].item<float>(), std::numeric_limits<float>::min());
  // 7.5 rounds to even; rows of one value have codes 0.
  const at::Tensor codes =
      at::stack({row({0, 15, 8}), row({0, 0, 0}), row({0, 15, 8}), row({0, 0, 0})});
  EXPECT_TRUE(at::equal(encode(x, plan.input), codes));
  const at::Tensor exact =
      at::stack({row({-5, 10, 3}), row({0, 0, 0}), row({100, 400, 260}), row({3, 3, 3})});
  EXPECT_TRUE(at::allclose(fake_quantize(x, plan.input), exact));
  EXPECT_TRUE(at::allclose(product_input(x, plan.input), exact));
  // Weights {0.25, -0.5, 0.75} and {0, 10, -14}; the bias is not scaled.
  const at::Tensor weight = at::stack({row({0.25, -0.5, 0.75}), row({0, 10, -14})});
  EXPECT_TRUE(at::allclose(weight_sums(plan.weight), weight.sum(1)));
  const at::Tensor expected = at::linear(exact, weight, row({10, -1}));
  EXPECT_TRUE(at::allclose(simulate_linear(plan, x), expected, 1e-5, 1e-4));
}

TEST(Simulate, GroupsHaveGridsOfTheirOwn) {
  InputQuantizer quantizer = per_token_quantizer(2);
  quantizer.group_size = 2;
  // 10 .. 13, 0 .. 300 and one column alone, which has itself.
  const at::Tensor x = at::stack({row({10, 13, 0, 300, 7}), row({-1, -1, 2, 1.1, -4})});
  EXPECT_TRUE(at::equal(fake_quantize(x, quantizer),
                        at::stack({row({10, 13, 0, 300, 7}), row({-1, -1, 2, 1.1, -4})})));
  quantizer.group_size = 3;
  const at::Tensor codes = at::stack({row({2, 3, 0, 3, 0}), row({0, 0, 3, 3, 0})});
  EXPECT_TRUE(at::equal(encode(x, quantizer), codes));
  const at::Tensor exact = at::stack({row({26.0 / 3, 13, 0, 300, 7}), row({-1, -1, 2, 1.1, -4})});
  EXPECT_TRUE(at::allclose(fake_quantize(x, quantizer), exact));
  EXPECT_TRUE(at::equal(join_groups(split_groups(x, quantizer), quantizer, 5), x));
  LinearPlan plan = hand_made_linear();
  plan.input = quantizer;
  plan.input.group_size = 2;
  plan.weight.group_size = 2;
  plan.weight.scale = at::tensor({0.25F, 1.0F, 2.0F, 0.5F}).view({2, 2});
  const at::Tensor short_rows = x.slice(1, 0, 3).contiguous();
  const at::Tensor expected =
      at::linear(fake_quantize(short_rows, plan.input), plan.weight.dequantize(), plan.bias);
  EXPECT_TRUE(at::allclose(simulate_linear(plan, short_rows), expected));
  InputQuantizer whole = quantizer;
  whole.group_size = 0;
  EXPECT_FALSE(same_codes(quantizer, whole));
}

TEST(Simulate, TokensReachBothEndsOfTheirRange) {
  for (const int bits : {2, 3, 8}) {
    const auto quantizer = per_token_quantizer(bits);
    const double top = (1 << bits) - 1;
    const at::Tensor x = at::linspace(-2, 8, 2001).unsqueeze(0);
    const at::Tensor codes = encode(x, quantizer);
    EXPECT_EQ(codes.min().item<double>(), 0.0);
    EXPECT_EQ(codes.max().item<double>(), top);
    EXPECT_LE((fake_quantize(x, quantizer) - x).abs().max().item<double>(), 5 / top * 1.0001);
  }
}

TEST(Simulate, LevelsAreNearestOnTheFineGrid) {
  InputQuantizer quantizer = per_token_quantizer(2);
  quantizer.levels = at::tensor(std::vector<int>{0, 10, 21, 255}).to(at::kByte);
  EXPECT_EQ(quantizer.max_product_code(), 255);
  // Row 0 .. 255, so that the fine grid is the row itself; 5 lies between 0 and 10: the lower one.
  const at::Tensor x = row({0, 5, 6, 15, 16, 138, 139, 255});
  EXPECT_TRUE(at::equal(encode(x, quantizer), row({0, 0, 1, 1, 2, 2, 3, 3})));
  EXPECT_TRUE(at::allclose(fake_quantize(x, quantizer), row({0, 0, 10, 10, 21, 21, 255, 255})));
  const at::Tensor table = level_table(quantizer.levels);
  EXPECT_EQ(table.numel(), 256);
  EXPECT_EQ(table[5].item<int>(), 0);
  EXPECT_EQ(table[6].item<int>(), 10);
  const InputQuantizer uniform = per_token_quantizer(2);
  EXPECT_FALSE(same_codes(quantizer, uniform));
}

TEST(Simulate, ARowThatIsNotFiniteSpoilsItselfAlone) {
  InputQuantizer quantizer = per_token_quantizer(4);
  LinearPlan plan = hand_made_linear();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const at::Tensor x = at::stack({row({1, nan, 2}), row({-5, 10, 2.5})});
  for (const bool learned : {false, true}) {
    if (learned) quantizer.levels = at::arange(0, 256, 17, at::kByte);
    plan.input = quantizer;
    const at::Tensor y = simulate_linear(plan, x);
    EXPECT_TRUE(y[0].isnan().all().item<bool>());
    EXPECT_TRUE(at::equal(y[1], simulate_linear(plan, x.slice(0, 1))[0]));
  }
}

TEST(Simulate, TokensSpanWhatTheNormCarries) {
  InputQuantizer quantizer = per_token_quantizer(8);
  quantizer.multiplier = row({1, 0.01, 10});
  quantizer.offset = row({0, 1, -3});
  const at::Tensor x = row({2, 300, 0.7});
  EXPECT_TRUE(at::allclose(product_input(x, quantizer), row({2, 4, 4}), 1e-5, 1e-4));
  EXPECT_TRUE(at::allclose(fake_quantize(x, quantizer), x, 1e-2, 1e-2));
}

TEST(Simulate, SideColumnsReplaceTheirChannel) {
  LinearPlan plan = hand_made_linear();
  plan.weight.codes.select(1, 2).zero_();
  plan.side.channels = {2};
  plan.side.scale = row({2.0});
  plan.side.zero_point = row({7.0});
  plan.side.weight.codes = at::tensor(std::vector<int>{100, -50}).to(at::kChar).view({2, 1});
  plan.side.weight.scale = row({0.125, 0.5});
  const at::Tensor y = simulate_linear(plan, row({0.5, -1.5, 101.0}).view({1, 3}));
  // 101 / 2 + 7 = 57.5 -> 58 (even); x^ = 2 (58 - 7) = 102.
  EXPECT_FLOAT_EQ(y[0][0].item<float>(), 0.5F * 0.25F * 7 + 10.0F + 102.0F * 12.5F);
  EXPECT_FLOAT_EQ(y[0][1].item<float>(), 0.5F * 2.0F * -15 - 1.0F - 102.0F * 25.0F);
}

TEST(Simulate, WeightOnlyLeavesTheInputAlone) {
  LinearPlan plan = hand_made_linear();
  plan.quantized_input = false;
  const at::Tensor y = simulate_linear(plan, row({0.3, 0.1, -0.7}).view({1, 3}));
  EXPECT_NEAR(y[0][0].item<double>(), 0.25 * (0.3 - 0.2 - 2.1) + 10.0, 1e-6);
}

OperandQuantizer operand(int bits, double scale, double zero_point) {
  return {bits, row({1.0 / scale}), row({scale}), row({zero_point})};
}

AttendPlan attend_plan() {
  AttendPlan plan;
  plan.bits = 4;
  plan.grid = LogGrid{4, 2, true, false};
  plan.value = operand(8, 0.5, 128);
  return plan;
}

TEST(Simulate, ScoresByHand) {
  const ScoresPlan plan{operand(4, 0.5, 8), operand(4, 0.25, 7)};
  const at::Tensor left = row({1.0, -1.0}).view({1, 2});
  const at::Tensor right = row({0.5, 9.0}).view({2, 1});
  // codes 10 - 8 = 2 and 6 - 8 = -2; 9 - 7 = 2 and clamp 15 - 7 = 8.
  EXPECT_FLOAT_EQ(simulate_scores(plan, left, right).item<float>(), 0.125F * (4 - 16));
}

TEST(Simulate, RowMaximumWeightsAndCodeSum) {
  const AttendPlan plan = attend_plan();
  const double half_octave = std::log(2.0) / 2;
  const at::Tensor scores = row({5.0, 5.0 - 2 * half_octave, 5.0 - 40 * half_octave}).view({1, 3});
  const at::Tensor weights = simulate_softmax_weights(plan, scores);
  EXPECT_TRUE(at::allclose(weights, row({1.0, 0.5, 0.0}).view({1, 3})));
  const at::Tensor value = row({3.0, 6.0, 60.0}).view({3, 1});
  EXPECT_NEAR(simulate_attend(plan, scores, value).item<double>(), (3.0 + 3.0) / 1.5, 1e-6);
}

TEST(Simulate, FullyMaskedRowsGiveZero) {
  const double infinity = std::numeric_limits<double>::infinity();
  AttendPlan plan = attend_plan();
  const at::Tensor scores = row({-infinity, -infinity, 0.0, -infinity}).view({2, 2});
  const at::Tensor value = row({3.0, 6.0}).view({2, 1});
  for (const bool uniform : {false, true}) {
    for (const bool row_maximum : {false, true}) {
      plan.uniform = uniform;
      plan.row_maximum = row_maximum;
      const at::Tensor output = simulate_attend(plan, scores, value);
      EXPECT_EQ(output[0].item<float>(), 0.0F);
      EXPECT_NEAR(output[1].item<float>(), 3.0F, 1e-6);
    }
  }
}

TEST(Simulate, UniformGridIsCloseToSoftmaxAtEightBits) {
  AttendPlan plan = attend_plan();
  plan.bits = 8;
  plan.uniform = true;
  const at::Tensor scores = at::linspace(-3.0, 2.0, 60).view({6, 10}).cos() * 4.0;
  const at::Tensor value = at::linspace(-10.0, 10.0, 20).view({10, 2});
  const at::Tensor exact = at::matmul(at::softmax(scores, -1), fake_quantize(value, plan.value));
  EXPECT_LT((simulate_attend(plan, scores, value) - exact).abs().max().item<double>(), 0.1);
}

TEST(Simulate, PerTensorFormDoesNotDivide) {
  AttendPlan plan = attend_plan();
  plan.row_maximum = false;
  plan.softmax_scale = 1.0;
  const at::Tensor scores = at::zeros({1, 3});  // p = 1/3: round(2 log2 3) = 3, weight 2^-1.5
  const at::Tensor value = row({1.0, 1.0, 1.0}).view({3, 1});
  EXPECT_NEAR(simulate_attend(plan, scores, value).item<double>(), 3 * std::pow(2.0, -1.5), 1e-6);
}

TEST(SimulateScores, AScaleForEachToken) {
  testing::Random random(5);
  at::Tensor q = random.normal({2, 3, 40, 16}), k = random.normal({2, 3, 50, 16});
  q[0][1][7] *= 1000;  // a massive token spoils itself alone
  k[1][2][4].fill_(0);
  const OperandQuantizer plain{.multiplier = at::ones({1}),
                               .scale = at::ones({1}),
                               .zero_point = at::zeros({1}),
                               .per_token = true};
  for (const auto& [bits, db] : {std::pair{3, 11.0}, {4, 17.0}, {7, 36.0}, {8, 41.0}}) {
    ScoresPlan plan{plain, plain};
    plan.left.bits = plan.right.bits = bits;
    const at::Tensor exact = at::matmul(q, k.mT());
    const at::Tensor scores = simulate_scores(plan, q, k.mT()), noise = scores - exact;
    const ScoresOperands operands = simulate_operands(plan, q, k.mT());
    EXPECT_TRUE(at::allclose(at::matmul(operands.left, operands.right), scores, 1e-4, 1e-3));
    const at::Tensor rows = exact.square().sum({0, 3}) / noise.square().sum({0, 3});
    EXPECT_GT(10 * std::log10(rows.min().item<double>()), db - 5) << bits;
    EXPECT_GT(10 * std::log10(rows.median().item<double>()), db) << bits;
    const OperandRows codes = operand_rows(q, bits);
    EXPECT_EQ(codes.codes.abs().max().item<double>(), operand_top(bits));
    EXPECT_TRUE(
        at::allclose(codes.codes * codes.scale, q, 0.0, 1e-6 + codes.scale.max().item<double>()));
    if (bits < 8) {  // as many on both sides, 0 is none of them
      EXPECT_TRUE(codes.codes.remainder(2).eq(1).all().item<bool>());
      EXPECT_EQ(std::get<0>(at::_unique(codes.codes)).numel(), 1 << bits);
    }
  }
}

TEST(SimulateScores, CentredKeysMoveWholeRows) {
  testing::Random random(6);
  const at::Tensor q = random.normal({3, 40, 16}), mean = random.normal({3, 1, 16}) * 5,
                   k = random.normal({3, 50, 16}) + mean,
                   ratio = (random.normal({3, 1, 16}) * 0.3).exp();
  const OperandQuantizer left{
      .multiplier = ratio, .scale = at::ones({1}), .zero_point = at::zeros({1}), .per_token = true};
  OperandQuantizer right = left;
  right.multiplier = ratio.reciprocal();
  right.zero_point = -mean / ratio;
  const ScoresPlan plan{left, right};
  const at::Tensor exact = at::matmul(q, k.mT()), got = simulate_scores(plan, q, k.mT());
  EXPECT_FALSE(at::allclose(got, exact, 0.0, 1.0));
  const at::Tensor seen = comparable_scores(plan, exact);
  EXPECT_TRUE(at::allclose(seen.mean(-1), at::zeros({3, 40}), 0.0, 1e-4));
  EXPECT_TRUE(at::allclose(comparable_scores(plan, got), seen, 0.0,
                           0.05 * seen.abs().max().item<double>()));
}

}  // namespace
}  // namespace repquant
