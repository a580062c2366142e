#include "tensor/equal.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

namespace repquant {
namespace {

TEST(EqualTensors, GivesTheFirstOfEachContent) {
  EqualTensors kept;
  const at::Tensor first = at::arange(6, at::kInt).view({2, 3});
  EXPECT_TRUE(kept.first_of(first).is_same(first));
  EXPECT_TRUE(kept.first_of(first).is_same(first));
  EXPECT_TRUE(kept.first_of(first.clone()).is_same(first));
}

TEST(EqualTensors, TellsApartWhatHasTheSameSum) {
  EqualTensors kept;
  const at::Tensor first = at::arange(6, at::kInt).view({2, 3});
  kept.first_of(first);
  for (const at::Tensor& other :
       {first.flip(0), first.view({3, 2}), first.to(at::kFloat), first.flatten()}) {
    EXPECT_TRUE(kept.first_of(other).is_same(other));
  }
  EXPECT_TRUE(kept.first_of(first.clone()).is_same(first));
}

TEST(EqualTensors, EmptyTensorsAreEqual) {
  EqualTensors kept;
  const at::Tensor first = at::empty({0, 4});
  EXPECT_TRUE(kept.first_of(first).is_same(first));
  EXPECT_TRUE(kept.first_of(at::empty({0, 4})).is_same(first));
}

TEST(SameValues, CountNaNAsItself) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const at::Tensor a = at::tensor({1.0F, nan, -2.0F});
  EXPECT_TRUE(same_values(a, a.clone()));
  EXPECT_FALSE(same_values(a, at::tensor({1.0F, nan, 2.0F})));
  EXPECT_FALSE(same_values(a, at::tensor({1.0F, 0.0F, -2.0F})));
  EXPECT_FALSE(same_values(at::tensor({1.0F, 0.0F, -2.0F}), a));
  EXPECT_FALSE(same_values(a, a.to(at::kDouble)));
  EXPECT_FALSE(same_values(a, a.unsqueeze(0)));
  EXPECT_TRUE(same_values(at::arange(3), at::arange(3)));
}

}  // namespace
}  // namespace repquant
