// Folds are judged at their norm: what a reader computes does not depend on the fold, and where it
// does, that is seen.
#include "fit/fold_check.h"

#include <ATen/ATen.h>

#include <limits>
#include <utility>
#include <vector>

#include "fit/fit_sites.h"
#include "plan/simulate.h"
#include "recipe/json.h"
#include "support/prepared.h"
#include "support/random.h"

namespace repquant {
namespace {

at::Tensor normal(std::vector<std::int64_t> sizes, std::uint64_t seed) {
  return testing::Random(seed).normal(std::move(sizes));
}

LinearSite linear_site() {
  LinearSite site;
  site.weight = normal({5, 8}, 1);
  site.bias = normal({5}, 2);
  return site;
}

/// Channels with steps between 2^-7 and 1, about 3.
InputQuantizer per_channel() {
  InputQuantizer quantizer;
  quantizer.scale = 0.01;
  quantizer.zero_point = 128;
  quantizer.multiplier = at::pow(2.0, at::arange(8, at::kFloat));
  quantizer.offset = 128.0 - 3.0 * quantizer.multiplier;
  return quantizer;
}

TEST(FoldCheck, AFoldChangesNothing) {
  const double deviation = fold_deviation(linear_site(), per_channel(), normal({4, 6, 8}, 3));
  EXPECT_LT(deviation, 1e-6);  // float32 rounds weight and bias
  EXPECT_GT(deviation, 0.0);
}

TEST(FoldCheck, AFoldThatFloat32CannotHoldIsSeen) {
  InputQuantizer far = per_channel();
  far.offset = far.offset - 1e6 * far.multiplier;  // b = 1e6 r leaves little of x
  EXPECT_GT(fold_deviation(linear_site(), far, normal({4, 6, 8}, 3)), 1e-3);
}

TEST(FoldCheck, PaddingDoesNotMove) {
  LinearSite site = linear_site();
  site.scale_only_fold = true;
  EXPECT_GT(fold_deviation(site, per_channel(), normal({4, 6, 8}, 3)), 1e-2);
  InputQuantizer unshifted = per_channel();
  unshifted.offset = at::full({8}, 128.0);
  EXPECT_LT(fold_deviation(site, unshifted, normal({4, 6, 8}, 3)), 1e-6);
}

TEST(FoldCheck, RowsThatAreNotFiniteDoNotCount) {
  const at::Tensor x = normal({4, 6, 8}, 3);
  const double clean = fold_deviation(linear_site(), per_channel(), x.slice(0, 1, 4));
  x.select(0, 0).fill_(std::numeric_limits<float>::quiet_NaN());
  EXPECT_EQ(fold_deviation(linear_site(), per_channel(), x), clean);
  x.fill_(std::numeric_limits<float>::infinity());
  EXPECT_EQ(fold_deviation(linear_site(), per_channel(), x), 0.0);
}

TEST(FoldCheck, AFoldThatDoesNotHoldIsNotMade) {
  const testing::Prepared prepared = testing::prepare_planted(1);
  const Recipe recipe = recipe_for_bits({4, 4});
  const auto fit_all = [&](double largest) {
    FitSitesOptions options;
    options.largest_fold_deviation = largest;
    return fit_sites(prepared.model, prepared.search, prepared.batches, recipe, options);
  };
  const FittedSites folded = fit_all(1e-3);
  EXPECT_GT(folded.fold_deviation, 0.0);
  const FittedSites refused = fit_all(0.0);
  EXPECT_EQ(refused.fold_deviation, 0.0);
  ASSERT_EQ(refused.plans.size(), folded.plans.size());
  std::size_t folds = 0, noted = 0;
  for (std::size_t i = 0; i < folded.plans.size(); ++i) {
    const auto* before = std::get_if<LinearPlan>(&folded.plans[i].plan);
    if (before == nullptr || before->norm.empty()) continue;
    ++folds;
    const auto& after = std::get<LinearPlan>(refused.plans[i].plan);
    EXPECT_TRUE(after.norm.empty()) << folded.plans[i].path;
    EXPECT_FALSE(after.input.per_channel()) << folded.plans[i].path;
    const bool said = refused.plans[i].note.starts_with("not folded: ");
    if (folds == 1) {  // up to it both fits are one
      EXPECT_TRUE(said) << refused.plans[i].note;
    }
    if (said) ++noted;
  }
  EXPECT_GT(folds, 3U);
  // Behind a refused fold inputs are others, on which a site may want no fold.
  EXPECT_GT(2 * noted, folds);
}

}  // namespace
}  // namespace repquant
