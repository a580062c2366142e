// The formulas of perplexity, embeddings, retrieval and gates on values known by hand.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "evaluate/embedding.h"
#include "evaluate/gates.h"
#include "evaluate/perplexity.h"
#include "evaluate/retrieval.h"
#include "support/errors.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using testing::TempDir;
using testing::write_text;

TokenTargets all_but_first(const at::Tensor& ids) {
  at::Tensor counted = at::ones(ids.sizes(), at::kBool);
  counted.slice(1, 0, 1).fill_(false);
  return {ids, counted};
}

TEST(Perplexity, OfUniformLogitsIsTheVocabulary) {
  PerplexitySums sums;
  add_predictions(at::full({3, 7, 13}, 2.5), nullptr,
                  all_but_first(at::arange(21, at::kLong).reshape({3, 7}).remainder(13)), sums);
  const Perplexity result = summarize_perplexity(sums, 9, false);
  EXPECT_EQ(result.tokens, 18);
  EXPECT_NEAR(result.token, 13.0, 1e-9);
  EXPECT_NEAR(result.nll.standard_error, 0.0, 1e-9);
  EXPECT_NEAR(result.word.value(), 169.0, 1e-6);  // two tokens in a word
  EXPECT_FALSE(result.ratio.has_value());
}

TEST(Perplexity, ClosedFormAndTheLogitsComeFromThePositionBefore) {
  // Probabilities 1/4 and 3/4 at position 0, the last position is not looked at.
  const at::Tensor logits =
      at::tensor({0.0, std::log(3.0), 100.0, -100.0}, at::kDouble).reshape({1, 2, 2});
  PerplexitySums rare, common;
  add_predictions(logits, nullptr, all_but_first(at::tensor({1, 0}, at::kLong).view({1, 2})), rare);
  add_predictions(logits, nullptr, all_but_first(at::tensor({0, 1}, at::kLong).view({1, 2})),
                  common);
  EXPECT_NEAR(rare.nll.value(), std::log(4.0), 1e-12);
  EXPECT_NEAR(common.nll.value(), std::log(4.0 / 3.0), 1e-12);
}

TEST(Perplexity, AgainstAReference) {
  const at::Tensor ids = at::tensor({0, 1, 0, 1, 0, 0}, at::kLong).view({2, 3});
  // The reference says (1/4, 3/4), the model (1/2, 1/2), everywhere.
  const at::Tensor expected =
      at::tensor({0.0, std::log(3.0)}, at::kDouble).expand({2, 3, 2}).contiguous();
  const at::Tensor actual = at::zeros({2, 3, 2}, at::kDouble);
  PerplexitySums sums;
  add_predictions(actual, &expected, all_but_first(ids), sums);
  const Perplexity result = summarize_perplexity(sums, 0, true);
  // Predicted are 1, 0 | 0, 0: log likelihoods of the reference ln 3/4 + 3 ln 1/4.
  const double reference = -(std::log(0.75) + 3.0 * std::log(0.25)) / 4.0;
  EXPECT_NEAR(result.token, 2.0, 1e-12);
  EXPECT_NEAR(result.ratio.value(), 2.0 / std::exp(reference), 1e-9);
  EXPECT_LT(result.ratio_interval->lower, *result.ratio);
  const Agreement agreement = summarize_agreement(sums);
  EXPECT_EQ(agreement.top1->total, 4);
  EXPECT_EQ(agreement.top1->count, 0);  // of equal logits the first counts
  EXPECT_NEAR(agreement.kl->value, 0.25 * std::log(0.5) + 0.75 * std::log(1.5), 1e-12);
}

TEST(Perplexity, DoesNotDependOnTheBatchSplitOrBlocks) {
  const at::Tensor logits = at::arange(4 * 150 * 5, at::kDouble).sin().reshape({4, 150, 5});
  const at::Tensor ids = at::arange(600, at::kLong).reshape({4, 150}).remainder(5);
  PerplexitySums whole, parts;
  add_predictions(logits, nullptr, all_but_first(ids), whole);
  for (std::int64_t row = 0; row < 4; ++row) {
    add_predictions(logits.slice(0, row, row + 1), nullptr,
                    all_but_first(ids.slice(0, row, row + 1)), parts);
  }
  EXPECT_NEAR(whole.nll.value(), parts.nll.value(), 1e-12);
  EXPECT_NEAR(whole.nll.mean().standard_error, parts.nll.mean().standard_error, 1e-12);
  const double expected = -at::log_softmax(logits.slice(1, 0, 149), -1)
                               .gather(-1, ids.slice(1, 1).unsqueeze(-1))
                               .mean()
                               .item<double>();
  EXPECT_NEAR(whole.nll.value(), expected, 1e-12);
}

TEST(Perplexity, WhatDoesNotFitIsAnError) {
  PerplexitySums sums;
  const TokenTargets targets = all_but_first(at::tensor({0, 5}, at::kLong).view({1, 2}));
  EXPECT_ERROR(add_predictions(at::zeros({1, 2, 5}), nullptr, targets, sums), ErrorKind::kUsage,
               "vocabulary");
  EXPECT_ERROR(add_predictions(at::zeros({1, 6}), nullptr, targets, sums), ErrorKind::kUsage,
               "language model");
  EXPECT_ERROR(add_predictions(at::zeros({1, 3, 9}), nullptr, targets, sums), ErrorKind::kUsage,
               "[1, 2, vocabulary]");
}

TEST(Perplexity, Words) {
  const TempDir dir;
  write_text(dir / "text.txt", " one two\n\n\tthree\r\nfour");
  EXPECT_EQ(count_words((dir / "text.txt").string()), 4);
  EXPECT_EQ(count_words("37"), 37);
  EXPECT_EQ(count_words(""), 0);
  EXPECT_ERROR(count_words("0"), ErrorKind::kUsage, "`words`");
  EXPECT_ERROR(count_words("-3"), ErrorKind::kUsage, "`words`");
  EXPECT_ERROR(count_words((dir / "none.txt").string()), ErrorKind::kFile, "none.txt");
  write_text(dir / "blank.txt", " \n ");
  EXPECT_ERROR(count_words((dir / "blank.txt").string()), ErrorKind::kFile, "no words");
}

TEST(Embedding, MeanOverTheMask) {
  Batch batch;
  batch.names = {"input_ids", "attention_mask"};
  batch.inputs = {at::zeros({2, 3}, at::kLong),
                  at::tensor({1, 1, 0, 1, 0, 0}, at::kLong).view({2, 3})};
  const at::Tensor output = at::arange(6, at::kFloat).view({2, 3, 1});
  const at::Tensor result = pooled(output, batch);
  EXPECT_DOUBLE_EQ(result[0][0].item<double>(), 0.5);
  EXPECT_DOUBLE_EQ(result[1][0].item<double>(), 3.0);
  EXPECT_TRUE(at::equal(pooled(at::ones({2, 4}), batch), at::ones({2, 4}, at::kDouble)));
  EXPECT_ERROR(pooled(at::ones({2}), batch), ErrorKind::kUsage, "no embedding");
  EXPECT_ERROR(pooled(at::ones({2, 4, 1}), batch), ErrorKind::kUsage, "mask");
  batch.inputs[1].fill_(0);
  EXPECT_ERROR(pooled(output, batch), ErrorKind::kUsage, "no position");
  EXPECT_DOUBLE_EQ(pooled(output, Batch{})[1][0].item<double>(), 4.0);
}

TEST(Embedding, Cosines) {
  const at::Tensor left = at::tensor({1.0, 0.0, 3.0, 4.0, 0.0, 0.0}, at::kDouble).view({3, 2});
  const at::Tensor right = at::tensor({0.0, 2.0, 6.0, 8.0, 1.0, 1.0}, at::kDouble).view({3, 2});
  const std::vector<double> values = cosines(left, right);
  EXPECT_DOUBLE_EQ(values[0], 0.0);
  EXPECT_NEAR(values[1], 1.0, 1e-15);
  EXPECT_DOUBLE_EQ(values[2], 0.0);
}

TEST(Retrieval, Ranks) {
  const at::Tensor keys = at::tensor({1.0, 0.0, 0.0, 1.0, 2.0, 2.0}, at::kDouble).view({3, 2});
  const at::Tensor queries = at::tensor({5.0, 1.0, 1.0, 5.0}, at::kDouble).view({2, 2});
  // Query 0 is nearest to key 0, then 2, then 1; query 1 to key 1, then 2, then 0.
  EXPECT_EQ(match_ranks(queries, keys, std::vector<std::int64_t>{0, 0}),
            (std::vector<std::int64_t>{0, 2}));
  EXPECT_EQ(match_ranks(queries, keys, std::vector<std::int64_t>{2, 1}),
            (std::vector<std::int64_t>{1, 0}));
  // Equal keys: chance, not success.
  EXPECT_EQ(match_ranks(queries, at::ones({3, 2}, at::kDouble), std::vector<std::int64_t>{0, 2}),
            (std::vector<std::int64_t>{0, 2}));
  EXPECT_ERROR(match_ranks(queries, keys, std::vector<std::int64_t>{0, 3}), ErrorKind::kUsage,
               "not there");
  EXPECT_ERROR(match_ranks(queries, at::ones({3, 4}, at::kDouble), std::vector<std::int64_t>{0, 0}),
               ErrorKind::kUsage, "width");
}

TEST(Gates, MinimumMaximumAndMissing) {
  const std::vector<Metric> metrics{
      {"top1", 0.9}, {"kl", 0.2}, {"ppl", std::numeric_limits<double>::quiet_NaN()}};
  const Gate least{find_gate_rule("min-top1"), 0.9};
  const Gate most{find_gate_rule("max-kl"), 0.1};
  const Gate unknown{find_gate_rule("max-ppl"), 10.0};
  const auto results = judge(metrics, std::vector<Gate>{least, most, unknown});
  ASSERT_EQ(results.size(), 3U);
  EXPECT_TRUE(results[0].passed);
  EXPECT_FALSE(results[1].passed);
  EXPECT_FALSE(results[2].passed);  // NaN meets no limit
  EXPECT_ERROR(judge(metrics, std::vector<Gate>{{find_gate_rule("min-spearman"), 0.5}}),
               ErrorKind::kUsage, "`required=spearman`");
  EXPECT_EQ(find_gate_rule("min-nothing"), nullptr);
  EXPECT_EQ(find_gate_on("kl"), find_gate_rule("max-kl"));
  EXPECT_EQ(find_gate_on("nothing"), nullptr);
}

}  // namespace
}  // namespace repquant
