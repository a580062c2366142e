#include "fit/residual.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/ir/ir.h>

#include "support/prepared.h"

namespace repquant {
namespace {

TEST(Residual, IsWhatTheOutputOfALinearIsAddedTo) {
  const auto model = testing::prepare_planted(1);
  const Schedule schedule(*model.model.graph);
  const auto quantized = quantized_values(schedule, model.search.sites);
  const auto residual = [&](const std::string& path) {
    return residual_of(model.site(path).node, schedule, quantized);
  };
  for (const char* path : {"blocks.0.attn.proj", "blocks.0.mlp.fc2", "blocks.1.mlp.fc2"}) {
    const auto* value = residual(path);
    ASSERT_NE(value, nullptr) << path;
    const auto* node = model.site(path).node;
    EXPECT_EQ(node->output()->uses()[0].user->input(0) == value ||
                  node->output()->uses()[0].user->input(1) == value,
              true);
    EXPECT_NE(value, node->output());
  }
  for (const char* path : {"blocks.0.attn.query", "blocks.0.mlp.fc1", "head"}) {
    EXPECT_EQ(residual(path), nullptr) << path;
  }
}

TEST(Residual, WhatDependsOnNoSiteHasNoError) {
  const auto model = testing::prepare_planted(1);
  const Schedule schedule(*model.model.graph);
  const auto quantized = quantized_values(schedule, model.search.sites);
  for (const auto* input : model.model.graph->inputs()) EXPECT_EQ(quantized.count(input), 0U);
  for (const Site& site : model.search.sites) EXPECT_EQ(quantized.count(site.node->output()), 1U);
  for (const auto* node : schedule.nodes()) {
    if (node->kind() != c10::prim::Constant) continue;
    EXPECT_EQ(quantized.count(node->output()), 0U);
  }
  const auto* node = model.site("blocks.0.mlp.fc2").node;
  EXPECT_EQ(residual_of(node, schedule, {}), nullptr);
}

TEST(Residual, ErrorsAreSpreadOverTheOutput) {
  const at::Tensor floating = at::arange(6, at::kFloat).view({1, 2, 3});
  const at::Tensor error = residual_error(floating, floating * 0.5, {4, 2, 3});
  ASSERT_EQ(error.sizes(), (std::vector<std::int64_t>{4, 2, 3}));
  EXPECT_TRUE(at::equal(error[3], floating[0] * 0.5));
  EXPECT_FALSE(residual_error(floating, floating, {2, 4}).defined());
  EXPECT_FALSE(residual_error(floating, floating.slice(1, 0, 1), {1, 2, 3}).defined());
}

}  // namespace
}  // namespace repquant
