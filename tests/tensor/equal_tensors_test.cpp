#include "tensor/equal.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

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

}  // namespace
}  // namespace repquant
