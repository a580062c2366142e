#include "tensor/deviation.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

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

TEST(Deviation, ComplexNumbersArePairsOfRealOnes) {
  const at::Tensor a = at::randn({4, 3}, at::kComplexFloat), b = a + at::randn({4, 3}) * 0.1;
  const Energies complex = energies_of({a}, {b});
  const Energies reals = energies_of({at::view_as_real(a)}, {at::view_as_real(b)});
  EXPECT_DOUBLE_EQ(complex.sqnr_db(), reals.sqnr_db());
  EXPECT_GT(complex.signal, 0.0);
  EXPECT_DOUBLE_EQ(energies_of({a.conj()}, {b.conj()}).sqnr_db(), reals.sqnr_db());
}

TEST(Deviation, TiesOfEqualRowsAreRounding) {
  const auto codes_of = [](const at::Tensor& x) { return at::round(x * 10.0F + 0.01F); };
  const at::Tensor row = at::tensor({0.05F - 0.001F, 1.0F, 7.549F * (1.0F + 2e-7F), 3.02F});
  const at::Tensor x = row.expand({6, 4});
  const at::Tensor codes = codes_of(x);
  at::Tensor rounded = codes.clone();
  rounded.select(1, 2).sub_(1);  // 75.5 and a little
  EXPECT_FALSE(few_changed(rounded.ne(codes)));
  EXPECT_FALSE(differ_beyond_rounding(codes_of, rounded, x).any().item<bool>());
  rounded.select(1, 3).sub_(1);  // 30.21 is no tie
  EXPECT_EQ(differ_beyond_rounding(codes_of, rounded, x).sum().item<int>(), 6);
}

TEST(Deviation, SqnrOfEnergies) {
  EXPECT_DOUBLE_EQ(sqnr_db(25.0, 0.25), 20.0);
  EXPECT_TRUE(std::isinf(sqnr_db(0.0, 0.0)));
  EXPECT_EQ(sqnr_db(0.0, 1.0), -std::numeric_limits<double>::infinity());
}

TEST(Deviation, WholeNumbersCountByEquality) {
  const at::Tensor expected = at::arange(100);
  at::Tensor got = expected.clone();
  got[3] = 7;
  EXPECT_FLOAT_EQ(static_cast<float>(energies_of({expected}, {got}).sqnr_db()), 20.0F);
  EXPECT_TRUE(std::isinf(energies_of({expected}, {expected}).sqnr_db()));
  EXPECT_EQ(energies_of({expected}, {got.slice(0, 1)}).sqnr_db(), 0.0) << "all is lost";
  // Beside floating-point outputs they are left out.
  const at::Tensor logits = at::ones({2, 3});
  EXPECT_TRUE(std::isinf(energies_of({logits, expected}, {logits, got}).sqnr_db()));
}

}  // namespace
}  // namespace repquant
