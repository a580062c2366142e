// What the worst sites read: histograms that count every value once, before and after clipping.
#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "recipe/json.h"
#include "repquant/quantize.h"
#include "support/paths.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

class Histograms : public ::testing::Test {
 protected:
  QuantizeReport run(bool histograms) {
    const auto digits = testing::source_dir() / "examples/digits";
    QuantizeOptions options;
    options.model = (digits / "digits_vit.pt").string();
    options.calib = DataPath{(digits / "digits_calib.npz").string()};
    options.output = (folder_ / "out.pt").string();
    options.force = true;
    options.recipe = recipe_for_bits({4, 4});
    options.recipe.calibration.samples = 16;
    options.recipe.effort = Effort::kFast;
    options.histograms = histograms;
    return quantize(options);
  }

  testing::TempDir folder_;
};

double sum(const std::vector<double>& shares) {
  return std::accumulate(shares.begin(), shares.end(), 0.0);
}

TEST_F(Histograms, OnlyWhereTheyAreAskedFor) { EXPECT_TRUE(run(false).histograms.empty()); }

TEST_F(Histograms, AllValuesAndTheWorstChannelOfTheWorstSites) {
  const QuantizeReport report = run(true);
  ASSERT_GE(report.histograms.size(), 8U);
  double worst = report.sites.front().own_sqnr_db;
  std::string path;
  for (const SiteReport& site : report.sites) {
    if (site.own_sqnr_db <= worst) path = site.path, worst = site.own_sqnr_db;
  }
  EXPECT_EQ(report.histograms.front().path, path);
  std::set<std::string> sites;
  bool clips = false;
  for (std::size_t i = 0; i < report.histograms.size(); ++i) {
    const InputHistogram& histogram = report.histograms[i];
    SCOPED_TRACE(histogram.path + " " + histogram.operand);
    sites.insert(histogram.path);
    EXPECT_EQ(histogram.channel.has_value(), i % 2 == 1);
    EXPECT_LT(histogram.lower, histogram.upper);
    EXPECT_NEAR(sum(histogram.before), 1.0, 1e-9);
    EXPECT_NEAR(sum(histogram.after), 1.0, 1e-9);
    // The edges are the extremes: somebody is in the outer bins.
    EXPECT_GT(histogram.before.front(), 0.0);
    EXPECT_GT(histogram.before.back(), 0.0);
    clips = clips || histogram.clipped > 0;
    if (histogram.clipped == 0.0) {
      EXPECT_EQ(histogram.before, histogram.after);
    }
    // What a grid cuts off is nowhere beyond its ends any more.
    if (histogram.grid && histogram.grid->second < histogram.upper) {
      EXPECT_GT(histogram.clipped, 0.0);
    }
    EXPECT_LT(histogram.clipped, 0.2);
  }
  EXPECT_EQ(sites.size(), 4U);
  EXPECT_TRUE(clips);
}

}  // namespace
}  // namespace repquant
