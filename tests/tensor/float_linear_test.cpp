// float_linear() gives what at::linear gives, whichever library computes it.
#include "tensor/float_linear.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace repquant {
namespace {

TEST(FloatLinear, IsLinear) {
  at::manual_seed(3);
  const at::Tensor weight = at::randn({96, 130}), bias = at::randn({96});
  const at::Tensor large = at::randn({2, 90, 130});  // enough for another library
  for (const at::Tensor& x : {large, large.transpose(0, 1), large.flatten(0, 1),
                              at::randn({3, 130}), at::randn({130}), at::randn({0, 130})}) {
    for (const at::Tensor& added : {bias, at::Tensor()}) {
      const auto given = added.defined() ? std::optional(added) : std::nullopt;
      const at::Tensor expected = at::linear(x, weight, given);
      const at::Tensor got = float_linear(x, weight, added);
      EXPECT_EQ(got.sizes(), expected.sizes());
      EXPECT_TRUE(at::allclose(got, expected, 1e-4, 1e-4));
    }
    const at::Tensor wide = float_linear(x, at::randn({130, 96}).t());
    EXPECT_EQ(wide.size(-1), 96);
  }
}

TEST(FloatLinear, KeepsOtherTypesGradientsAndErrors) {
  const at::Tensor x = at::randn({200, 130}), weight = at::randn({96, 130});
  const at::Tensor expected = at::linear(x.to(at::kDouble), weight.to(at::kDouble));
  EXPECT_TRUE(at::equal(float_linear(x.to(at::kDouble), weight.to(at::kDouble)), expected));
  const at::Tensor learned = weight.clone().requires_grad_();
  const at::Tensor y = float_linear(x, learned);
  EXPECT_TRUE(y.requires_grad());
  EXPECT_THROW(float_linear(x, at::randn({96, 131})), c10::Error);
  EXPECT_THROW(float_linear(x, weight, at::randn({95})), c10::Error);
}

}  // namespace
}  // namespace repquant
