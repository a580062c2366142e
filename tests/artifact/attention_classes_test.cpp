// The TorchScript classes of attention against the floating-point simulation of their plans.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

#include "artifact/class_module.h"
#include "artifact/classes.h"
#include "plan/simulate.h"

namespace repquant {
namespace {

using testing::expect_close;
using testing::expect_close_codes;
using testing::reloaded;
using testing::run;
using testing::scalar;
using torch::jit::Module;

class AttentionClasses : public testing::ClassesTest {};

OperandQuantizer per_head(int bits, std::int64_t heads, double range) {
  OperandQuantizer operand;
  operand.bits = bits;
  operand.scale = (at::rand({heads, 1, 1}) + 0.5) * range / static_cast<double>(1 << bits);
  operand.multiplier = operand.scale.reciprocal();
  operand.zero_point = at::randint((1 << bits) / 3, (1 << bits) / 2, {heads, 1, 1}, at::kFloat);
  return operand;
}

std::int64_t shift_of(const OperandQuantizer& operand) { return operand.bits == 8 ? 128 : 0; }

at::Tensor stored_codes(const at::Tensor& x, const OperandQuantizer& operand) {
  return (encode(x, operand) - static_cast<double>(shift_of(operand))).to(at::kChar);
}

ScoresState lowered(const ScoresPlan& plan) {
  ScoresState state;
  state.left_zero = plan.left.zero_point - static_cast<double>(shift_of(plan.left));
  state.right_zero = (plan.right.zero_point - static_cast<double>(shift_of(plan.right))).mT();
  state.left_bits = plan.left.bits;
  state.right_bits = plan.right.bits;
  state.scale = plan.scale();
  return state;
}

// Keys with a zero point and both operands with a scale by channel.
TEST_F(AttentionClasses, ScoresOfEqualizedChannels) {
  for (const std::int64_t size : {20, 130}) {
    for (const int bits : {4, 8}) {
      ScoresPlan plan{per_head(bits, 3, 6.0), per_head(bits, 3, 6.0)};
      const at::Tensor ratio = at::rand({3, 1, 64}) + 0.5;
      plan.left.scale = plan.left.scale / ratio;
      plan.right.scale = (plan.right.scale * ratio).transpose(1, 2).contiguous();
      for (OperandQuantizer* operand : {&plan.left, &plan.right}) {
        operand->multiplier = operand->scale.reciprocal();
      }
      plan.right.zero_point =
          plan.right.zero_point + at::randint(-300, 300, {3, 64, 1}, at::kFloat);
      const at::Tensor left = at::randn({2, 3, size, 64});
      const at::Tensor right =
          (at::randn({2, 3, 64, size}) * 20 - plan.right.zero_point) * plan.right.scale;
      expect_close(run(reloaded(factory.scores(lowered(plan))),
                       {stored_codes(left, plan.left), stored_codes(right, plan.right)}),
                   simulate_scores(plan, left, right));
    }
  }
}

TEST_F(AttentionClasses, ScoresLargeAndSmall) {
  // 130 x 130 x 64 takes the integer product, 20 x 33 x 16 the floating-point one.
  for (const auto& [rows, columns, depth] :
       std::vector<std::tuple<std::int64_t, std::int64_t, std::int64_t>>{{130, 131, 64},
                                                                         {20, 33, 16}}) {
    for (const int bits : {4, 8}) {
      const ScoresPlan plan{per_head(bits, 3, 6.0), per_head(bits, 3, 6.0)};
      const at::Tensor left = at::randn({2, 3, rows, depth});
      const at::Tensor right = at::randn({2, 3, columns, depth}).transpose(2, 3);
      const at::Tensor a = stored_codes(left, plan.left), b = stored_codes(right, plan.right);
      ScoresState state = lowered(plan);
      expect_close(run(reloaded(factory.scores(state)), {a, b}),
                   simulate_scores(plan, left, right));
      state.raw = true;
      const at::Tensor raw =
          at::matmul(encode(left, plan.left) - plan.left.zero_point, b.to(at::kFloat));
      EXPECT_TRUE(at::equal(run(reloaded(factory.scores(state)), {a, b}), raw));
    }
  }
}

AttendState lowered(const AttendPlan& plan) {
  AttendState state;
  const double steps = plan.uniform ? 1.0 : plan.grid.steps_per_octave;
  state.factor = scalar(std::log2(std::exp(1.0)) * steps);
  state.bits = plan.bits;
  state.uniform = plan.uniform;
  state.u8_table = plan.grid.u8_table;
  state.zero_code = plan.grid.zero_code;
  state.steps_per_octave = plan.grid.steps_per_octave;
  state.row_maximum = plan.row_maximum;
  state.softmax_scale = plan.softmax_scale;
  state.value_zero = plan.value.zero_point - static_cast<double>(shift_of(plan.value));
  state.multiplier = plan.value.scale;
  if (!plan.row_maximum) {
    double unit = plan.softmax_scale;
    if (plan.uniform) unit /= static_cast<double>((1 << plan.bits) - 1);
    if (!plan.uniform && plan.grid.u8_table) unit /= 255.0;
    state.multiplier = plan.value.scale * unit;
  }
  return state;
}

TEST_F(AttentionClasses, AttendAllGrids) {
  const double infinity = std::numeric_limits<double>::infinity();
  at::Tensor scores = at::randn({2, 3, 30, 40}) * 4;
  scores.slice(3, 35).slice(2, 0, 10).fill_(-infinity);
  scores.select(2, 3).fill_(-infinity);
  const at::Tensor value = at::randn({2, 3, 40, 16});
  for (const int bits : {4, 6, 8}) {
    for (const bool row_maximum : {true, false}) {
      for (const bool zero_code : {true, false}) {
        for (const int form : {0, 1, 2}) {  // log, log with u8 table, uniform
          AttendPlan plan;
          plan.bits = bits;
          plan.grid =
              LogGrid{bits, bits <= 4 ? 2.0 : (bits <= 6 ? 4.0 : 8.0), zero_code, form == 1};
          plan.uniform = form == 2;
          plan.row_maximum = row_maximum;
          plan.softmax_scale = row_maximum ? 1.0 : 0.8;
          plan.value = per_head(bits, 3, 6.0);
          const at::Tensor expected = simulate_attend(plan, scores, value);
          const at::Tensor got = run(reloaded(factory.attend(lowered(plan))),
                                     {scores, stored_codes(value, plan.value), 1.0});
          EXPECT_FALSE(got.isnan().any().item<bool>());
          EXPECT_EQ(got.select(2, 3).abs().max().item<double>(), 0.0);
          // A tie in one softmax code moves one output by a few percent at most.
          const at::Tensor difference = (got - expected).abs() / expected.abs().max();
          EXPECT_LE(difference.gt(1e-5).to(at::kDouble).mean().item<double>(), 2e-3)
              << bits << row_maximum << zero_code << form;
        }
      }
    }
  }
}

TEST_F(AttentionClasses, AttendLeavesForeignScoresAlone) {
  AttendPlan plan;
  plan.grid = LogGrid{4, 2, true, false};
  plan.value = per_head(4, 3, 6.0);
  const at::Tensor scores = at::randn({1, 3, 5, 6});
  const at::Tensor before = scores.clone();
  run(factory.attend(lowered(plan)),
      {scores, stored_codes(at::randn({1, 3, 6, 4}), plan.value), 1.0});
  EXPECT_TRUE(at::equal(scores, before));
}

TEST_F(AttentionClasses, AttendToNoKeysGivesZeros) {
  for (const bool row_maximum : {true, false}) {
    AttendPlan plan;
    plan.grid = LogGrid{4, 2, true, false};
    plan.row_maximum = row_maximum;
    plan.value = per_head(4, 3, 6.0);
    const Module module = factory.attend(lowered(plan));
    for (const std::int64_t rows : {0, 5}) {
      const at::Tensor y = run(module, {at::zeros({2, 3, rows, 0}),
                                        stored_codes(at::zeros({2, 3, 0, 4}), plan.value), 1.0});
      EXPECT_TRUE(at::equal(y, at::zeros({2, 3, rows, 4})));
    }
  }
}

TEST_F(AttentionClasses, AttendWritesCodesOfTheNextInput) {
  AttendPlan plan;
  plan.grid = LogGrid{4, 2, true, false};
  plan.value = per_head(4, 3, 6.0);
  for (const int bits : {4, 8}) {
    const InputQuantizer next = testing::input_of(bits);
    AttendState state = lowered(plan);
    state.multiplier = plan.value.scale * next.multiplier;
    state.offset = next.offset;
    state.output_max_code = next.max_code();
    const at::Tensor scores = at::randn({2, 3, 30, 40}) * 4;
    const at::Tensor value = at::randn({2, 3, 40, 16});
    const at::Tensor got =
        run(reloaded(factory.attend(state)), {scores, stored_codes(value, plan.value), 1.0});
    EXPECT_EQ(got.scalar_type(), at::kByte);
    expect_close_codes(got, encode(simulate_attend(plan, scores, value), next));
  }
}

}  // namespace
}  // namespace repquant
