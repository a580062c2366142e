#include "sweep/learn.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/serialization/pickle.h>

#include <algorithm>
#include <random>

#include "base/recipe_json.h"
#include "plan/serialize.h"
#include "plan/simulate.h"
#include "repquant/error.h"
#include "support/errors.h"
#include "support/prepared.h"
#include "sweep/augment.h"
#include "sweep/blocks.h"
#include "sweep/soft_model.h"
#include "sweep/sweep.h"

namespace repquant {
namespace {

using testing::prepare_planted;
using testing::Prepared;

const Prepared& planted() {
  static const Prepared prepared = prepare_planted();
  return prepared;
}

const HeldBack& samples() {
  static const HeldBack parts = hold_back(planted().batches, 8);
  return parts;
}

const std::vector<SitePlan>& closed_form() {
  static const SweepResult result = run_sweep(planted().model, planted().search, samples().fitted,
                                              recipe_for_bits({4, 4}), SweepOptions{});
  return result.plans;
}

/// Leaves the mean errors in, so that there is much to learn.
Recipe rough_recipe() {
  Recipe recipe = recipe_for_bits({4, 4});
  recipe.weights.bias_correction = false;
  recipe.weights.compensation = Compensation::kNone;
  return recipe;
}

const std::vector<SitePlan>& rough_fit() {
  static const SweepResult result = run_sweep(planted().model, planted().search, samples().fitted,
                                              rough_recipe(), SweepOptions{});
  return result.plans;
}

LearningRecipe steps(int count) {
  LearningRecipe recipe;
  recipe.steps = count;
  recipe.samples = 3;
  return recipe;
}

LearnResult learn_planted(const LearningRecipe& recipe, const LearnOptions& options) {
  return learn(planted().model, planted().search.sites, samples(), recipe, options, closed_form());
}

std::vector<char> bytes_of(const SitePlan& plan) {
  return torch::jit::pickle_save(to_ivalue(plan));
}

const SitePlan& first_linear() {
  return *std::find_if(closed_form().begin(), closed_form().end(), [](const SitePlan& plan) {
    const auto* linear = std::get_if<LinearPlan>(&plan.plan);
    return linear != nullptr && linear->input.per_channel() && linear->side.channels.empty();
  });
}

at::Tensor input_for(const LinearPlan& linear) {
  const std::int64_t width = linear.weight.codes.size(1);
  return at::linspace(-40, 40, 7 * width).reshape({7, width});
}

TEST(Blocks, HoldEverySiteOnceInOrder) {
  const Schedule schedule(*planted().model.graph);
  const auto& sites = planted().search.sites;
  std::size_t next = 0, position = 0;
  for (const GraphBlock& block : find_blocks(schedule, sites)) {
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
    const bool last = block.end == schedule.nodes().size();
    EXPECT_EQ(block.carried == nullptr, last);
    EXPECT_TRUE(last || schedule.live_at(block.carried, block.end));
    position = block.end;
  }
  EXPECT_EQ(next, sites.size());
  EXPECT_EQ(position, schedule.nodes().size());
}

TEST(SoftModel, GivesTheSimulationsOutputs) {
  const SoftModel soft(planted().model, planted().search.sites, closed_form());
  const auto& batch = samples().fitted.front();
  const std::vector<at::Tensor> got = soft.run_soft(batch, soft.realize());
  const std::vector<at::Tensor> expected = soft.run_hard(batch, closed_form());
  ASSERT_FALSE(got.empty());
  ASSERT_EQ(got.size(), expected.size());
  // A sum in another order may move a value over the middle between two codes, so not all are
  // equal.
  for (std::size_t i = 0; i < got.size(); ++i) {
    const at::Tensor difference = (got[i] - expected[i]).detach();
    EXPECT_LT(difference.norm().item<double>(), 0.05 * expected[i].norm().item<double>());
  }
}

TEST(SoftModel, ExpectsTheFloatingPointValuesAndWeighsTokens) {
  const SoftModel soft(planted().model, planted().search.sites, closed_form());
  const auto& batch = samples().fitted.front();
  const Expected expected = soft.run_float(batch, 3);
  const std::vector<at::Tensor> plain = soft.run_hard(batch, {});
  ASSERT_EQ(expected.carried.size(), plain.size());
  for (std::size_t i = 0; i < expected.carried.size(); ++i) {
    EXPECT_TRUE(at::equal(expected.carried[i], plain[i])) << i;
    const at::Tensor& weights = expected.weights[i];
    EXPECT_EQ(weights.sizes().slice(0, 2), expected.carried[i].sizes().slice(0, 2)) << i;
    EXPECT_NEAR(weights.mean().item<double>(), 1.0, 1e-5) << i;
    EXPECT_GE(weights.min().item<double>(), 0.2 - 1e-6) << i;
    EXPECT_GT(weights.max().item<double>(), 1.0) << i;
  }
}

// The last value depends on its own block's parameters only.
TEST(SoftModel, PassesNoGradientToTheBlockBefore) {
  const auto& sites = planted().search.sites;
  const SoftModel soft(planted().model, sites, closed_form());
  const auto blocks = find_blocks(Schedule(*planted().model.graph), sites);
  ASSERT_GE(blocks.size(), 3U);
  const at::AutoGradMode with_gradients(true);
  const auto realized = soft.realize();
  const auto carried = soft.run_soft(samples().fitted.front(), realized);
  std::vector<at::Tensor> list;
  std::vector<std::size_t> owners;  // the site of each
  std::size_t site = 0;
  for (std::size_t plan = 0; plan < closed_form().size(); ++plan) {
    while (sites[site].path != closed_form()[plan].path) ++site;
    for (const at::Tensor& tensor : realized[plan]) {
      if (!tensor.requires_grad()) continue;
      list.push_back(tensor);
      owners.push_back(site);
    }
  }
  const auto gradients = torch::autograd::grad({carried.back().sum()}, list, {}, std::nullopt,
                                               /*create_graph=*/false, /*allow_unused=*/true);
  const auto& own = blocks[blocks.size() - 2].sites;  // the last block is not run
  bool any = false;
  for (std::size_t k = 0; k < list.size(); ++k) {
    const bool inside = std::find(own.begin(), own.end(), owners[k]) != own.end();
    EXPECT_TRUE(inside || !gradients[k].defined()) << sites[owners[k]].path;
    any = any || gradients[k].defined();
  }
  EXPECT_TRUE(any);
}

TEST(SoftModel, LeavesGridsPerTokenAlone) {
  Recipe recipe = recipe_for_bits({4, 4});
  recipe.input.granularity = recipe.norm.granularity = InputGranularity::kPerToken;
  const auto& batch = samples().fitted.front();
  const auto plans =
      run_sweep(planted().model, planted().search, samples().fitted, recipe, SweepOptions{}).plans;
  const SoftModel soft(planted().model, planted().search.sites, plans);
  const std::vector<at::Tensor> got = soft.run_soft(batch, soft.realize());
  const std::vector<at::Tensor> expected = soft.run_hard(batch, plans);
  for (std::size_t i = 0; i < got.size(); ++i) {
    const at::Tensor difference = (got[i] - expected[i]).detach();
    EXPECT_LT(difference.norm().item<double>(), 0.05 * expected[i].norm().item<double>());
  }
  const auto hardened = soft.harden();
  for (std::size_t i = 0; i < plans.size(); ++i) {
    const auto* linear = std::get_if<LinearPlan>(&hardened[i].plan);
    if (linear == nullptr) continue;
    EXPECT_EQ(bytes_of(hardened[i]), bytes_of(plans[i])) << plans[i].path;
    EXPECT_TRUE(linear->input.per_token) << plans[i].path;
  }
}

TEST(SoftPlan, PassesGradientsThroughAGridPerToken) {
  SitePlan plan = first_linear();
  auto& linear = std::get<LinearPlan>(plan.plan);
  linear.input = per_token_quantizer(4);
  const at::Tensor x = input_for(linear);
  const at::AutoGradMode with_gradients(true);
  const SoftPlan soft(plan, nullptr, false);
  const auto realized = soft.realize();
  ASSERT_EQ(realized.size(), 2U);
  const at::Tensor leaf = x.clone().set_requires_grad(true);
  const at::Tensor output = soft.evaluate({leaf}, realized);
  EXPECT_TRUE(at::allclose(output, simulate_linear(linear, x), 1e-4, 1e-4));
  const at::Tensor g = at::linspace(-1, 2, output.numel()).reshape(output.sizes());
  const auto got = torch::autograd::grad({(output * g).sum()}, {leaf, realized[0], realized[1]});
  EXPECT_TRUE(at::allclose(got[0], at::matmul(g, linear.weight.dequantize()), 1e-4, 1e-4));
  EXPECT_TRUE(at::allclose(got[1], at::matmul(g.t(), fake_quantize(x, linear.input)), 1e-4, 1e-3));
  EXPECT_TRUE(at::allclose(got[2], g.sum(0), 1e-4, 1e-4));
}

TEST(SoftModel, HardensToThePlansItself) {
  const SoftModel soft(planted().model, planted().search.sites, closed_form());
  const auto plans = soft.harden();
  ASSERT_EQ(plans.size(), closed_form().size());
  for (std::size_t i = 0; i < plans.size(); ++i) {
    const auto* linear = std::get_if<LinearPlan>(&closed_form()[i].plan);
    if (linear == nullptr) continue;
    const auto& other = std::get<LinearPlan>(plans[i].plan);
    EXPECT_TRUE(at::equal(linear->weight.codes, other.weight.codes)) << plans[i].path;
    EXPECT_TRUE(at::equal(linear->weight.scale, other.weight.scale)) << plans[i].path;
    EXPECT_TRUE(at::equal(linear->bias, other.bias)) << plans[i].path;
    EXPECT_TRUE(at::allclose(linear->input.multiplier, other.input.multiplier)) << plans[i].path;
  }
}

TEST(SoftPlan, GradientsAreThoseOfTheStraightThroughForm) {
  const SitePlan& plan = first_linear();
  const auto& linear = std::get<LinearPlan>(plan.plan);
  const at::Tensor x = input_for(linear);
  const at::AutoGradMode with_gradients(true);
  const SoftPlan soft(plan, nullptr, false);
  auto realized = soft.realize();
  const at::Tensor leaf = x.clone().set_requires_grad(true);
  const at::Tensor output = soft.evaluate({leaf}, realized);
  const at::Tensor g = at::linspace(-1, 2, output.numel()).reshape(output.sizes());
  const auto got = torch::autograd::grad(
      {(output * g).sum()}, {leaf, realized[0], realized[1], realized[2], realized[3]});
  const at::Tensor codes = encode(x, linear.input) - static_cast<double>(linear.input.zero_point);
  const at::Tensor weight = linear.weight.dequantize() * linear.input.scale;
  const at::Tensor position = x * linear.input.multiplier + linear.input.offset;
  const auto top = static_cast<double>(linear.input.max_code());
  const at::Tensor inside = position.ge(-0.5).logical_and(position.le(top + 0.5)).to(at::kFloat);
  EXPECT_LT(inside.sum().item<double>(), static_cast<double>(inside.numel()));  // some are clipped
  const at::Tensor back = at::matmul(g, weight) * inside;
  EXPECT_TRUE(at::allclose(got[0], back * linear.input.multiplier, 1e-4, 1e-4));
  EXPECT_TRUE(at::allclose(got[1], at::matmul(g.t(), codes), 1e-4, 1e-3));
  EXPECT_TRUE(at::allclose(got[2], g.sum(0), 1e-4, 1e-4));
  EXPECT_TRUE(at::allclose(got[3], (back * x).sum(0), 1e-4, 1e-3));
  EXPECT_TRUE(at::allclose(got[4], back.sum(0), 1e-4, 1e-3));
}

TEST(SoftPlan, SharesAnInputGridWithItsOwner) {
  const SitePlan& plan = first_linear();
  const SoftPlan owner(plan, nullptr, false);
  const SoftPlan other(plan, &owner, false);
  EXPECT_EQ(other.parameters().size() + 2, owner.parameters().size());
}

TEST(HoldBack, TakesAnEighthFromTheEnd) {
  const auto batch = [](std::int64_t from, std::int64_t count) {
    return std::vector<at::Tensor>{at::arange(from, from + count).unsqueeze(1)};
  };
  const HeldBack parts = hold_back({batch(0, 8), batch(8, 8), batch(16, 8), batch(24, 2)}, 8);
  ASSERT_EQ(parts.held_back.size(), 2U);  // 26 / 8 = 3 samples: the last batch and one more
  EXPECT_EQ(parts.held_back[0][0].item<std::int64_t>(), 23);
  EXPECT_EQ(parts.held_back[1][0].size(0), 2);
  ASSERT_EQ(parts.fitted.size(), 3U);
  EXPECT_EQ(parts.fitted[2][0].size(0), 7);
  EXPECT_TRUE(hold_back({batch(0, 1)}, 8).held_back.empty());
  EXPECT_EQ(hold_back({batch(0, 2)}, 8).held_back.size(), 1U);
}

TEST(Learn, KeepsOnlyWhatIsBetterOnHeldBackSamples) {
  const LearnResult result = learn_planted(steps(24), {});
  EXPECT_EQ(result.problem, "");
  EXPECT_LE(result.loss_after, result.loss_before);
  EXPECT_EQ(result.plans.empty(), result.steps == 0);
  EXPECT_EQ(result.loss_after<result.loss_before, result.steps> 0);
}

// Judged by what it learns from, so that the optimizer itself is seen.
TEST(Learn, LearnsTheSamplesItIsGiven) {
  const HeldBack same{samples().fitted, samples().fitted};
  const LearnResult result =
      learn(planted().model, planted().search.sites, same, steps(150), {}, closed_form());
  EXPECT_GT(result.steps, 0);
  EXPECT_LT(result.loss_after, 0.99 * result.loss_before);
  ASSERT_FALSE(result.plans.empty());
  ASSERT_LT(result.plans.size(), closed_form().size());
  bool changed = false;
  for (std::size_t i = 0; i < result.plans.size(); ++i) {
    EXPECT_EQ(result.plans[i].path, closed_form()[i].path);
    changed = changed || bytes_of(result.plans[i]) != bytes_of(closed_form()[i]);
  }
  EXPECT_TRUE(changed);
}

// What --effort high does with the learned plans.
TEST(Learn, TheSweepFitsTheLastBlockOnLearnedPlans) {
  const HeldBack same{samples().fitted, samples().fitted};
  const LearnResult learned =
      learn(planted().model, planted().search.sites, same, steps(60), {}, rough_fit());
  SweepOptions options;
  options.given = learned.plans;
  const auto plans =
      run_sweep(planted().model, planted().search, samples().fitted, rough_recipe(), options).plans;
  ASSERT_EQ(plans.size(), rough_fit().size());
  for (std::size_t i = 0; i < learned.plans.size(); ++i) {
    EXPECT_EQ(bytes_of(plans[i]), bytes_of(learned.plans[i])) << plans[i].path;
  }
  EXPECT_NE(bytes_of(plans.back()), bytes_of(rough_fit().back()));
}

TEST(OutputLoss, IsZeroInFloatingPointAndTheSameForAnyThreads) {
  const auto loss = [&](const std::vector<SitePlan>& plans, int threads) {
    return output_loss(planted().model, planted().search.sites, plans, samples().held_back,
                       threads);
  };
  EXPECT_EQ(loss({}, 1), 0.0);
  EXPECT_GT(loss(closed_form(), 1), 0.0);
  EXPECT_EQ(loss(closed_form(), 1), loss(closed_form(), 2));
}

TEST(Learn, ThreadsDoNotChangeABit) {
  LearnOptions two;
  two.threads = 2;
  const HeldBack same{samples().fitted, samples().fitted};
  const auto learned = [&](const LearnOptions& options) {
    return learn(planted().model, planted().search.sites, same, steps(60), options, rough_fit())
        .plans;
  };
  const auto one = learned({}), other = learned(two);
  ASSERT_EQ(one.size(), other.size());
  ASSERT_FALSE(one.empty());
  for (std::size_t i = 0; i < one.size(); ++i) {
    EXPECT_EQ(bytes_of(one[i]), bytes_of(other[i])) << one[i].path;
  }
}

TEST(Learn, StopsWhenAsked) {
  LearnOptions options;
  int seen = 0;
  options.on_step = [&](int step) { seen = step; };
  options.check_interrupt = [&] {
    if (seen >= 2) throw Error(ErrorKind::kInterrupted, {.what = "interrupted"});
  };
  EXPECT_ERROR(learn_planted(steps(9), options), ErrorKind::kInterrupted, "interrupted");
  EXPECT_EQ(seen, 2);
}

TEST(Learn, WithoutHeldBackSamplesKeepsTheLastStep) {
  const LearnResult result = learn(planted().model, planted().search.sites, {samples().fitted, {}},
                                   steps(4), {}, closed_form());
  EXPECT_EQ(result.problem, "");
  EXPECT_EQ(result.steps, 4);
  EXPECT_FALSE(result.plans.empty());
}

TEST(Learn, NeedsAValueBetweenBlocks) {
  const std::vector<Site> none;
  const LearnResult result = learn(planted().model, none, samples(), steps(4), {}, {});
  EXPECT_NE(result.problem, "");
}

TEST(Augment, KeepsSizeAndRangeAndFollowsTheSeed) {
  const at::Tensor images = at::linspace(0, 1, 2 * 3 * 12 * 10).reshape({2, 3, 12, 10});
  std::mt19937_64 engine(1), again(1);
  const at::Tensor first = augment_images(images, engine);
  EXPECT_EQ(first.sizes(), images.sizes());
  EXPECT_GE(first.min().item<double>(), 0.0);
  EXPECT_LE(first.max().item<double>(), 1.0);
  EXPECT_TRUE(at::equal(first, augment_images(images, again)));
  EXPECT_FALSE(at::equal(first, augment_images(images, engine)));
}

}  // namespace
}  // namespace repquant
