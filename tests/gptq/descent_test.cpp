#include "gptq/descent.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "support/random.h"

namespace repquant {
namespace {

double objective(const at::Tensor& weight, const at::Tensor& codes, const at::Tensor& scale,
                 const at::Tensor& hessian) {
  const at::Tensor error = weight.to(at::kDouble) - codes * scale;
  return (at::mm(error, hessian) * error).sum().item<double>();
}

// w = (0.6, 2.6), s = 1, H = [[2, 1], [1, 1]], nearest codes (1, 3). Column 0: H dW^T is
// (2 (-0.4) - 0.4) = -1.2, so the best change is -1.2 / 2 and 1 - 0.6 rounds to 0. Then dW = (0.6,
// -0.4), column 1: 0.6 - 0.4 = 0.2 changes nothing. The error falls from 0.8 to 0.4.
TEST(Descent, TwoColumnsByHand) {
  const at::Tensor weight = at::tensor({0.6F, 2.6F}).view({1, 2});
  const at::Tensor hessian = at::tensor({2.0, 1.0, 1.0, 1.0}, at::kDouble).view({2, 2});
  const at::Tensor scale = at::ones({1, 2}, at::kDouble);
  at::Tensor codes = at::tensor({1.0, 3.0}, at::kDouble).view({1, 2});
  EXPECT_NEAR(objective(weight, codes, scale, hessian), 0.8, 1e-6);
  descend(weight, scale, hessian, {-7, 7, {}}, codes);
  EXPECT_TRUE(at::equal(codes, at::tensor({0.0, 3.0}, at::kDouble).view({1, 2})));
  EXPECT_NEAR(objective(weight, codes, scale, hessian), 0.4, 1e-6);
}

// At its end no single code of a row can be bettered, whatever block it is in.
TEST(Descent, EndsWhereNoSingleCodeCanBeBettered) {
  testing::Random random(5);
  const std::int64_t rows = 3, columns = 150;
  const at::Tensor x = at::mm(random.normal({200, 20}), random.normal({20, columns})) +
                       random.normal({200, columns});
  const at::Tensor hessian = at::mm(x.t(), x).to(at::kDouble);
  const at::Tensor weight = random.normal({rows, columns});
  // Signs as groups of columns may have them.
  const at::Tensor scale = at::where(random.normal({rows, columns}) > 0, 0.4, -0.4).to(at::kDouble);
  at::Tensor codes = at::round(weight.to(at::kDouble) / scale).clamp(-3, 3);
  double error = objective(weight, codes, scale, hessian);
  for (int pass = 0; pass < 50; ++pass) {
    descend(weight, scale, hessian, {-3, 3, {}}, codes);
    const double next = objective(weight, codes, scale, hessian);
    EXPECT_LE(next, error * (1 + 1e-12)) << pass;
    error = next;
  }
  EXPECT_LE(codes.abs().max().item<double>(), 3);
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t column = 0; column < columns; ++column) {
      for (const double change : {-1.0, 1.0}) {
        at::Tensor other = codes.clone();
        other[row][column] += change;
        if (other.abs().max().item<double>() > 3) continue;
        EXPECT_GE(objective(weight, other, scale, hessian), error * (1 - 1e-12))
            << row << ", " << column;
      }
    }
  }
}

TEST(Descent, KeepsColumnsWithoutData) {
  const at::Tensor weight = at::tensor({0.9F, 0.2F}).view({1, 2});
  at::Tensor hessian = at::zeros({2, 2}, at::kDouble);
  hessian[0][0] = 1.0;
  at::Tensor codes = at::tensor({0.0, 5.0}, at::kDouble).view({1, 2});
  descend(weight, at::ones({1, 2}, at::kDouble), hessian, {-7, 7, {}}, codes);
  EXPECT_TRUE(at::equal(codes, at::tensor({1.0, 5.0}, at::kDouble).view({1, 2})));
}

}  // namespace
}  // namespace repquant
