// Samples of batches.
#include "tensor/samples.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace repquant {
namespace {

TEST(Samples, AreOnTheFirstAxisOfAllInputs) {
  EXPECT_EQ(sample_count({at::zeros({3, 2}), at::zeros({3})}), 3);
  EXPECT_EQ(sample_count({at::zeros({3, 2}), at::zeros({4})}), 1);
  EXPECT_EQ(sample_count({at::zeros({3, 2}), at::scalar_tensor(0.5)}), 1);
  EXPECT_EQ(sample_count({}), 1);
}

TEST(Samples, PartsAndRepetitions) {
  const at::Tensor numbers = at::arange(3), scalar = at::scalar_tensor(0.5);
  const auto part = samples_of({numbers, scalar}, 1, 9);
  EXPECT_TRUE(at::equal(part.at(0), at::tensor({1, 2}, at::kLong)));
  EXPECT_TRUE(part.at(1).is_same(scalar));
  const auto repeated = repeated_samples({numbers, scalar}, 5);
  EXPECT_TRUE(at::equal(repeated.at(0), at::tensor({0, 1, 2, 0, 1}, at::kLong)));
  EXPECT_TRUE(repeated.at(1).is_same(scalar));
  EXPECT_TRUE(at::equal(repeated_samples({numbers}, 2).at(0), at::tensor({0, 1}, at::kLong)));
}

TEST(Samples, ShapesAreThoseBehindTheFirstAxis) {
  const auto batch = [](at::IntArrayRef sizes) {
    return std::vector<at::Tensor>{at::zeros(sizes)};
  };
  EXPECT_TRUE(same_sample_shapes(batch({2, 3}), batch({5, 3})));
  EXPECT_FALSE(same_sample_shapes(batch({2, 3}), batch({2, 4})));
  EXPECT_TRUE(same_sample_shapes(batch({}), batch({})));
  EXPECT_FALSE(same_sample_shapes(batch({}), batch({1})));
}

}  // namespace
}  // namespace repquant
