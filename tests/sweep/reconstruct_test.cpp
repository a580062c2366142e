#include "sweep/reconstruct.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/ir/ir.h>

#include <set>

#include "base/recipe_json.h"
#include "plan/serialize.h"
#include "plan/simulate.h"
#include "support/prepared.h"
#include "sweep/blocks.h"
#include "sweep/soft_plan.h"
#include "sweep/sweep.h"

namespace repquant {
namespace {

using testing::prepare_planted;
using testing::Prepared;

const Prepared& planted() {
  static const Prepared prepared = prepare_planted();
  return prepared;
}

Recipe learned(int steps) {
  Recipe recipe = recipe_for_bits({4, 4});
  recipe.reconstruction.steps = steps;
  return recipe;
}

const SweepResult& closed_form() {
  static const SweepResult result =
      run_sweep(planted().model, planted().search, planted().batches, learned(0), SweepOptions{});
  return result;
}

TEST(Blocks, HoldEverySiteOnceInOrder) {
  const Schedule schedule(*planted().model.graph);
  const auto& sites = planted().search.sites;
  std::size_t next = 0, position = 0;
  for (const Block& block : find_blocks(schedule, sites)) {
    EXPECT_EQ(block.begin, position);
    std::size_t products = 0;
    for (const std::size_t site : block.sites) {
      EXPECT_EQ(site, next++);
      const std::size_t node = schedule.index_of(sites[site].node);
      EXPECT_GE(node, block.begin);
      EXPECT_LT(node, block.end);
      products += sites[site].kind == SiteKind::kAttend ? 1 : 0;
    }
    EXPECT_LE(products, 1U);
    position = block.end;
  }
  EXPECT_EQ(next, sites.size());
  EXPECT_EQ(position, schedule.nodes().size());
}

TEST(SoftPlan, StartsAtThePlanItself) {
  for (const SitePlan& plan : closed_form().plans) {
    const SitePlan back = SoftPlan(plan, false).harden();
    if (const auto* linear = std::get_if<LinearPlan>(&plan.plan)) {
      const auto& other = std::get<LinearPlan>(back.plan);
      EXPECT_TRUE(at::equal(linear->weight.codes, other.weight.codes)) << plan.path;
      EXPECT_TRUE(at::allclose(linear->weight.scale, other.weight.scale)) << plan.path;
      EXPECT_TRUE(at::allclose(linear->input.multiplier, other.input.multiplier)) << plan.path;
    }
  }
}

TEST(SoftPlan, GivesTheSimulationsValues) {
  const auto found = std::find_if(
      closed_form().plans.begin(), closed_form().plans.end(),
      [](const SitePlan& plan) { return std::holds_alternative<LinearPlan>(plan.plan); });
  const auto& linear = std::get<LinearPlan>(found->plan);
  const at::Tensor x = at::linspace(-1, 1, 5 * linear.weight.codes.size(1))
                           .reshape({5, linear.weight.codes.size(1)});
  const at::Tensor got = SoftPlan(*found, false).evaluate({x}).detach();
  EXPECT_TRUE(at::allclose(got, simulate_linear(linear, x), 1e-4, 1e-4));
}

TEST(Reconstruction, IsNeverWorseAndTheSameOnAnyThreads) {
  SweepOptions two;
  two.threads = 2;
  const SweepResult one =
      run_sweep(planted().model, planted().search, planted().batches, learned(6), SweepOptions{});
  const SweepResult other =
      run_sweep(planted().model, planted().search, planted().batches, learned(6), two);
  ASSERT_EQ(one.plans.size(), closed_form().plans.size());
  for (std::size_t i = 0; i < one.plans.size(); ++i) {
    const auto* linear = std::get_if<LinearPlan>(&one.plans[i].plan);
    if (linear == nullptr) continue;
    const auto& second = std::get<LinearPlan>(other.plans[i].plan);
    EXPECT_TRUE(at::equal(linear->weight.codes, second.weight.codes)) << one.plans[i].path;
    EXPECT_TRUE(at::equal(linear->bias, second.bias)) << one.plans[i].path;
  }
}

}  // namespace
}  // namespace repquant
