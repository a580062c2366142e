// Operands of an attention on a scale of each row's own.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

#include "ops/levels.h"
#include "ops/operators.h"
#include "plan/simulate.h"

namespace repquant {
namespace {

void expect_rows(const at::Tensor& x, int bits) {
  const OperandRows expected = operand_rows(x, bits);
  for (const auto& level : ops::cpu_levels()) {
    const testing::LevelScope scope(level);
    const auto [codes, scale] = ops::operand_rows_cpu(x, bits);
    EXPECT_TRUE(at::equal(scale, expected.scale)) << level << " " << bits << " " << x.sizes();
    EXPECT_TRUE(at::equal(codes, expected.codes.to(at::kChar)))
        << level << " " << bits << " " << x.sizes();
  }
}

TEST(OperandRowsOperator, IsTheSimulationAtEveryLevel) {
  at::manual_seed(31);
  for (const int bits : {2, 3, 4, 6, 7, 8}) {
    for (const std::int64_t width : {1, 5, 16, 64, 70}) {
      at::Tensor x = at::randn({2, 3, 9, width}) * 5 - 1;
      x[1][2][3].fill_(0);
      x[0][0][1].fill_(-2.5);
      expect_rows(x, bits);
    }
  }
}

TEST(OperandRowsOperator, ReadsViews) {
  at::manual_seed(32);
  const at::Tensor qkv = at::randn({2, 9, 3, 4, 16});
  const at::Tensor q = qkv.select(2, 1).transpose(1, 2);  // [B, H, T, d]
  expect_rows(q, 8);
  expect_rows(q.transpose(-1, -2), 4);
  expect_rows(qkv.permute({2, 0, 3, 1, 4}), 4);
  expect_rows(q[0][0], 4);
  expect_rows(q[0], 4);
}

TEST(OperandRowsOperator, ARowThatIsNotFiniteHasAScaleThatIsNot) {
  at::Tensor x = at::randn({3, 40});
  x[0][39] = std::numeric_limits<float>::quiet_NaN();
  x[1][3] = std::numeric_limits<float>::infinity();
  for (const auto& level : ops::cpu_levels()) {
    const testing::LevelScope scope(level);
    const at::Tensor scale = std::get<1>(ops::operand_rows_cpu(x, 8));
    EXPECT_FALSE(scale.slice(0, 0, 2).isfinite().any().item<bool>()) << level;
    EXPECT_TRUE(scale[2].isfinite().item<bool>()) << level;
  }
}

TEST(OperandRowsOperator, NothingAndWhatDoesNotFit) {
  const auto [codes, scale] = ops::operand_rows_cpu(at::zeros({2, 3, 0, 16}), 8);
  EXPECT_EQ(codes.sizes(), (std::vector<std::int64_t>{2, 3, 0, 16}));
  EXPECT_EQ(scale.sizes(), (std::vector<std::int64_t>{2, 3, 0, 1}));
  EXPECT_THROW(ops::operand_rows_cpu(at::zeros({4}), 8), c10::Error);
  EXPECT_THROW(ops::operand_rows_cpu(at::zeros({4, 0}), 8), c10::Error);
  EXPECT_THROW(ops::operand_rows_cpu(at::zeros({4, 4}), 9), c10::Error);
  EXPECT_THROW(ops::operand_rows_cpu(at::zeros({4, 4}, at::kDouble), 8), c10::Error);
}

}  // namespace
}  // namespace repquant
