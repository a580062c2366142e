// The proof of the fold is no formality: a fold that leaves a reader out is seen.
#include "fit/fold_check.h"

#include <algorithm>

#include "fit/sweep.h"
#include "graph/walker.h"
#include "recipe/json.h"
#include "support/prepared.h"

namespace repquant {
namespace {

class FoldCheckTest : public ::testing::Test {
 protected:
  FoldCheckTest()
      : prepared_(testing::prepare_planted(1)),
        plans_(run_sweep(prepared_.model, prepared_.search, prepared_.batches,
                         recipe_for_bits({4, 4}), {})
                   .plans) {}

  double deviation() const {
    const auto& inputs = prepared_.batches[0];
    const std::vector<c10::IValue> values(inputs.begin(), inputs.end());
    const auto outputs =
        output_tensors(run_graph(*prepared_.model.graph, Schedule(*prepared_.model.graph), values));
    return fold_deviation(prepared_.model, prepared_.search.sites, plans_, inputs, outputs);
  }

  std::vector<SitePlan>::iterator plan(const std::string& path) {
    return std::find_if(plans_.begin(), plans_.end(),
                        [&](const SitePlan& candidate) { return candidate.path == path; });
  }

  testing::Prepared prepared_;
  std::vector<SitePlan> plans_;
};

TEST_F(FoldCheckTest, FoldsOfASweepChangeNothing) {
  // A site with wide channels has ratios far from one, so float32 rounds differently: not zero.
  EXPECT_LT(deviation(), 1e-4);
  EXPECT_GT(deviation(), 0.0);
}

TEST_F(FoldCheckTest, ForgottenReader) {
  plans_.erase(plan("blocks.0.attn.key"));
  EXPECT_GT(deviation(), 1e-2);
}

TEST_F(FoldCheckTest, ReadersThatDisagree) {
  auto& input = std::get<LinearPlan>(plan("blocks.0.attn.key")->plan).input;
  input.multiplier = input.multiplier * 1.5;
  EXPECT_GT(deviation(), 1e-2);
}

TEST_F(FoldCheckTest, ShiftThroughPadding) {
  auto& input = std::get<LinearPlan>(plan("blocks.1.attn.qkv")->plan).input;
  input.offset = input.offset + 8.0;  // b = 8 s, which the padded rows do not get
  EXPECT_GT(deviation(), 1e-2);
}

}  // namespace
}  // namespace repquant
