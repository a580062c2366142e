#include "gptq/hessian.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

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
  EXPECT_TRUE(at::equal(accumulator.mean(), at::tensor({2.0, 3.0}, at::kDouble)));
  // Centred rows are (-1, -1) and (1, 1).
  EXPECT_TRUE(at::equal(accumulator.centred_hessian(), at::full({2, 2}, 2.0, at::kDouble)));
}

TEST(Hessian, MatchesDoubleProductAcrossBlocks) {
  testing::Random random(2);
  const at::Tensor x = random.normal({2500, 300});
  const at::Tensor exact = at::mm(x.to(at::kDouble).t(), x.to(at::kDouble));
  HessianAccumulator accumulator(300);
  accumulator.add(x.view({5, 500, 300}));
  EXPECT_EQ(accumulator.rows(), 2500);
  EXPECT_LT(max_difference(accumulator.hessian(), exact).item<double>(), 1e-9);
  const at::Tensor centred = x.to(at::kDouble) - x.to(at::kDouble).mean(0);
  EXPECT_LT(
      max_difference(accumulator.centred_hessian(), at::mm(centred.t(), centred)).item<double>(),
      1e-9);
}

TEST(Hessian, DoesNotDependOnBatchesOrThreads) {
  testing::Random random(3);
  const at::Tensor x = random.normal({7000, 40});
  const at::Tensor whole = accumulate_hessian({x}, 1).hessian();
  for (const int threads : {1, 2, 5}) {
    const std::vector<at::Tensor> uneven = {x.slice(0, 0, 1), x.slice(0, 1, 1300),
                                            x.slice(0, 1300, 1300), x.slice(0, 1300, 6999),
                                            x.slice(0, 6999, 7000)};
    HessianAccumulator split = accumulate_hessian(uneven, threads);
    EXPECT_EQ(split.rows(), 7000);
    EXPECT_TRUE(at::equal(split.hessian(), whole));
    EXPECT_TRUE(at::equal(split.mean(), accumulate_hessian({x}, 2).mean()));
  }
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

TEST(Hessian, ConstantColumnHasNoCentredVariance) {
  HessianAccumulator accumulator(2);
  at::Tensor x = testing::Random(5).normal({500, 2});
  x.select(1, 1).fill_(123.456F);
  accumulator.add(x);
  const at::Tensor centred = accumulator.centred_hessian();
  EXPECT_GE(centred[1][1].item<double>(), 0);
  EXPECT_LT(centred[1][1].item<double>(), 1e-6);
}

TEST(Hessian, RejectsOtherWidths) {
  HessianAccumulator accumulator(3);
  EXPECT_THROW(accumulator.add(at::zeros({2, 4})), Error);
  EXPECT_THROW(accumulator.merge(HessianAccumulator(4)), Error);
  EXPECT_THROW(accumulate_hessian({}, 1), Error);
  EXPECT_THROW(accumulate_hessian({at::zeros({2, 3}), at::zeros({2, 4})}, 1), Error);
}

TEST(Hessian, NoRows) {
  EXPECT_TRUE(at::equal(accumulate_hessian({at::zeros({0, 3})}, 2).hessian(),
                        at::zeros({3, 3}, at::kDouble)));
}

}  // namespace
}  // namespace repquant
