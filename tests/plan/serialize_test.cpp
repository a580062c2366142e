#include "plan/serialize.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/script.h>

#include "plan/simulate.h"
#include "repquant/error.h"

namespace repquant {
namespace {

QuantizedWeight weight(int rows, int columns) {
  QuantizedWeight result;
  result.codes = at::arange(rows * columns, at::kInt).sub(3).to(at::kChar).view({rows, columns});
  result.scale = at::arange(1, rows + 1, at::kFloat) / 7;
  result.bits = 4;
  result.outcome = "gptq, damping x10";
  result.error_rtn = 1.0 / 3;
  result.error_gptq = 0.1;
  return result;
}

SitePlan linear_plan() {
  LinearPlan linear;
  linear.input.bits = 4;
  linear.input.form = CodeForm::kQuadratic;
  linear.input.multiplier = at::arange(1, 6, at::kFloat) / 3;
  linear.input.offset = at::arange(5, at::kFloat);
  linear.input.scale = 0.1;
  linear.input.zero_point = 17;
  linear.side.channels = {1, 4};
  linear.side.scale = at::ones({2});
  linear.side.zero_point = at::zeros({2});
  linear.side.weight = weight(3, 2);
  linear.weight = weight(3, 5);
  linear.weight.scale = at::arange(1, 10, at::kFloat).view({3, 3}) / 7;
  linear.weight.group_size = 2;
  linear.bias = at::arange(3, at::kFloat) / 9;
  linear.norm = "x.5";
  SitePlan plan;
  plan.path = "blocks.0.mlp.fc2";
  plan.plan = linear;
  plan.errors = {1.5, 2.5, 0.9};
  plan.note = "channel-wise";
  return plan;
}

OperandQuantizer operand(int bits) {
  const at::Tensor scale = at::arange(1, 4, at::kFloat).view({3, 1, 1}) / 7;
  return {bits, scale.reciprocal(), scale, at::arange(3, at::kFloat).view({3, 1, 1})};
}

c10::IValue round_trip(const c10::IValue& value) {
  return torch::jit::pickle_load(torch::jit::pickle_save(value));
}

// Pickled bytes are equal exactly when every field is.
void expect_lossless(const SitePlan& plan) {
  const auto bytes = torch::jit::pickle_save(to_ivalue(plan));
  const SitePlan again = plan_from_ivalue(torch::jit::pickle_load(bytes));
  EXPECT_EQ(torch::jit::pickle_save(to_ivalue(again)), bytes);
  EXPECT_EQ(again.path, plan.path);
  EXPECT_EQ(again.kind, plan.kind);
  EXPECT_EQ(again.note, plan.note);
}

TEST(Serialize, LinearIsLossless) {
  const SitePlan plan = linear_plan();
  expect_lossless(plan);
  const SitePlan again = plan_from_ivalue(round_trip(to_ivalue(plan)));
  const auto& before = std::get<LinearPlan>(plan.plan);
  const auto& after = std::get<LinearPlan>(again.plan);
  EXPECT_EQ(after.input.form, CodeForm::kQuadratic);
  EXPECT_EQ(after.input.scale, before.input.scale);
  EXPECT_EQ(after.input.zero_point, 17);
  EXPECT_TRUE(at::equal(after.input.multiplier, before.input.multiplier));
  EXPECT_EQ(after.side.channels, before.side.channels);
  EXPECT_TRUE(at::equal(after.weight.codes, before.weight.codes));
  EXPECT_EQ(after.weight.outcome, "gptq, damping x10");
  EXPECT_EQ(after.weight.error_rtn, before.weight.error_rtn);
  EXPECT_EQ(after.norm, "x.5");
}

TEST(Serialize, WeightOnlyWithoutInputGrid) {
  SitePlan plan = linear_plan();
  auto& linear = std::get<LinearPlan>(plan.plan);
  linear.quantized_input = false;
  linear.input = {};
  linear.side = {};
  plan.kind = SiteKind::kPatchEmbedding;
  expect_lossless(plan);
}

TEST(Serialize, GridPerTokenIsLossless) {
  SitePlan plan = linear_plan();
  std::get<LinearPlan>(plan.plan).input = per_token_quantizer(6);
  std::get<LinearPlan>(plan.plan).input.group_size = 3;
  expect_lossless(plan);
  const SitePlan again = plan_from_ivalue(round_trip(to_ivalue(plan)));
  EXPECT_TRUE(std::get<LinearPlan>(again.plan).input.per_token);
  EXPECT_EQ(std::get<LinearPlan>(again.plan).input.group_size, 3);
  EXPECT_FALSE(std::get<LinearPlan>(plan_from_ivalue(round_trip(to_ivalue(linear_plan()))).plan)
                   .input.per_token);
}

TEST(Serialize, ConvolutionsAreLossless) {
  SitePlan plan;
  plan.path = "blocks.0.depthwise";
  plan.kind = SiteKind::kGroupedConvolution;
  GroupedConvolutionPlan convolution;
  convolution.input = operand(4);
  convolution.weight = std::get<LinearPlan>(linear_plan().plan).weight;
  convolution.bias = at::rand({convolution.weight.codes.size(0)});
  convolution.shape = {{3, 5}, {1, 2}, {1, 0}, {2, 1}, 4};
  plan.plan = convolution;
  expect_lossless(plan);
  const SitePlan again = plan_from_ivalue(round_trip(to_ivalue(plan)));
  EXPECT_EQ(std::get<GroupedConvolutionPlan>(again.plan).shape, convolution.shape);
  convolution.quantized_input = false;
  convolution.input = {};
  plan.plan = convolution;
  expect_lossless(plan);
}

TEST(Serialize, AttentionIsLossless) {
  SitePlan scores;
  scores.path = "blocks.0.attn.scores";
  scores.kind = SiteKind::kScores;
  scores.plan = ScoresPlan{operand(4), operand(6)};
  expect_lossless(scores);

  SitePlan attend;
  attend.path = "blocks.0.attn.attend";
  attend.kind = SiteKind::kAttend;
  AttendPlan value;
  value.bits = 6;
  value.grid = LogGrid{6, 4, true, true};
  value.row_maximum = false;
  value.softmax_scale = 0.7;
  value.value = operand(8);
  attend.plan = value;
  expect_lossless(attend);
  const SitePlan again = plan_from_ivalue(round_trip(to_ivalue(attend)));
  const auto& after = std::get<AttendPlan>(again.plan);
  EXPECT_EQ(after.grid.steps_per_octave, 4);
  EXPECT_TRUE(after.grid.u8_table);
  EXPECT_FALSE(after.row_maximum);
  EXPECT_EQ(after.softmax_scale, 0.7);
}

TEST(Serialize, EmbeddingIsLossless) {
  SitePlan plan;
  plan.path = "token_embed";
  plan.kind = SiteKind::kEmbedding;
  plan.plan = EmbeddingPlan{weight(4, 6)};
  expect_lossless(plan);
  const SitePlan again = plan_from_ivalue(round_trip(to_ivalue(plan)));
  const auto& before = std::get<EmbeddingPlan>(plan.plan).table;
  const auto& after = std::get<EmbeddingPlan>(again.plan).table;
  EXPECT_TRUE(at::equal(after.codes, before.codes));
  EXPECT_TRUE(at::equal(after.scale, before.scale));
  EXPECT_EQ(after.bits, before.bits);
}

TEST(Serialize, ViewsDoNotDragTheirStorageAlong) {
  SitePlan plan = linear_plan();
  auto& linear = std::get<LinearPlan>(plan.plan);
  linear.bias = at::zeros({100000}).slice(0, 0, 3);
  EXPECT_LT(torch::jit::pickle_save(to_ivalue(plan)).size(), 20000U);
}

TEST(SiteKinds, AreFoundByTheirNames) {
  EXPECT_EQ(find_site_kind("linear"), SiteKind::kLinear);
  EXPECT_EQ(find_site_kind(name_of(SiteKind::kProduct)), SiteKind::kProduct);
  EXPECT_EQ(find_site_kind("lines"), std::nullopt);
  EXPECT_EQ(find_site_kind(""), std::nullopt);
}

TEST(Serialize, DamagedValuesAreTypedErrors) {
  const auto expect_file_error = [](const c10::IValue& value) {
    try {
      plan_from_ivalue(value);
      ADD_FAILURE() << "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kFile);
    }
  };
  expect_file_error(c10::IValue(3));
  for (const char* key : {"path", "kind", "plan", "note", "own_output_sqnr_db"}) {
    auto removed = to_ivalue(linear_plan()).toGenericDict();
    ASSERT_EQ(removed.erase(std::string(key)), 1U);
    expect_file_error(removed);
    auto replaced = to_ivalue(linear_plan()).toGenericDict();
    replaced.insert_or_assign(std::string(key), c10::IValue(true));
    expect_file_error(replaced);
  }
  for (const std::int64_t kind : {-1, 8, 1 << 20}) {  // of no site
    auto unknown = to_ivalue(linear_plan()).toGenericDict();
    unknown.insert_or_assign(std::string("kind"), c10::IValue(kind));
    expect_file_error(unknown);
  }
  auto plan = to_ivalue(linear_plan()).toGenericDict();
  auto nested = plan.at(std::string("plan")).toGenericDict();
  nested.insert_or_assign(std::string("bias"), at::zeros({3}, at::kDouble));
  expect_file_error(plan);
}

}  // namespace
}  // namespace repquant
