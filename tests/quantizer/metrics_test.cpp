#include "quantizer/metrics.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "repquant/error.h"

namespace repquant {
namespace {

TEST(Metrics, ByHand) {
  const at::Tensor reference = at::tensor({3.0F, 4.0F});
  const at::Tensor value = at::tensor({3.0F, 4.5F});
  EXPECT_DOUBLE_EQ(mse(reference, value), 0.125);
  EXPECT_DOUBLE_EQ(sqnr_db(reference, value), 20.0);  // 25 / 0.25
}

TEST(Metrics, Extremes) {
  const at::Tensor x = at::ones({3});
  EXPECT_EQ(sqnr_db(x, x), std::numeric_limits<double>::infinity());
  EXPECT_EQ(sqnr_db(at::zeros({3}), x), -std::numeric_limits<double>::infinity());
  EXPECT_EQ(mse(at::zeros({0}), at::zeros({0})), 0);
  EXPECT_THROW(mse(x, at::ones({1})), Error);
}

TEST(Metrics, LargeSumsAreInDouble) {
  const at::Tensor x = at::full({4'000'000}, 0.1F);
  const double difference = static_cast<double>(0.1F);
  EXPECT_NEAR(mse(x, at::zeros({4'000'000})), difference * difference, 1e-12);
}

}  // namespace
}  // namespace repquant
