// Blocks that outputs leave and take.
#include "ops/output.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace repquant {
namespace {

const void* place_of(const at::Tensor& tensor) { return tensor.const_data_ptr(); }

TEST(Output, LargeOnesTakeWhatEarlierOnesLeft) {
  const void* left = nullptr;
  {
    const at::Tensor first = ops::new_output({1000, 1000}, at::kFloat);
    left = place_of(first);
  }
  const at::Tensor smaller = ops::new_output({960, 1000}, at::kFloat);
  EXPECT_EQ(place_of(smaller), left);
  const at::Tensor other = ops::new_output({960, 1000}, at::kFloat);
  EXPECT_NE(place_of(other), left);
}

TEST(Output, ABlockFarTooLargeIsNotTaken) {
  const void* left = nullptr;
  {
    const at::Tensor first = ops::new_output({3000, 1000}, at::kFloat);
    left = place_of(first);
  }
  EXPECT_NE(place_of(ops::new_output({1000, 1000}, at::kFloat)), left);
}

TEST(Output, GrowsAsAnyTensor) {
  at::Tensor output = ops::new_output({600, 1000}, at::kFloat);
  output.fill_(3);
  output.resize_({1200, 1000});
  EXPECT_EQ(output.slice(0, 0, 600).min().item<float>(), 3);
  EXPECT_EQ(ops::new_output({0, 5}, at::kByte).numel(), 0);
}

}  // namespace
}  // namespace repquant
