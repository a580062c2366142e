#include "gptq/shrinkage.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "support/random.h"

namespace repquant {
namespace {

at::Tensor hessian_of(std::int64_t rows, std::int64_t columns, std::uint64_t seed) {
  testing::Random random(seed);
  const at::Tensor x =
      random.normal({rows, columns}).to(at::kDouble) * at::linspace(0.1, 2, columns, at::kDouble);
  return at::mm(x.t(), x);
}

TEST(Shrinkage, FallsWithTheNumberOfRows) {
  double last = 11;
  for (const std::int64_t rows : {16, 64, 256, 4096}) {
    const double damping = shrinkage_damping(hessian_of(rows, 32, 1), static_cast<double>(rows));
    EXPECT_GE(damping, 0);
    EXPECT_LT(damping, last) << rows;
    last = damping;
  }
  EXPECT_LT(last, 0.02);
}

TEST(Shrinkage, DoesNotDependOnTheUnit) {
  const at::Tensor hessian = hessian_of(40, 16, 2);
  EXPECT_NEAR(shrinkage_damping(hessian, 40), shrinkage_damping(hessian * 1e6, 40), 1e-9);
}

TEST(Shrinkage, AMultipleOfTheIdentityIsAllShrinkage) {
  EXPECT_EQ(shrinkage_damping(at::eye(8, at::kDouble) * 3, 100), 10.0);
  EXPECT_EQ(shrinkage_damping(at::zeros({8, 8}, at::kDouble), 100), 0.0);
}

// What it is for: the inverse of a shrunk Hessian is nearer to the inverse of the true one.
TEST(Shrinkage, BringsTheInverseNearer) {
  const std::int64_t rows = 24, columns = 20;
  const at::Tensor truth =
      at::diag(at::linspace(0.1, 2, columns, at::kDouble).square()) * static_cast<double>(rows);
  const at::Tensor hessian = hessian_of(rows, columns, 3);
  const auto distance = [&](double damping) {
    at::Tensor damped = hessian.clone();
    damped.diagonal().add_(damping * hessian.diagonal().mean());
    return (at::inverse(damped) - at::inverse(truth)).norm().item<double>();
  };
  EXPECT_LT(distance(shrinkage_damping(hessian, static_cast<double>(rows))), distance(0.001));
}

TEST(Shrinkage, EffectiveRowsAreKishs) {
  EXPECT_NEAR(effective_rows(at::ones({7}, at::kDouble)), 7, 1e-12);
  EXPECT_NEAR(effective_rows(at::tensor({1.0, 0.0, 0.0}, at::kDouble)), 1, 1e-12);
  EXPECT_EQ(effective_rows(at::zeros({3}, at::kDouble)), 0);
}

}  // namespace
}  // namespace repquant
