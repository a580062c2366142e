#include "bit_allocation/measure_errors.h"

#include <gtest/gtest.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>

#include "fit/fit_sites.h"
#include "fit/gradients.h"
#include "fit/plan_hook.h"
#include "recipe/json.h"
#include "support/errors.h"
#include "support/prepared.h"
#include "support/scripted.h"

namespace repquant {
namespace {

const Candidates kErrorCandidates{.weight_bits = {3, 6, 8}, .activation_bits = {3, 6, 8}};

/// At 6 bits, where errors are small enough for a second-order estimate.
Recipe plain_recipe() {
  Recipe recipe = recipe_for_bits({6, 6});
  recipe.first_layer = {0, 0};
  recipe.weights.compensation = Compensation::kNone;
  return recipe;
}

// Errors of different tokens count as independent, which costs up to 6.5 dB (queries, scores).
constexpr double kToleranceDb = 7.0;

/// What quantizing one site alone really does to the outputs.
struct Truth {
  double sqnr_db = 0.0;
  double kl = 0.0;
};

Truth truth_of(const testing::Prepared& model, std::size_t site, Recipe recipe) {
  for (std::size_t i = 0; i < model.search.sites.size(); ++i) {
    if (i != site) recipe.exclude.push_back(model.search.sites[i].path);
  }
  const FittedSites fitted = fit_sites(model.model, model.search, model.batches, recipe, {});
  const PlanHook hook = plan_hook(model.search.sites, fitted.plans);
  const Schedule schedule(*model.model.graph);
  Truth truth{.sqnr_db = fitted.output_sqnr_db, .kl = 0.0};
  double rows = 0;
  for (const auto& batch : model.batches) {
    const std::vector<c10::IValue> inputs(batch.begin(), batch.end());
    const auto exact = output_tensors(run_graph(*model.model.graph, schedule, inputs))[0];
    const auto got = output_tensors(run_graph(*model.model.graph, schedule, inputs, hook))[0];
    const at::Tensor p = at::log_softmax(exact, -1), q = at::log_softmax(got, -1);
    truth.kl += (p.exp() * (p - q)).sum().item<double>();
    rows += static_cast<double>(exact.numel() / exact.size(-1));
  }
  truth.kl /= rows;
  return truth;
}

void expect_true_estimates(const Recipe& recipe) {
  const auto model = testing::prepare_planted(4);
  const auto& sites = model.search.sites;
  const Choices choices = find_choices(sites, recipe, kErrorCandidates);
  const ErrorTable table = measure_errors(model.model, sites, model.batches, recipe, choices, {});
  std::vector<std::pair<double, double>> by_site;  // estimated and true KL
  for (std::size_t i = 0; i < sites.size(); ++i) {
    const auto& row = table.sites[i];
    double error = row.activations[1].output_error, kl = row.activations[1].kl;
    if (linear_of(sites[i]) != nullptr) {
      error += row.weights[1].output_error;
      kl += row.weights[1].kl;
    }
    const Truth truth = truth_of(model, i, recipe);
    by_site.emplace_back(kl, truth.kl);
    // A mean error of attention's output counts as taken up by the next bias, which is not there
    // when the site alone is quantized.
    if (kind_of(sites[i]) == SiteKind::kAttend) continue;
    EXPECT_NEAR(-10 * std::log10(error), truth.sqnr_db, kToleranceDb) << sites[i].path;
    EXPECT_NEAR(10 * std::log10(kl), 10 * std::log10(truth.kl), kToleranceDb) << sites[i].path;
  }
  // The site that does most harm is among the three that the estimate puts first.
  const auto worst = *std::max_element(by_site.begin(), by_site.end(),
                                       [](auto a, auto b) { return a.second < b.second; });
  EXPECT_LE(std::count_if(by_site.begin(), by_site.end(),
                          [&](const auto& other) { return other.first > worst.first; }),
            2);
}

TEST(MeasureErrors, EstimatesWhatASiteAloneDoesToTheOutputs) {
  expect_true_estimates(plain_recipe());
}

TEST(MeasureErrors, EstimatesGridsPerToken) {
  Recipe recipe = plain_recipe();
  // Not of norms too: one scale for their planted channels leaves errors that are not small.
  recipe.input.granularity = InputGranularity::kPerToken;
  expect_true_estimates(recipe);
}

TEST(MeasureErrors, MoreBitsMeanLessError) {
  const auto model = testing::prepare_fixture("vit_separate", "trace");
  const Choices choices = find_choices(model.search.sites, plain_recipe(), kErrorCandidates);
  const ErrorTable table =
      measure_errors(model.model, model.search.sites, model.batches, plain_recipe(), choices, {});
  const auto check = [](const std::vector<WidthError>& widths, const std::string& what) {
    ASSERT_EQ(widths.size(), 3U) << what;
    EXPECT_GT(widths[0].output_error, widths[2].output_error) << what;
    // Where there are hardly more values than 64, learned levels may meet them better than 256 even
    // ones.
    constexpr double kFewValues = 1e-4;
    EXPECT_GE(widths[1].output_error + kFewValues, widths[2].output_error) << what;
    EXPECT_GT(widths[2].output_error, 0.0) << what;
  };
  for (std::size_t i = 0; i < model.search.sites.size(); ++i) {
    const std::string& path = model.search.sites[i].path;
    if (linear_of(model.search.sites[i]) != nullptr) check(table.sites[i].weights, path);
    check(table.sites[i].activations, path);
    EXPECT_GT(table.sites[i].activations[0].local_noise, table.sites[i].activations[2].local_noise);
  }
  for (const auto& group : table.groups) check(group, "group");
}

// A matrix times a vector: the mean of its right operand's error is the error. The left operand, of
// zeros and ones, has none.
TEST(MeasureErrors, AProductWithoutSoftmaxSeesTheMeanOfAnError) {
  std::map<std::string, at::Tensor> constants;
  testing::add_linear(constants, "a", 16, 16, 1);
  testing::add_linear(constants, "b", 16, 16, 2);
  constants["c"] = testing::Random(3).normal({8});
  const auto model = testing::scripted(
      "  a = (torch.linear(x, self.wa, self.ba) > 0).to(x.dtype)\n"
      "  b = torch.linear(x, self.wb, self.bb).mean(1).unsqueeze(-1)\n"
      "  return torch.matmul(a, b) * self.c\n",
      constants, testing::normal_batches(4, {4, 6, 16}));
  const auto& sites = model.search.sites;
  const auto product = std::find_if(sites.begin(), sites.end(), [](const Site& site) {
    return kind_of(site) == SiteKind::kProduct;
  });
  ASSERT_NE(product, sites.end());
  const auto index = static_cast<std::size_t>(product - sites.begin());
  const Recipe recipe = plain_recipe();
  const Choices choices = find_choices(sites, recipe, kErrorCandidates);
  const ErrorTable table = measure_errors(model.model, sites, model.batches, recipe, choices, {});
  const std::vector<WidthError>& widths = table.sites[index].activations;
  ASSERT_FALSE(widths.empty());
  EXPECT_NEAR(-10 * std::log10(widths.front().output_error), truth_of(model, index, recipe).sqnr_db,
              kToleranceDb);
}

// As DeBERTa and BLOOM have it: the softmax over rows of another shape than those of the product.
TEST(MeasureErrors, RowsOfASoftmaxMayBeMoved) {
  std::map<std::string, at::Tensor> constants;
  testing::add_linear(constants, "a", 16, 16, 1);
  testing::add_linear(constants, "b", 8, 16, 2);
  const auto model = testing::scripted(
      "  h = torch.linear(x, self.wa, self.ba)\n"
      "  s = torch.matmul(h, h.transpose(-2, -1)).flatten(0, 1) * 0.25\n"
      "  p = torch.softmax(s, -1).view([x.size(0), x.size(1), -1])\n"
      "  return torch.linear(torch.matmul(p, h), self.wb, self.bb)\n",
      constants, testing::normal_batches(4, {4, 6, 16}));
  const auto& sites = model.search.sites;
  const auto attend = std::find_if(sites.begin(), sites.end(), [](const Site& site) {
    return kind_of(site) == SiteKind::kAttend;
  });
  ASSERT_NE(attend, sites.end());
  ASSERT_EQ(attend->node->input(0)->node()->kind().toQualString(), std::string("aten::reshape"));
  const auto index = static_cast<std::size_t>(attend - sites.begin());
  const Recipe recipe = plain_recipe();
  const Choices choices = find_choices(sites, recipe, kErrorCandidates);
  const ErrorTable table = measure_errors(model.model, sites, model.batches, recipe, choices, {});
  const std::vector<WidthError>& widths = table.sites[index].activations;
  ASSERT_EQ(widths.size(), 3U);
  EXPECT_NEAR(-10 * std::log10(widths[1].output_error), truth_of(model, index, recipe).sqnr_db,
              kToleranceDb);
}

TEST(MeasureErrors, IsTheSameOnAnyThreads) {
  const auto model = testing::prepare_planted(2);
  const Choices choices = find_choices(model.search.sites, plain_recipe(), kErrorCandidates);
  std::vector<ErrorTable> tables;
  for (const int threads : {1, 2}) {
    MeasureErrorsOptions options;
    options.threads = threads;
    tables.push_back(measure_errors(model.model, model.search.sites, model.batches, plain_recipe(),
                                    choices, options));
  }
  for (std::size_t g = 0; g < tables[0].groups.size(); ++g) {
    for (std::size_t j = 0; j < tables[0].groups[g].size(); ++j) {
      EXPECT_EQ(tables[0].groups[g][j].output_error, tables[1].groups[g][j].output_error);
      EXPECT_EQ(tables[0].groups[g][j].kl, tables[1].groups[g][j].kl);
    }
  }
}

TEST(Differentiate, LogitProjectionsHaveTheCovarianceOfTheSoftmax) {
  const auto model = testing::prepare_fixture("vit_fused", "trace");
  const auto* output = model.search.sites.back().node->output();
  const Schedule schedule(*model.model.graph);
  DifferentiateOptions options;
  options.wanted = {output};
  options.with_logits = true;
  at::Tensor sum, p;
  constexpr int kRounds = 400;
  for (int seed = 0; seed < kRounds; ++seed) {
    options.seed = static_cast<std::uint64_t>(seed);
    const auto result = differentiate(*model.model.graph, schedule, model.batches[0], options);
    const at::Tensor r = result.logits_gradients.at(output);
    EXPECT_LT(r.sum(-1).abs().max().item<double>(), 1e-5);  // a shift of all logits is free
    p = at::softmax(result.outputs[0], -1);
    sum = sum.defined() ? sum + r.square() : r.square();
  }
  const at::Tensor expected = p * (1 - p);
  EXPECT_TRUE(at::allclose(sum / kRounds, expected, 0.4, 1e-3));
  EXPECT_NEAR(sum.sum().item<double>() / kRounds, expected.sum().item<double>(),
              0.05 * expected.sum().item<double>());
}

}  // namespace
}  // namespace repquant
