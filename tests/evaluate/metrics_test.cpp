#include "evaluate/metrics.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "repquant/error.h"

namespace repquant {
namespace {

at::Tensor rows(const std::vector<std::vector<double>>& values) {
  at::Tensor result = at::empty(
      {static_cast<std::int64_t>(values.size()), static_cast<std::int64_t>(values.front().size())},
      at::kDouble);
  for (std::size_t i = 0; i < values.size(); ++i) {
    for (std::size_t j = 0; j < values[i].size(); ++j) {
      result[static_cast<std::int64_t>(i)][static_cast<std::int64_t>(j)] = values[i][j];
    }
  }
  return result;
}

TEST(Accuracy, CountsRanks) {
  const auto logits = rows({{1, 2, 3, 4, 5, 6, 7}, {7, 6, 5, 4, 3, 2, 1}, {0, 9, 0, 0, 0, 0, 8}});
  const std::vector<std::int64_t> labels{6, 4, 5};  // first, fifth, sixth after ties by index
  const AccuracyCounts counts = count_correct(logits, labels);
  EXPECT_EQ(counts.samples, 3);
  EXPECT_EQ(counts.top1, 1);
  EXPECT_EQ(counts.top5, 2);
}

TEST(Accuracy, ConstantOutputScoresChance) {
  const auto logits = at::zeros({8, 8});
  const std::vector<std::int64_t> labels{0, 1, 2, 3, 4, 5, 6, 7};
  const AccuracyCounts counts = count_correct(logits, labels);
  EXPECT_EQ(counts.top1, 1);
  EXPECT_EQ(counts.top5, 5);
}

TEST(Accuracy, Top5NeedsMoreThanFiveClasses) {
  EXPECT_FALSE(summarize(AccuracyCounts{4, 2, 4}, 5).top5.has_value());
  EXPECT_TRUE(summarize(AccuracyCounts{4, 2, 4}, 6).top5.has_value());
}

TEST(Accuracy, RejectsLabelsThatDoNotFit) {
  const auto logits = at::zeros({2, 3});
  EXPECT_THROW(count_correct(logits, std::vector<std::int64_t>{0}), Error);
  EXPECT_THROW(count_correct(logits, std::vector<std::int64_t>{0, 3}), Error);
  EXPECT_THROW(count_correct(logits, std::vector<std::int64_t>{0, -1}), Error);
  EXPECT_THROW(count_correct(at::zeros({2, 3, 4}), std::vector<std::int64_t>{0, 1}), Error);
}

TEST(Wilson, KnownIntervals) {
  // Reference values: statsmodels.stats.proportion.proportion_confint(..., method="wilson").
  const Interval half = wilson_interval(50, 100);
  EXPECT_NEAR(half.lower, 0.4038315, 1e-6);
  EXPECT_NEAR(half.upper, 0.5961685, 1e-6);
  const Interval none = wilson_interval(0, 10);
  EXPECT_DOUBLE_EQ(none.lower, 0.0);
  EXPECT_NEAR(none.upper, 0.2775328, 1e-6);
  const Interval all = wilson_interval(10, 10);
  EXPECT_NEAR(all.lower, 0.7224672, 1e-6);
  EXPECT_DOUBLE_EQ(all.upper, 1.0);
}

AgreementSums compare(const at::Tensor& reference, const at::Tensor& logits) {
  AgreementSums sums;
  compare_logits(reference, logits, sums);
  return sums;
}

TEST(Agreement, EqualOutputs) {
  const auto logits = rows({{1, 2, 3}, {0.5, -1, 4}});
  const Agreement agreement = summarize(compare(logits, logits));
  EXPECT_DOUBLE_EQ(agreement.top1->value, 1.0);
  EXPECT_DOUBLE_EQ(agreement.kl->value, 0.0);
  EXPECT_TRUE(std::isinf(agreement.sqnr_db));
}

TEST(Agreement, ClosedForm) {
  // p = (1/4, 3/4), q = (1/2, 1/2): KL = 1/4 ln(1/2) + 3/4 ln(3/2).
  const auto p = rows({{0.0, std::log(3.0)}});
  const auto q = rows({{2.0, 2.0}});
  const AgreementSums sums = compare(p, q);
  EXPECT_NEAR(sums.kl.value(), 0.25 * std::log(0.5) + 0.75 * std::log(1.5), 1e-12);
  EXPECT_EQ(sums.same_top1, 0);  // of equal logits the first counts
  // 3, 4 against 3, 4.5: 10 log10(25 / 0.25) = 20 dB.
  EXPECT_NEAR(summarize(compare(rows({{3, 4}}), rows({{3, 4.5}}))).sqnr_db, 20.0, 1e-9);
}

TEST(Agreement, LargeLogitsDoNotOverflow) {
  const Agreement agreement = summarize(compare(rows({{1e4, 0}}), rows({{0, 1e4}})));
  EXPECT_NEAR(agreement.kl->value, 1e4, 1e-6);
}

TEST(Agreement, KlIsNotSymmetricAndReferenceComesFirst) {
  const auto p = rows({{0, 0, 5}});
  const auto q = rows({{0, 1, 2}});
  EXPECT_GT(std::abs(compare(p, q).kl.value() - compare(q, p).kl.value()), 1e-3);
}

TEST(Agreement, SumsDoNotDependOnTheBatchSplit) {
  const auto reference = at::arange(24, at::kDouble).reshape({6, 4}).sin();
  const auto logits = reference + 0.1 * at::arange(24, at::kDouble).reshape({6, 4}).cos();
  const AgreementSums whole = compare(reference, logits);
  AgreementSums parts = compare(reference.slice(0, 0, 4), logits.slice(0, 0, 4));
  compare_logits(reference.slice(0, 4, 6), logits.slice(0, 4, 6), parts);
  EXPECT_EQ(whole.rows, parts.rows);
  EXPECT_EQ(whole.same_top1, parts.same_top1);
  EXPECT_NEAR(whole.kl.value(), parts.kl.value(), 1e-12);
  EXPECT_NEAR(whole.values.noise, parts.values.noise, 1e-12);
}

// Logits of suppressed tokens.
TEST(Agreement, EqualInfinitiesAreLeftOut) {
  const double none = -std::numeric_limits<double>::infinity();
  AgreementSums with, without;
  compare_logits(rows({{none, 1, 2, 3}, {none, none, none, none}}),
                 rows({{none, 1, 2.5, 3}, {none, none, none, none}}), with);
  compare_logits(rows({{1, 2, 3}}), rows({{1, 2.5, 3}}), without);
  EXPECT_EQ(with.rows, 2);
  EXPECT_EQ(with.same_top1, 2);
  EXPECT_DOUBLE_EQ(2 * summarize(with).kl->value, summarize(without).kl->value);
  EXPECT_DOUBLE_EQ(with.values.sqnr_db(), without.values.sqnr_db());
}

TEST(Agreement, RejectsOtherInfinities) {
  const double infinite = std::numeric_limits<double>::infinity();
  AgreementSums sums;
  EXPECT_THROW(compare_logits(rows({{1, infinite}}), rows({{1, -infinite}}), sums), Error);
  EXPECT_THROW(compare_logits(rows({{1, infinite}}), rows({{1, 2}}), sums), Error);
  EXPECT_THROW(compare_logits(rows({{1, 2}}), rows({{infinite, 2}}), sums), Error);
}

TEST(Agreement, RejectsOtherShapes) {
  EXPECT_THROW(compare(at::zeros({2, 3}), at::zeros({2, 4})), Error);
}

TEST(Paired, CountsAndStandardError) {
  const auto reference = rows({{1, 0}, {1, 0}, {0, 1}, {0, 1}});
  const auto logits = rows({{1, 0}, {0, 1}, {1, 0}, {0, 1}});
  const std::vector<std::int64_t> labels{0, 0, 0, 0};
  const PairedCounts counts = count_paired(reference, logits, labels);
  EXPECT_EQ(counts.both, 1);
  EXPECT_EQ(counts.lost, 1);
  EXPECT_EQ(counts.gained, 1);
  const PairedDifference difference = summarize(counts);
  EXPECT_DOUBLE_EQ(difference.difference, 0.0);
  EXPECT_NEAR(difference.standard_error, std::sqrt(2.0) / 4.0, 1e-12);
}

TEST(Paired, IntervalHasWidthWithoutAnyDisagreement) {
  const PairedDifference difference = summarize(PairedCounts{100, 90, 0, 0});
  EXPECT_DOUBLE_EQ(difference.standard_error, 0.0);
  EXPECT_LT(difference.interval.lower, 0.0);
  EXPECT_GT(difference.interval.upper, 0.0);
}

TEST(Paired, SignIsModelMinusReference) {
  const PairedDifference difference = summarize(PairedCounts{100, 50, 2, 12});
  EXPECT_NEAR(difference.difference, -0.10, 1e-12);
  EXPECT_LT(difference.interval.upper, 0.0);
}

}  // namespace
}  // namespace repquant
