#include "fit/row_sample.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <set>

#include "support/random.h"

namespace repquant {
namespace {

constexpr std::int64_t kSampledRows = 4000, kSampledColumns = 4;

at::Tensor some_rows() { return testing::Random(4).normal({kSampledRows, kSampledColumns}); }

WeightedRows sample(const at::Tensor& x, const std::vector<std::int64_t>& sizes,
                    const at::Tensor& weights, std::int64_t most_rows) {
  const SourceRows rows(rows_in_memory(x.split_with_sizes(sizes)), "site", 2);
  return sample_for_grid(rows, weights, 2, most_rows * kSampledColumns);
}

TEST(RowSample, FewRowsAreTakenAsTheyAre) {
  const at::Tensor x = some_rows(), weights = at::rand({kSampledRows}, at::kDouble);
  for (const at::Tensor& counted : {weights, at::Tensor()}) {
    const WeightedRows all = sample(x, {1, 1999, 2000}, counted, kSampledRows);
    EXPECT_TRUE(at::equal(all.x, x));
    EXPECT_TRUE(all.weights.is_same(counted));
  }
}

TEST(RowSample, ManyRowsAreSpreadEvenlyAndKeepTheExtremesOfEachHalf) {
  const at::Tensor x = some_rows();
  const at::Tensor weights = at::arange(1, kSampledRows + 1, at::kDouble);
  for (const std::int64_t most : {3999, 1000, 333}) {
    SCOPED_TRACE(most);
    const WeightedRows some = sample(x, {1700, 1300, 1000}, weights, most);
    const std::int64_t stride = (kSampledRows + most - 1) / most,
                       count = (kSampledRows + stride - 1) / stride;
    ASSERT_EQ(some.x.size(0), count + 4);
    const std::vector<WeightedRows> halves = halves_of(some);
    const std::int64_t middle = count / 2 * stride;
    for (std::size_t i = 0; i < 2; ++i) {
      const at::Tensor own = i == 0 ? x.slice(0, 0, middle) : x.slice(0, middle);
      const at::Tensor got = halves[i].x, counted = halves[i].weights;
      EXPECT_TRUE(at::equal(got[-2], at::amin(own, 0)));
      EXPECT_TRUE(at::equal(got[-1], at::amax(own, 0)));
      EXPECT_EQ(counted.slice(0, -2).abs().sum().item<double>(), 0);
      // A weight is the place of its row: one row of every `stride` in order.
      const std::int64_t first = i == 0 ? 0 : count / 2;
      for (std::int64_t k = 0; k + 2 < got.size(0); ++k) {
        const auto place = static_cast<std::int64_t>(counted[k].item<double>()) - 1;
        EXPECT_EQ(place / stride, first + k);
        EXPECT_TRUE(at::equal(got[k], x[place]));
      }
    }
  }
}

TEST(RowSample, DoesNotDependOnBatches) {
  const at::Tensor x = some_rows();
  const WeightedRows whole = sample(x, {kSampledRows}, {}, 500);
  for (const std::vector<std::int64_t>& sizes :
       {std::vector<std::int64_t>{2000, 2000}, {1, 1, 3998}, {1500, 0, 1500, 1000}}) {
    const WeightedRows split = sample(x, sizes, {}, 500);
    EXPECT_TRUE(at::equal(split.x, whole.x));
    EXPECT_TRUE(at::equal(split.weights, whole.weights));
  }
}

TEST(RowSample, SeesEveryTokenOfASequence) {
  // The stride, 8, divides the length of a sequence: a fixed place would see 2 of 16 tokens.
  const at::Tensor token = at::arange(kSampledRows, at::kLong).remainder(16);
  const WeightedRows some =
      sample(some_rows(), {kSampledRows}, token.to(at::kDouble) + 1, kSampledRows / 8);
  std::set<double> seen;
  for (std::int64_t i = 0; i < some.weights.size(0); ++i)
    seen.insert(some.weights[i].item<double>());
  EXPECT_EQ(seen.size(), 17U);  // and 0, of the extremes
}

}  // namespace
}  // namespace repquant
