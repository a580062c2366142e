#include "quantizer/sample_rows.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <utility>

namespace repquant {
namespace {

TEST(SampleRows, WeightsAreShares) {
  const at::Tensor x = at::arange(4, at::kFloat).view({4, 1});
  const at::Tensor weights = at::tensor({1.0, 0.0, 5.0, 2.0}, at::kDouble);
  const at::Tensor sample = sample_rows(x, 80, weights).flatten();
  EXPECT_EQ(sample.numel(), 80);
  for (const auto& [row, count] : {std::pair{0, 10}, {1, 0}, {2, 50}, {3, 20}}) {
    EXPECT_EQ((sample == row).sum().item<int>(), count) << "row " << row;
  }
}

TEST(SampleRows, OneOfEachGroup) {
  const at::Tensor x = at::arange(10, at::kFloat).view({10, 1});
  const at::Tensor sample = sample_rows(x, 4).flatten();
  EXPECT_TRUE(at::equal(at::floor_divide(sample, 3), at::arange(4, at::kFloat))) << sample;
  EXPECT_TRUE(at::equal(sample_rows(x, 10), x));
}

// Texts of 128 tokens, or 4 heads of 3 tokens: with a stride of 8 or 4 most would never be seen.
TEST(SampleRows, SeesEveryPlaceOfAPeriod) {
  for (const auto& [rows, period] : {std::pair{4096, 128}, {1680, 12}, {4096, 8}}) {
    const at::Tensor x = at::arange(rows, at::kFloat).remainder(period).view({rows, 1});
    for (const at::Tensor& weights : {at::Tensor(), at::ones({rows}, at::kDouble)}) {
      const at::Tensor sample = sample_rows(x, 512, weights).flatten();
      const at::Tensor seen = at::bincount(sample.to(at::kLong), {}, period);
      const double fair = static_cast<double>(sample.numel()) / period;
      EXPECT_GE(seen.min().item<double>(), fair / 2) << rows << ' ' << period;
      EXPECT_LE(seen.max().item<double>(), fair * 2) << rows << ' ' << period;
    }
  }
}

}  // namespace
}  // namespace repquant
