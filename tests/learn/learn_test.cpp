// Learning on a whole model: it helps, the same for any number of threads, and goes on where it
// was stopped.
#include "learn/learn.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/serialization/pickle.h>

#include <filesystem>
#include <fstream>

#include "data/arrays.h"
#include "fit/fit_sites.h"
#include "learn/variation.h"
#include "plan/serialize.h"
#include "recipe/json.h"
#include "repquant/error.h"
#include "support/paths.h"
#include "support/prepared.h"
#include "support/recipes.h"
#include "support/scripted.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using testing::prepare_planted;
using testing::Prepared;
using testing::TempDir;

constexpr LearningRecipe kRecipe{.steps = 12, .samples = 8, .rate = 0.02};

struct Fitted {
  Prepared prepared;
  HeldBack samples;
  std::vector<SitePlan> plans;
};

Fitted fit(Prepared prepared, const Recipe& recipe) {
  HeldBack samples = hold_back_samples(prepared.batches, sample_count(prepared.batches) / 8);
  std::vector<SitePlan> plans =
      fit_sites(prepared.model, prepared.search, samples.fitted, recipe, {}).plans;
  return {std::move(prepared), std::move(samples), std::move(plans)};
}

const Fitted& quantized() {
  static const Fitted fitted = fit(prepare_planted(4), recipe_for_bits({2, 8}));
  return fitted;
}

Learned learn_quantized(const LearnOptions& options, const LearningRecipe& recipe = kRecipe) {
  return learn(quantized().prepared.model, quantized().prepared.search.sites, quantized().plans,
               quantized().samples, recipe, options);
}

void expect_same(const Learned& got, const Learned& expected) {
  EXPECT_EQ(got.loss_after, expected.loss_after);
  ASSERT_EQ(got.plans.size(), expected.plans.size());
  for (std::size_t i = 0; i < got.plans.size(); ++i) {
    ASSERT_EQ(torch::jit::pickle_save(to_ivalue(got.plans[i])),
              torch::jit::pickle_save(to_ivalue(expected.plans[i])))
        << expected.plans[i].path;
  }
}

TEST(Learn, LowersTheLossOfSamplesThatAreNotFitted) {
  const auto digits = testing::source_dir() / "examples/digits";
  const at::Tensor images = read_npz(digits / "digits_calib.npz").tensors.front();
  Batches batches;
  for (std::int64_t i = 0; i < 16; ++i) batches.push_back({images.narrow(0, 8 * i, 8).clone()});
  const Fitted fitted =
      fit(testing::prepare((digits / "digits_vit.pt").string(), std::move(batches)),
          testing::coarse_recipe({3, 4}));
  LearnOptions options;
  options.threads = 2;
  const Learned learned =
      learn(fitted.prepared.model, fitted.prepared.search.sites, fitted.plans, fitted.samples,
            {.steps = 60, .samples = 16, .rate = 0.02}, options);
  EXPECT_EQ(learned.problem, "");
  EXPECT_LT(learned.loss_after, 0.8 * learned.loss_before);
  ASSERT_EQ(learned.plans.size(), fitted.plans.size());
  for (std::size_t i = 0; i < learned.plans.size(); ++i) {
    const auto* linear = std::get_if<LinearPlan>(&learned.plans[i].plan);
    if (linear == nullptr) continue;
    const auto& before = std::get<LinearPlan>(fitted.plans[i].plan);
    EXPECT_FALSE(at::equal(linear->weight.scale, before.weight.scale)) << fitted.plans[i].path;
    EXPECT_FALSE(at::equal(linear->bias, before.bias)) << fitted.plans[i].path;
  }
}

TEST(Learn, ThreadsDoNotChangeABit) {
  LearnOptions one, three;
  three.threads = 3;
  const Learned expected = learn_quantized(one), got = learn_quantized(three);
  EXPECT_EQ(got.loss_after, expected.loss_after);
  expect_same(got, expected);
}

TEST(Learn, GoesOnWhereItWasStopped) {
  LearningRecipe recipe = kRecipe;
  recipe.steps = 56;  // a state is written after 50
  const Learned expected = learn_quantized({}, recipe);
  const TempDir folder;
  LearnOptions options;
  options.workdir = folder.path().string();
  options.fingerprint = "run";
  options.check_interrupt = [step = 0]() mutable {
    if (++step > 53) throw Error(ErrorKind::kInterrupted, {.what = "stopped"});
  };
  EXPECT_THROW(learn_quantized(options, recipe), Error);
  options.check_interrupt = [] {};
  options.resume = true;
  int first = -1;
  options.on_step = [&](int step) { first = first < 0 ? step : first; };
  expect_same(learn_quantized(options, recipe), expected);
  EXPECT_EQ(first, 50);
}

TEST(Learn, ADamagedOrForeignStateIsNotUsed) {
  const TempDir folder;
  LearnOptions options;
  options.workdir = folder.path().string();
  options.fingerprint = "run";
  const Learned expected = learn_quantized(options);
  options.resume = true;
  options.fingerprint = "other";
  expect_same(learn_quantized(options), expected);
  const std::filesystem::path state = folder.path() / "learning.pt";
  std::filesystem::resize_file(state, std::filesystem::file_size(state) / 2);
  std::string warning;
  options.warn = [&](const std::string& text) { warning = text; };
  expect_same(learn_quantized(options), expected);
  EXPECT_NE(warning.find("damaged"), std::string::npos) << warning;
}

TEST(Learn, WithoutSamplesToJudgeByNothingIsLearned) {
  const Learned learned = learn(quantized().prepared.model, quantized().prepared.search.sites,
                                quantized().plans, {quantized().samples.fitted, {}}, kRecipe, {});
  EXPECT_TRUE(learned.plans.empty());
  EXPECT_NE(learned.problem, "");
}

TEST(Learn, WhatIsWorseIsNotKept) {
  const Learned learned = learn_quantized({}, {.steps = 25, .samples = 1, .rate = 1.0});
  EXPECT_GT(learned.loss_after, learned.loss_before);
  EXPECT_TRUE(learned.plans.empty());
  EXPECT_EQ(learned.problem, "");
}

TEST(Learn, AModelWithoutGradientsIsNamed) {
  std::map<std::string, at::Tensor> constants;
  testing::add_linear(constants, "1", 16, 8, 1);
  const Fitted fitted = fit(testing::scripted("  y = torch.linear(x, self.w1, self.b1)\n"
                                              "  return torch.argmax(y, -1)\n",
                                              constants, testing::normal_batches(4, {8, 8})),
                            recipe_for_bits({4, 4}));
  const Learned learned = learn(fitted.prepared.model, fitted.prepared.search.sites, fitted.plans,
                                fitted.samples, kRecipe, {});
  EXPECT_TRUE(learned.plans.empty());
  EXPECT_NE(learned.problem, "");
}

TEST(VaryImages, KeepsSizesAndRange) {
  const at::Tensor images = testing::Random(5).normal({3, 3, 32, 24});
  std::mt19937_64 engine(1), again(1);
  const at::Tensor varied = vary_images(images, engine);
  EXPECT_EQ(varied.sizes(), images.sizes());
  EXPECT_LE(varied.max().item<float>(), images.max().item<float>());
  EXPECT_GE(varied.min().item<float>(), images.min().item<float>());
  EXPECT_FALSE(at::equal(varied, images));
  EXPECT_TRUE(at::equal(vary_images(images, again), varied));
}

}  // namespace
}  // namespace repquant
