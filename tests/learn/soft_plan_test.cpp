// Soft plans are the simulation with gradients: the same values, and straight-through slopes.
#include "learn/soft_plan.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <variant>

#include "fit/fit_sites.h"
#include "fit/plan_hook.h"
#include "plan/simulate.h"
#include "recipe/json.h"
#include "support/prepared.h"
#include "support/random.h"
#include "support/recipes.h"

namespace repquant {
namespace {

using testing::prepare_planted;
using testing::Prepared;
using testing::Random;

const Prepared& planted() {
  static const Prepared prepared = prepare_planted(2);
  return prepared;
}

std::vector<SitePlan> plans_for(const Recipe& recipe) {
  return fit_sites(planted().model, planted().search, planted().batches, recipe, {}).plans;
}

/// The operands of all planned sites in the first batch, under the simulation.
std::vector<std::vector<at::Tensor>> operands_of(const std::vector<SitePlan>& plans) {
  std::vector<std::vector<at::Tensor>> all;
  PlanHook hook;
  const std::vector<const Site*> sites = sites_of(planted().search.sites, plans);
  for (std::size_t i = 0; i < plans.size(); ++i) {
    hook.add(*sites[i], [&all, &plan = plans[i]](const std::vector<at::Tensor>& operands) {
      all.push_back(operands);
      return simulate(plan, operands);
    });
  }
  const Schedule schedule(*planted().model.graph);
  run_graph(*planted().model.graph, schedule, copies_of(planted().batches.front()), hook);
  return all;
}

void expect_the_simulation(const Recipe& recipe) {
  const at::NoGradGuard no_grad;
  const std::vector<SitePlan> plans = plans_for(recipe);
  const auto operands = operands_of(plans);
  ASSERT_EQ(operands.size(), plans.size());
  for (std::size_t i = 0; i < plans.size(); ++i) {
    const SoftPlan soft(plans[i], nullptr, 0.01);
    const at::Tensor expected = simulate(plans[i], operands[i]);
    const at::Tensor got = soft.evaluate(operands[i], soft.realize());
    EXPECT_TRUE(at::allclose(got, expected, 1e-4, 1e-5 * expected.abs().max().item<double>()))
        << plans[i].path << " " << (got - expected).abs().max().item<double>() << " of "
        << expected.abs().max().item<double>() << ": " << plans[i].note;
  }
}

TEST(SoftPlan, IsTheSimulationOnGridsPerToken) {
  for (const int bits : {3, 4, 8}) expect_the_simulation(recipe_for_bits({bits, bits}));
  Recipe groups = recipe_for_bits({4, 4});
  groups.input.group_size = 16;
  groups.weights.group_size = 8;
  expect_the_simulation(groups);
}

TEST(SoftPlan, IsTheSimulationOnStaticGridsWithSideColumns) {
  for (const int bits : {4, 8}) expect_the_simulation(testing::static_recipe({bits, bits}));
}

TEST(SoftPlan, IsTheSimulationOfWeightOnlySites) {
  Recipe recipe = recipe_for_bits({4, kWeightOnlyBits});
  recipe.weights.group_size = 16;
  expect_the_simulation(recipe);
}

TEST(SoftPlan, IsTheSimulationOfThePapersAttentionAndOfScalesOfTokens) {
  Recipe recipe = find_ready_recipe("paper").value();
  recipe.bits = {4, 4};
  expect_the_simulation(recipe);
  recipe = recipe_for_bits({4, 4});
  recipe.attention.token_scales = TokenScales::kAlways;
  expect_the_simulation(recipe);
}

LinearPlan small_linear() {
  LinearPlan plan;
  plan.input = per_token_quantizer(8);
  plan.weight.bits = 4;
  plan.weight.codes = at::tensor({-8, 3, 0, 7, 1, -2}, at::kChar).view({2, 3});
  plan.weight.scale = at::tensor({0.5F, -0.25F});
  plan.bias = at::tensor({1.0F, -1.0F});
  return plan;
}

SitePlan plan_of(const LinearPlan& linear) {
  SitePlan plan;
  plan.path = "fc";
  plan.plan = linear;
  return plan;
}

TEST(SoftPlan, UnchangedItHardensToThePlan) {
  const SitePlan plan = plan_of(small_linear());
  const SitePlan hard = SoftPlan(plan, nullptr, 0.01).harden();
  const auto& linear = std::get<LinearPlan>(hard.plan);
  EXPECT_TRUE(at::equal(linear.weight.codes, small_linear().weight.codes));
  EXPECT_TRUE(at::equal(linear.weight.scale, small_linear().weight.scale));
  EXPECT_TRUE(at::equal(linear.bias, small_linear().bias));
  EXPECT_EQ(hard.note, "; learned");
}

// y = x W^T + b: the slope of sum(y) is sum(x) for every weight, times the scale of its row for the
// latent one, and one for a bias; that of x is the sum of the rounded weights.
TEST(SoftPlan, SlopesPassTheRounding) {
  const SitePlan plan = plan_of(small_linear());
  const SoftPlan soft(plan, nullptr, 0.01);
  const at::Tensor x = Random(1).normal({5, 3}).requires_grad_(true);
  const auto realized = soft.realize();
  const at::Tensor sum = soft.evaluate({x}, realized).sum();
  const auto& parameters = soft.parameters();
  ASSERT_EQ(parameters.size(), 3U);
  const auto slopes = torch::autograd::grad({sum}, {parameters[0].value, parameters[2].value, x});
  const at::Tensor quantized = fake_quantize(x.detach(), small_linear().input).sum(0, true);
  EXPECT_TRUE(at::allclose(slopes[0], small_linear().weight.scale.unsqueeze(1) * quantized, 1e-4));
  EXPECT_TRUE(at::allclose(slopes[1], at::full({2}, 5.0F)));
  const at::Tensor weight = small_linear().weight.dequantize();
  EXPECT_TRUE(at::allclose(slopes[2], weight.sum(0).expand({5, 3}), 1e-4));
}

TEST(SoftPlan, LearnedCodesAreLevelsThatThereAre) {
  LinearPlan linear = small_linear();
  linear.weight.bits = 2;
  linear.weight.levels = at::tensor({-20, -3, 5, 30}, at::kChar);
  linear.weight.codes = at::tensor({-20, 5, 5, 30, -3, -3}, at::kChar).view({2, 3});
  const SitePlan plan = plan_of(linear);
  const SoftPlan soft(plan, nullptr, 0.01);
  at::Tensor latent = soft.parameters()[0].value.detach();
  latent.copy_(at::tensor({-12.0F, 1.5F, 17.4F, 17.6F, -40.0F, 90.0F}).view({2, 3}));
  const SitePlan hard = soft.harden();
  const at::Tensor expected = at::tensor({-20, 5, 5, 30, -20, 30}, at::kChar).view({2, 3});
  EXPECT_TRUE(at::equal(std::get<LinearPlan>(hard.plan).weight.codes, expected));
}

TEST(SoftPlan, ASharedWeightIsLearnedOnce) {
  const SitePlan plan = plan_of(small_linear());
  const SoftPlan first(plan, nullptr, 0.01), second(plan, &first, 0.01);
  EXPECT_EQ(second.parameters().size(), 1U);  // its bias
  first.parameters()[0].value.detach().fill_(2.0);
  first.parameters()[1].value.detach().fill_(1.5);
  const SitePlan one = first.harden(), other = second.harden();
  const auto &a = std::get<LinearPlan>(one.plan), &b = std::get<LinearPlan>(other.plan);
  EXPECT_TRUE(at::equal(a.weight.codes, b.weight.codes));
  EXPECT_TRUE(at::equal(a.weight.scale, b.weight.scale));
}

}  // namespace
}  // namespace repquant
