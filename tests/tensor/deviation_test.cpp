#include "tensor/deviation.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace repquant {
namespace {

TEST(Deviation, IsRelativeToTheLargestValue) {
  const at::Tensor expected = at::tensor({1.0F, -4.0F, 2.0F});
  EXPECT_FLOAT_EQ(static_cast<float>(relative_difference(expected + 0.5, expected)), 0.125F);
}

// Zero and denormal weights: what one order of operations flushes to zero, another one keeps.
TEST(Deviation, NothingIsNoDifference) {
  const at::Tensor zero = at::zeros({4}, at::kFloat), denormal = at::full({4}, 1e-40F);
  EXPECT_LT(relative_difference(zero, denormal), 1e-30);
  EXPECT_LT(relative_difference(denormal, zero), 1e-30);
  EXPECT_LT(typical_difference(zero.view({4, 1}), denormal.view({4, 1})), 1e-30);
  Energies energies;
  energies.add(denormal, zero);
  EXPECT_TRUE(std::isinf(energies.sqnr_db()));
  // But what float32 can compute with is seen, however small.
  EXPECT_FLOAT_EQ(static_cast<float>(relative_difference(zero, at::full({4}, 1e-20F))), 1.0F);
}

}  // namespace
}  // namespace repquant
