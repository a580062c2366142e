// Grids per token: a scale for each row, found at run time.
#include <ATen/ATen.h>
#include <torch/csrc/jit/api/module.h>

#include <algorithm>
#include <tuple>

#include "artifact/classes.h"
#include "artifact/lowered.h"
#include "graph/archive.h"
#include "plan/simulate.h"
#include "recipe/json.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using testing::lowered;
using testing::outputs_of;
using testing::plans_of;
using testing::Prepared;

constexpr int kRows = 24, kWidth = 32;

/// Rows from about 1 to about 1000 in magnitude.
at::Tensor tokens() {
  const at::Tensor magnitude = at::logspace(0, 3, kRows).view({1, kRows, 1});
  return at::randn({4, kRows, kWidth}) * magnitude;
}

/// Two Linears with a ReLU between.
Prepared two_linears(const testing::TempDir& folder) {
  at::manual_seed(5);
  torch::jit::Module module("Tokens");
  module.register_parameter("first", at::randn({48, kWidth}) / 6, false);
  module.register_parameter("first_bias", at::randn({48}) / 10, false);
  module.register_parameter("second", at::randn({kWidth, 48}) / 7, false);
  module.register_parameter("second_bias", at::randn({kWidth}) / 10, false);
  module.define(R"(
def forward(self, x: Tensor) -> Tensor:
    y = torch.relu(torch.linear(x, self.first, self.first_bias))
    return torch.linear(y, self.second, self.second_bias)
)");
  const std::string path = (folder / "tokens.pt").string();
  module.save(path);
  return testing::prepare(path, {{tokens()}, {tokens()}});
}

Recipe recipe_of(BitWidths bits, InputGranularity inputs, InputGranularity norms) {
  Recipe recipe = recipe_for_bits(bits);
  recipe.input.granularity = inputs;
  recipe.norm.granularity = norms;
  return recipe;
}

Recipe per_token(BitWidths bits) {
  return recipe_of(bits, InputGranularity::kPerToken, InputGranularity::kPerToken);
}

Recipe in_groups(BitWidths bits, int group_size) {
  Recipe recipe = per_token(bits);
  recipe.input.group_size = group_size;
  recipe.weights.group_size = group_size;
  return recipe;
}

/// Mean over rows of the error's norm relative to the row's.
double error_of_rows(const at::Tensor& expected, const at::Tensor& got) {
  return ((got - expected).norm(2, -1) / expected.norm(2, -1)).mean().item<double>();
}

TEST(Tokens, SmallRowsSurviveBesideLargeOnes) {
  const testing::TempDir folder;
  const Prepared prepared = two_linears(folder);
  const at::Tensor x = tokens();  // not seen in the calibration
  const at::Tensor expected = run_model(prepared.model, {x})[0];
  const auto error = [&](BitWidths bits, InputGranularity granularity) {
    const auto plans = plans_of(prepared, recipe_of(bits, granularity, granularity));
    const Lowered module = lowered(prepared, plans);
    testing::check(prepared, module, plans);  // throws where a call differs
    const auto path = folder / "model.pt";
    testing::save(module, path);
    check_reloaded(path.string(), run_module(module.module, {x}), {x});
    return error_of_rows(expected, outputs_of(load_archive(path.string(), false), {x})[0]);
  };
  EXPECT_LT(error({8, 8}, InputGranularity::kPerToken), 0.05);
  EXPECT_GT(error({8, 8}, InputGranularity::kPerTensor), 0.2);
  EXPECT_LT(3 * error({8, 4}, InputGranularity::kPerToken),
            error({8, 4}, InputGranularity::kPerTensor));
}

TEST(Tokens, ARowOfZerosGivesTheBias) {
  const testing::TempDir folder;
  const Prepared prepared = two_linears(folder);
  const auto plans = plans_of(prepared, per_token({8, 8}));
  const Lowered module = lowered(prepared, plans);
  at::Tensor x = tokens();
  x.select(1, 3).zero_();
  const at::Tensor got = outputs_of(module.module, {x})[0];
  EXPECT_TRUE(got.isfinite().all().item<bool>());
  const auto& first = std::get<LinearPlan>(plans[0].plan);
  const auto& second = std::get<LinearPlan>(plans[1].plan);
  const at::Tensor row = simulate_linear(second, at::relu(first.bias).unsqueeze(0))[0];
  EXPECT_TRUE(at::allclose(got[0][3], row, 1e-4, 1e-5));
}

TEST(Tokens, ClassesComputeTheSimulationsCodes) {
  ModuleFactory factory;
  at::manual_seed(2);
  at::Tensor x = at::randn({2, 5, 40}) * at::logspace(-30, 3, 5).view({1, 5, 1});
  x[1][2].zero_();
  x[1][3].fill_(-7.25);
  for (const int bits : {2, 4, 7, 8}) {
    InputQuantizer quantizer = per_token_quantizer(bits);
    for (const bool learned : {false, true}) {
      if (learned) {
        const at::Tensor drawn = at::randperm(256).slice(0, 0, std::int64_t{1} << bits);
        quantizer.levels = std::get<0>(drawn.sort()).to(at::kByte);
      }
      const std::int64_t top = quantizer.max_product_code();
      auto range = factory.token_range(top);
      const at::Tensor rows = range.forward({x}).toTensor();
      const TokenGrids grids = token_grids(x, quantizer);
      EXPECT_TRUE(at::equal(rows, at::cat({grids.low, grids.step}, -1))) << bits;
      auto quantize = factory.token_quantize(top, quantizer.levels);
      const at::Tensor codes = quantize.forward({x, rows}).toTensor();
      EXPECT_EQ(codes.scalar_type(), at::kByte);
      const at::Tensor expected = product_codes(encode(x, quantizer), quantizer);
      EXPECT_TRUE(at::equal(codes.to(at::kFloat), expected)) << bits << learned;
      for (const int group_size : {1, 16, 32, 40}) {  // with a rest of 8 columns, and without
        InputQuantizer grouped = quantizer;
        grouped.group_size = group_size;
        auto groups = factory.group_quantize(group_size, top, quantizer.levels);
        EXPECT_TRUE(at::equal(groups.forward({x}).toTensor(), product_input(x, grouped)))
            << bits << learned << " " << group_size;
      }
    }
  }
}

TEST(Tokens, ScaleBringsAProductBack) {
  ModuleFactory factory;
  at::manual_seed(3);
  const at::Tensor product = at::randn({2, 5, 7}), rows = at::randn({2, 5, 2});
  TokenScaleState state{.sums = at::randn({7}), .bias = at::randn({7})};
  const at::Tensor expected =
      product * rows.slice(2, 1) + rows.slice(2, 0, 1) * state.sums + state.bias;
  auto scale = factory.token_scale(state);
  EXPECT_TRUE(at::allclose(scale.forward({product.clone(), rows}).toTensor(), expected));
  state.output = LinearOutput::kOperandCodes;
  state.output_low = -2;
  state.output_high = 1;
  auto codes = factory.token_scale(state);
  EXPECT_TRUE(at::equal(codes.forward({product.clone(), rows}).toTensor(),
                        at::round(expected).clamp(-2, 1).to(at::kChar)));
}

/// Fixtures with folds, padding, attention, tied heads, several readers of one norm.
class TokensFixture : public ::testing::TestWithParam<const char*> {};

TEST_P(TokensFixture, ComputesWhatWasSimulated) {
  const Prepared prepared = testing::prepare_fixture(GetParam(), "trace");
  const auto& inputs = prepared.batches[0];
  const testing::TempDir folder;
  const std::vector<Recipe> recipes{
      per_token({8, 8}), per_token({4, 4}),
      recipe_of({8, 8}, InputGranularity::kPerToken, InputGranularity::kPerChannel),
      recipe_of({8, 8}, InputGranularity::kAuto, InputGranularity::kPerToken),
      in_groups({3, 3}, 16)};
  for (const Recipe& recipe : recipes) {
    const auto plans = plans_of(prepared, recipe);
    const Lowered module = lowered(prepared, plans);
    testing::check(prepared, module, plans);  // throws where a call differs
    testing::save(module, folder / "model.pt");
    check_reloaded((folder / "model.pt").string(), run_module(module.module, inputs), inputs);
    std::size_t scaled = 0;
    for (std::size_t i = 0; i < plans.size(); ++i) {
      const auto* linear = std::get_if<LinearPlan>(&plans[i].plan);
      const auto site =
          std::find_if(module.sites.begin(), module.sites.end(),
                       [&](const LoweredSite& row) { return row.path == plans[i].path; });
      ASSERT_NE(site, module.sites.end());
      const bool token = linear != nullptr && linear->input.per_token;
      const bool groups = token && linear->input.group_size > 0;
      EXPECT_EQ(site->scale_module.empty(), !token || groups) << site->path;
      if (!token) continue;
      ++scaled;
      EXPECT_EQ(site->input, SiteInput::kQuantize) << site->path;
      EXPECT_NE(site->output, SiteOutput::kProductCodes) << site->path;
      EXPECT_TRUE(linear->side.channels.empty()) << site->path;
      EXPECT_EQ(linear->input.levels.defined(), linear->input.bits <= 6) << site->path;
      EXPECT_EQ(linear->input.form, CodeForm::kUniform) << site->path;
    }
    if (recipe.input.granularity == InputGranularity::kPerToken) {
      EXPECT_GT(scaled, 0U);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, TokensFixture,
                         ::testing::Values("vit_fused", "swin_padded", "post_norm_bool_mask",
                                           "decoder", "linear_spellings", "norm_relu"));

TEST(Tokens, ReadersOfOneValueShareItsCodes) {
  const Prepared prepared = testing::prepare_fixture("vit_separate", "trace");
  const Lowered module = lowered(prepared, plans_of(prepared, per_token({8, 8})));
  const auto module_of = [&](const std::string& path) {
    for (const LoweredSite& site : module.sites) {
      if (site.path == path) return site.input_module;
    }
    return std::string();
  };
  std::size_t shared = 0;
  for (std::size_t i = 1; i < module.sites.size(); ++i) {
    const LoweredSite& site = module.sites[i];
    if (site.scale_module.empty()) continue;
    shared +=
        !module_of(site.path).empty() && module_of(site.path) == module.sites[i - 1].input_module
            ? 1
            : 0;
  }
  EXPECT_GT(shared, 1U);  // query, key, value
}

}  // namespace
}  // namespace repquant
