// Sums block by block against the same sums written down over all rows in double.
#include "fit/weight_sums.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "support/random.h"

namespace repquant {
namespace {

constexpr std::int64_t kSumRows = 2600, kSumColumns = 12, kSumOutputs = 5;

struct SumCase {
  at::Tensor codes, target;
  std::unique_ptr<SourceRows> rows;
  WeightProblem problem;
};

SumCase make_sum_case(const std::vector<std::int64_t>& batches, bool weighted) {
  testing::Random random(5);
  SumCase made;
  made.codes = (random.normal({kSumRows, kSumColumns}) * 4 + 20).round();
  made.target = random.normal({kSumRows, kSumOutputs}) + 3;
  made.problem.weight = random.normal({kSumOutputs, kSumColumns});
  made.problem.bias = random.normal({kSumOutputs});
  made.problem.scale = 0.25;
  if (weighted) made.problem.row_weights = random.uniform({kSumRows}, 0.1, 1.9).to(at::kDouble);
  made.rows =
      std::make_unique<SourceRows>(rows_in_memory(made.codes.split_with_sizes(batches)), "site", 1);
  made.problem.rows = made.rows.get();
  made.problem.codes = [](const at::Tensor& x) { return x; };
  made.problem.target = [target = made.target](const RowBlock& block) {
    return target.slice(0, block.from, block.to).clone();
  };
  return made;
}

at::Tensor weights_of_rows(const SumCase& made) {
  return made.problem.row_weights.defined() ? made.problem.row_weights
                                            : at::ones({kSumRows}, at::kDouble);
}

at::Tensor exact_errors(const SumCase& made) {
  const WeightProblem& problem = made.problem;
  return made.target.to(at::kDouble) - problem.bias -
         at::matmul(made.codes.to(at::kDouble), problem.weight.to(at::kDouble).t()) * problem.scale;
}

bool is_close(const at::Tensor& got, const at::Tensor& expected, double relative) {
  return ((got - expected).norm() <= relative * expected.norm()).item<bool>();
}

TEST(WeightSums, AreThoseOverAllRows) {
  for (const bool weighted : {false, true}) {
    for (const bool centred : {false, true}) {
      SCOPED_TRACE(2 * weighted + centred);
      const SumCase made = make_sum_case({1100, 500, 1000}, weighted);
      const at::Tensor w = weights_of_rows(made).unsqueeze(1);
      at::Tensor codes = made.codes.to(at::kDouble), errors = exact_errors(made);
      const at::Tensor mean = (w * codes).sum(0) / w.sum(), error = (w * errors).sum(0) / w.sum();
      if (centred) {
        codes = codes - mean;
        errors = errors - error;
      }
      const HalvedSums sums = sum_over_rows(made.problem, {});
      EXPECT_TRUE(is_close(sums.mean_code(), mean, 1e-12));
      EXPECT_TRUE(is_close(sums.mean_error(), error, 1e-5));
      const auto halves = moments_of(sums, centred);
      for (std::size_t i = 0; i < 2; ++i) {
        const std::int64_t from = i == 0 ? 0 : kSumRows / 2, to = from + kSumRows / 2;
        const at::Tensor some = (codes * w).slice(0, from, to).t();
        EXPECT_TRUE(is_close(halves[i].hessian, at::mm(some, codes.slice(0, from, to)),
                             weighted ? 1e-6 : 1e-12));  // roots of weights are float32
        EXPECT_TRUE(is_close(halves[i].cross.t(), at::mm(some, errors.slice(0, from, to)), 1e-4));
      }
    }
  }
}

TEST(WeightSums, BatchesAndThreadsDoNotChangeABit) {
  for (const bool weighted : {false, true}) {
    const auto expected =
        moments_of(sum_over_rows(make_sum_case({kSumRows}, weighted).problem, {}), true);
    for (const std::vector<std::int64_t>& batches :
         {std::vector<std::int64_t>{1300, 1300}, {1, 2598, 1}, {900, 0, 900, 800}}) {
      SumCase made = make_sum_case(batches, weighted);
      for (const int threads : {1, 3}) {
        made.problem.threads = threads;
        const auto got = moments_of(sum_over_rows(made.problem, {}), true);
        for (std::size_t i = 0; i < 2; ++i) {
          EXPECT_TRUE(at::equal(got[i].hessian, expected[i].hessian));
          EXPECT_TRUE(at::equal(got[i].cross, expected[i].cross));
        }
      }
    }
  }
}

TEST(WeightSums, TheDiagonalAloneIsThatOfTheHessian) {
  const Products diagonal{.diagonal = true, .with_errors = false};
  for (const bool weighted : {false, true}) {
    for (const bool centred : {false, true}) {
      SumCase made = make_sum_case({1100, 500, 1000}, weighted);
      const at::Tensor whole =
          hessian_of(sum_over_rows(made.problem, {.with_errors = false}), centred);
      const HalvedSums sums = sum_over_rows(made.problem, diagonal);
      EXPECT_FALSE(sums.halves[0].hessian.has_value());
      const at::Tensor got = hessian_of(sums, centred);
      EXPECT_TRUE(is_close(got, whole.diagonal(), 1e-6));
      made = make_sum_case({1, 2598, 1}, weighted);
      made.problem.threads = 3;
      EXPECT_TRUE(at::equal(hessian_of(sum_over_rows(made.problem, diagonal), centred), got));
    }
  }
}

TEST(WeightSums, HoldWhatIsAskedFor) {
  SumCase made = make_sum_case({kSumRows}, false);
  EXPECT_FALSE(sum_over_rows(made.problem, {.of_codes = false}).halves[0].hessian.has_value());
  EXPECT_FALSE(sum_over_rows(made.problem, {.with_errors = false}).halves[0].cross.defined());
  made.problem.target = {};
  const HalvedSums sums = sum_over_rows(made.problem, {});
  EXPECT_FALSE(sums.halves[0].cross.defined());
  EXPECT_EQ(sums.mean_error().abs().max().item<double>(), 0);
}

TEST(WeightSums, NoRowsGiveZeros) {
  SumCase made = make_sum_case({kSumRows}, false);
  const SourceRows none(rows_in_memory({at::empty({0, kSumColumns})}), "site", 1);
  made.problem.rows = &none;
  const HalvedSums sums = sum_over_rows(made.problem, {});
  EXPECT_TRUE(at::equal(sums.mean_code(), at::zeros({kSumColumns}, at::kDouble)));
  const auto halves = moments_of(sums, true);
  EXPECT_EQ(halves[0].hessian.abs().max().item<double>(), 0);
}

}  // namespace
}  // namespace repquant
