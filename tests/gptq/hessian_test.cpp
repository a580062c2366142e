#include "gptq/hessian.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "repquant/error.h"
#include "support/random.h"

namespace repquant {
namespace {

at::Tensor max_difference(const at::Tensor& a, const at::Tensor& b) { return (a - b).abs().max(); }

TEST(Hessian, ByHand) {
  HessianAccumulator accumulator(2);
  accumulator.add(at::tensor({1.0F, 2.0F, 3.0F, 4.0F}).view({2, 2}));
  EXPECT_TRUE(at::equal(accumulator.hessian(),
                        at::tensor({10.0, 14.0, 14.0, 20.0}, at::kDouble).view({2, 2})));
}

TEST(Hessian, MatchesDoubleProductAcrossBlocks) {
  testing::Random random(2);
  const at::Tensor x = random.normal({2500, 300});
  const at::Tensor exact = at::mm(x.to(at::kDouble).t(), x.to(at::kDouble));
  HessianAccumulator accumulator(300);
  accumulator.add(x.view({5, 500, 300}));
  // Products of 1024 rows at a time in float32: their rounding beside the diagonal, about 2500.
  constexpr double kRounding = 2500 * 1e-6;
  EXPECT_LT(max_difference(accumulator.hessian(), exact).item<double>(), kRounding);
  HessianAccumulator first(300), second(300);
  first.add(x.slice(0, 0, 1100));
  second.add(x.slice(0, 1100));
  first.merge(std::move(second));
  EXPECT_LT(max_difference(first.hessian(), exact).item<double>(), kRounding);
}

TEST(Hessian, StreamedBatchesGiveTheSameBytes) {
  testing::Random random(4);
  const at::Tensor x = random.normal({3000, 17});
  HessianAccumulator whole(17);
  whole.add(x);
  HessianAccumulator parts(17);
  for (std::int64_t from = 0; from < 3000; from += 77) {
    parts.add(x.slice(0, from, std::min<std::int64_t>(from + 77, 3000)));
  }
  EXPECT_TRUE(at::equal(whole.hessian(), parts.hessian()));
}

TEST(Hessian, RejectsOtherWidths) {
  HessianAccumulator accumulator(3);
  EXPECT_THROW(accumulator.add(at::zeros({2, 4})), Error);
  EXPECT_THROW(accumulator.merge(HessianAccumulator(4)), Error);
}

TEST(Hessian, NoRows) {
  HessianAccumulator accumulator(3);
  accumulator.add(at::zeros({0, 3}));
  EXPECT_TRUE(at::equal(accumulator.hessian(), at::zeros({3, 3}, at::kDouble)));
}

}  // namespace
}  // namespace repquant
