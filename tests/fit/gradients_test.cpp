// The backward pass in blocks against the one of the whole graph.
#include "fit/gradients.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/ir/ir.h>

#include "fit/blocks.h"
#include "support/fixtures.h"

namespace repquant {
namespace {

using torch::jit::Value;

struct Case {
  Model model;
  SiteSearch search;
  std::vector<at::Tensor> batch;

  explicit Case(const std::string& name)
      : model(load_model(testing::fixture_path(name, "trace"), 0)),
        search(find_sites(model)),
        batch(testing::fixture_data(name).inputs) {}

  Differentiated run(const std::vector<GraphBlock>& blocks) const {
    DifferentiateOptions options;
    for (const Site& site : search.sites) {
      options.wanted.insert(site.node->output());
      options.kept.insert(site.node->input(0));
    }
    options.seed = 5;
    options.with_logits = true;
    options.blocks = blocks;
    return differentiate(*model.graph, Schedule(*model.graph), batch, options);
  }
};

void expect_close(const TensorByValue& got, const TensorByValue& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (const auto& [value, tensor] : expected) {
    ASSERT_EQ(got.count(value), 1U) << value->debugName();
    EXPECT_TRUE(at::allclose(got.at(value), tensor, 1e-4, 1e-6)) << value->debugName();
  }
}

TEST(Differentiate, BlocksGiveTheGradientsOfTheWhole) {
  for (const std::string name : {"vit_fused", "decoder", "swin"}) {
    SCOPED_TRACE(name);
    const Case model(name);
    const Schedule schedule(*model.model.graph);
    const std::vector<GraphBlock> blocks = find_blocks(schedule, model.search.sites);
    ASSERT_GT(blocks.size(), 1U);
    const Differentiated whole = model.run({}), parts = model.run(blocks);
    ASSERT_FALSE(whole.outputs_gradients.empty());
    expect_close(parts.outputs_gradients, whole.outputs_gradients);
    expect_close(parts.logits_gradients, whole.logits_gradients);
    expect_close(parts.kept, whole.kept);
    ASSERT_EQ(parts.outputs.size(), whole.outputs.size());
  }
}

TEST(Differentiate, HandsGradientsOverOneByOne) {
  const Case model("vit_fused");
  const Schedule schedule(*model.model.graph);
  DifferentiateOptions options;
  for (const Site& site : model.search.sites) options.wanted.insert(site.node->output());
  const auto expected = differentiate(*model.model.graph, schedule, model.batch, options);
  TensorByValue seen;
  options.blocks = find_blocks(schedule, model.search.sites);
  options.see_gradient = [&](const Value* value, const at::Tensor& gradient) {
    EXPECT_TRUE(seen.emplace(value, gradient.clone()).second) << value->debugName();
  };
  const auto got = differentiate(*model.model.graph, schedule, model.batch, options);
  EXPECT_TRUE(got.outputs_gradients.empty());
  expect_close(seen, expected.outputs_gradients);
}

}  // namespace
}  // namespace repquant
