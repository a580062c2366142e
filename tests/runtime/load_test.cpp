// Artifacts of the fixture models, loaded portable and fused: the same outputs, and a report that
// says what runs where.
#include "repquant/load.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <cmath>

#include "artifact/lower.h"
#include "artifact/min_max_plans.h"
#include "artifact/save.h"
#include "base/atomic_file.h"
#include "format/description.h"
#include "graph/model.h"
#include "graph/site.h"
#include "ops/operators.h"
#include "repquant/error.h"
#include "runtime/both_forms.h"
#include "runtime/lazy_archive.h"
#include "support/fixtures.h"
#include "support/load.h"
#include "support/scripted.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using testing::fixture_data;
using testing::MinMaxOptions;
using testing::TempDir;

std::string description(const PortableSites& portable = {}) {
  ArtifactInfo info;
  info.recipe = "{}";
  info.portable = portable;
  return artifact_to_json(info);
}

void save(const torch::jit::Module& module, const std::filesystem::path& path,
          const std::string& text = description()) {
  AtomicFile file(path, true);
  save_artifact(module, {{"repquant.json", text}}, file);
  file.commit();
}

Lowered lowered(const std::string& name, const std::string& form, const MinMaxOptions& options) {
  const auto data = fixture_data(name);
  const Model model = testing::load_for(testing::fixture_path(name, form), data.inputs);
  SiteSearch search = find_sites(model);
  prove_sites(model, search, data.inputs);
  const auto plans = testing::min_max_plans(model, search.sites, data.inputs, options);
  return lower(model, search.sites, plans, {data.inputs, {}});
}

std::vector<at::Tensor> outputs(torch::jit::Module module, const std::vector<at::Tensor>& inputs) {
  at::NoGradGuard no_grad;
  const c10::IValue value = module.forward(std::vector<c10::IValue>(inputs.begin(), inputs.end()));
  std::vector<at::Tensor> tensors;
  if (value.isTensor()) tensors = {value.toTensor()};
  if (value.isTuple()) {
    for (const auto& element : value.toTupleRef().elements()) tensors.push_back(element.toTensor());
  }
  if (value.isGenericDict()) {
    for (const auto& entry : value.toGenericDict()) tensors.push_back(entry.value().toTensor());
  }
  return tensors;
}

double sqnr_db(const at::Tensor& expected, const at::Tensor& got) {
  const double noise = (expected - got).square().sum().item<double>();
  return 10 * std::log10(expected.square().sum().item<double>() / std::max(noise, 1e-30));
}

struct Variant {
  const char* name;
  MinMaxOptions options;
  double least_db;
};

MinMaxOptions bits(int weight_bits, int activation_bits) {
  MinMaxOptions options;
  options.weight_bits = weight_bits;
  options.activation_bits = activation_bits;
  return options;
}

/// The other forms of a model become the graph of its first one, so they do with two.
std::vector<Variant> variants(bool first_form) {
  if (!first_form) return {{"w8a8", bits(8, 8), 30}, {"w4a4", bits(4, 4), 15}};
  MinMaxOptions channels = bits(8, 8), uniform = bits(8, 8), per_tensor = bits(8, 8);
  MinMaxOptions tokens = bits(4, 8);
  channels.per_channel_inputs = true;
  tokens.per_token_inputs = true;
  uniform.uniform_softmax = true;
  per_tensor.row_maximum = false;
  MinMaxOptions weights = bits(4, 8);
  weights.weight_only = true;
  return {{"w8a8", bits(8, 8), 30}, {"w4a4", bits(4, 4), 15},       {"channels", channels, 30},
          {"uniform", uniform, 30}, {"per_tensor", per_tensor, 30}, {"weights", weights, 60},
          {"tokens", tokens, 30}};
}

struct FixtureForm {
  std::string name;
  std::string form;
  bool first_form = false;
};

std::vector<FixtureForm> fixtures() {
  std::vector<FixtureForm> result;
  for (const auto& entry : testing::fixture_manifest()) {
    if (entry.at("expect").at("outcome") != "ok") continue;
    for (const auto& form : entry.at("forms")) {
      result.push_back({entry.at("name"), form, form == entry.at("forms")[0]});
    }
  }
  return result;
}

class LoadFixture : public ::testing::TestWithParam<FixtureForm> {};

TEST_P(LoadFixture, FusedGivesThePortableOutputs) {
  const auto& [name, form, first_form] = GetParam();
  const auto data = fixture_data(name);
  const TempDir dir;
  for (const Variant& variant : variants(first_form)) {
    SCOPED_TRACE(variant.name);
    Lowered result;
    try {
      result = lowered(name, form, variant.options);
    } catch (const Error& e) {
      ASSERT_EQ(e.kind(), ErrorKind::kUnsupported) << e.what();
      continue;
    }
    const auto path = (dir / "artifact.pt").string();
    save(result.module, path);
    const auto expected = outputs(torch::jit::load(path), data.inputs);
    LoadReport report;
    const torch::jit::Module fused = load(path, {}, &report);
    std::vector<at::Tensor> first;
    for (const std::string& level : ops::cpu_levels()) {
      ops::set_cpu_level(level);
      const auto got = outputs(fused, data.inputs);
      ASSERT_EQ(got.size(), expected.size());
      for (std::size_t i = 0; i < got.size(); ++i) {
        ASSERT_EQ(got[i].sizes(), expected[i].sizes());
        EXPECT_GE(sqnr_db(expected[i], got[i]), variant.least_db) << level;
        if (first.size() <= i) first.push_back(got[i]);
        EXPECT_TRUE(at::equal(got[i], first[i])) << level << " differs from generic";
      }
    }
    std::size_t linears = 0;
    for (const auto& site : report.sites) {
      const bool linear = site.op.find("repquant::linear") == 0 ||
                          site.op.find("repquant::weight_only_linear") == 0;
      if (linear && site.reason.find("fused into") != 0) ++linears;
      EXPECT_TRUE(site.fused || !site.reason.empty()) << site.module;
    }
    if (!result.sites.empty()) {
      EXPECT_GT(linears, 0U) << "no Linear was fused";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, LoadFixture, ::testing::ValuesIn(fixtures()),
                         [](const auto& parameter) {
                           return parameter.param.name + "_" + parameter.param.form;
                         });

const LoadedSite* find(const LoadReport& report, const std::string& module) {
  for (const auto& site : report.sites) {
    if (site.module == module) return &site;
  }
  return nullptr;
}

TEST(LoadTest, ReportsWhatWasFusedIntoWhat) {
  const TempDir dir;
  const auto path = (dir / "a.pt").string();
  MinMaxOptions options = bits(4, 8);
  options.per_channel_inputs = true;
  options.side_columns_at = "blocks.0.mlp.fc2";
  save(lowered("vit_fused", "trace", options).module, path);
  LoadReport report;
  load(path, {}, &report);
  EXPECT_EQ(report.cpu_level, ops::cpu_level());
  for (const auto& site : report.sites) EXPECT_TRUE(site.fused) << site.module << site.reason;
  ASSERT_NE(find(report, "blocks_1_mlp_fc1"), nullptr);
  EXPECT_EQ(find(report, "blocks_1_mlp_fc1")->op, "repquant::linear u8 x s4");
  EXPECT_EQ(find(report, "blocks_1_mlp_fc1")->reason, "with requantization");
  EXPECT_EQ(find(report, "blocks_1_mlp_fc2")->reason, "with residual");
  EXPECT_EQ(find(report, "blocks_0_mlp_fc2")->reason, "with side columns, residual");
  EXPECT_EQ(find(report, "blocks_0_attn_scores")->reason, "fused into blocks_0_attn_attend");
}

TEST(LoadTest, GridsOfRowsAreTakenIn) {
  const TempDir dir;
  const auto path = (dir / "a.pt").string();
  MinMaxOptions options = bits(4, 8);
  options.per_token_inputs = true;
  save(lowered("vit_fused", "trace", options).module, path);
  LoadReport report;
  load(path, {}, &report);
  struct Expected {
    const char *module, *op, *reason;
  };
  for (const Expected& expected :
       {Expected{"blocks_1_mlp_fc1", "repquant::linear u8 x s4",
                 "with scales of rows, activation, grids of rows"},
        Expected{"blocks_1_mlp_fc2", "repquant::linear u8 x s4", "with scales of rows, residual"},
        Expected{"blocks_1_mlp_fc1_input", "repquant::norm_tokens", "with the norm"},
        Expected{"blocks_1_mlp_fc2_input", "repquant::linear_tokens",
                 "fused into blocks_1_mlp_fc1"},
        Expected{"blocks_1_mlp_fc1_scale", "repquant::linear", "fused into blocks_1_mlp_fc1"}}) {
    const LoadedSite* site = find(report, expected.module);
    ASSERT_NE(site, nullptr) << expected.module;
    EXPECT_EQ(site->op, expected.op) << expected.module;
    EXPECT_EQ(site->reason, expected.reason) << expected.module;
    EXPECT_TRUE(site->fused) << expected.module;
  }
}

TEST(LoadTest, ChannelsAreScaledByTheOperatorOfTheGrid) {
  const TempDir dir;
  const auto path = (dir / "a.pt").string();
  MinMaxOptions options = bits(8, 8);
  options.per_token_inputs = options.per_token_scale = true;
  save(lowered("vit_fused", "trace", options).module, path);
  LoadReport report;
  const torch::jit::Module fused = load(path, {}, &report);
  const LoadedSite* site = find(report, "blocks_1_mlp_fc2_input");
  ASSERT_NE(site, nullptr);
  EXPECT_EQ(site->op, "repquant::token_quantize");
  EXPECT_EQ(site->reason, "with the scales of channels");
  const auto inputs = fixture_data("vit_fused").inputs;
  const auto expected = outputs(torch::jit::load(path), inputs), got = outputs(fused, inputs);
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_GT(sqnr_db(expected[i], got[i]), 60);
}

TEST(LoadTest, WeightOnlySitesComputeOnPackedWeights) {
  const TempDir dir;
  const auto path = (dir / "a.pt").string();
  const auto data = fixture_data("vit_fused");
  for (const auto& [weight_bits, op] :
       std::vector<std::pair<int, std::string>>{{3, "repquant::weight_only_linear f32 x s4"},
                                                {8, "repquant::weight_only_linear f32 x s8"}}) {
    MinMaxOptions options = bits(weight_bits, 8);
    options.weight_only = true;
    save(lowered("vit_fused", "trace", options).module, path);
    LoadReport report;
    const auto fused = load(path, {}, &report);
    ASSERT_NE(find(report, "blocks_1_mlp_fc1"), nullptr);
    EXPECT_EQ(find(report, "blocks_1_mlp_fc1")->op, op);
    EXPECT_EQ(find(report, "blocks_1_mlp_fc1")->reason, "with activation");
    EXPECT_EQ(find(report, "blocks_1_mlp_fc2")->op, op);
    EXPECT_EQ(find(report, "blocks_1_mlp_fc2")->reason, "");
    for (const auto& site : report.sites) {
      EXPECT_TRUE(site.fused) << site.module;
      // The float weight is not made: nothing of the portable submodule is left in the module.
      EXPECT_FALSE(fused.hasattr(site.module)) << site.module;
    }
    EXPECT_TRUE(differences(load_both(path, {}), data.inputs).empty());
    const auto expected = outputs(torch::jit::load(path), data.inputs);
    EXPECT_GE(sqnr_db(expected[0], outputs(fused, data.inputs)[0]), 100);
  }
}

TEST(LoadTest, SaysWhyASiteStaysPortable) {
  const TempDir dir;
  const auto path = (dir / "a.pt").string();
  const auto data = fixture_data("vit_fused");
  MinMaxOptions options = bits(4, 4);
  options.row_maximum = false;
  save(lowered("vit_fused", "trace", options).module, path);
  LoadReport report;
  load(path, {}, &report);
  const LoadedSite* attend = find(report, "blocks_0_attn_attend");
  ASSERT_NE(attend, nullptr);
  EXPECT_FALSE(attend->fused);
  EXPECT_EQ(attend->op, "Attend");
  EXPECT_EQ(attend->reason, "probabilities with one scale per tensor");

  const auto portable = load(path, {.fused = false}, &report);
  for (const auto& site : report.sites) EXPECT_FALSE(site.fused);
  EXPECT_TRUE(at::equal(outputs(portable, data.inputs)[0],
                        outputs(torch::jit::load(path), data.inputs)[0]));
}

// Tracing writes `scores / math.sqrt(d)` with a constant tensor without axes.
TEST(LoadTest, ScoresAreScaledByNumbersAndByConstantsWithoutAxes) {
  const TempDir dir;
  const auto path = (dir / "a.pt").string();
  std::map<std::string, at::Tensor> constants{{"scale", at::scalar_tensor(2.5, at::kDouble)},
                                              {"mask", at::randn({6, 6})}};
  for (const char* name : {"q", "k", "v"}) testing::add_linear(constants, name, 8, 16, name[0]);
  const auto prepared = testing::scripted(
      "  q = torch.linear(x, self.wq, self.bq).view(x.size(0), -1, 2, 4).transpose(1, 2)\n"
      "  k = torch.linear(x, self.wk, self.bk).view(x.size(0), -1, 2, 4).transpose(1, 2)\n"
      "  v = torch.linear(x, self.wv, self.bv).view(x.size(0), -1, 2, 4).transpose(1, 2)\n"
      "  a = torch.matmul(q, k.transpose(-2, -1)) / self.scale + self.mask\n"
      "  return torch.matmul(torch.softmax(a, -1), v)\n",
      constants, testing::normal_batches(1, {4, 6, 16}));
  const auto& inputs = prepared.batches[0];
  const auto plans =
      testing::min_max_plans(prepared.model, prepared.search.sites, inputs, bits(8, 8));
  save(lower(prepared.model, prepared.search.sites, plans, {inputs, {}}).module, path);
  LoadReport report;
  const auto fused = load(path, {}, &report);
  for (const auto& site : report.sites) EXPECT_TRUE(site.fused) << site.module << site.reason;
  EXPECT_GT(sqnr_db(outputs(torch::jit::load(path), inputs)[0], outputs(fused, inputs)[0]), 60);
}

TEST(LoadTest, LeavesPortableWhatTheDescriptionSays) {
  const TempDir dir;
  const auto path = (dir / "a.pt").string();
  const auto data = fixture_data("vit_fused");
  save(lowered("vit_fused", "trace", bits(8, 8)).module, path,
       description({{"blocks_0_attn_attend", "it differs"}}));
  LoadReport report;
  const auto fused = load(path, {}, &report);
  const LoadedSite* attend = find(report, "blocks_0_attn_attend");
  ASSERT_NE(attend, nullptr);
  EXPECT_FALSE(attend->fused);
  EXPECT_EQ(attend->reason, "it differs");
  ASSERT_NE(find(report, "blocks_0_attn_scores"), nullptr);
  EXPECT_FALSE(find(report, "blocks_0_attn_scores")->fused);
  EXPECT_TRUE(find(report, "blocks_1_attn_attend")->fused);
  EXPECT_GT(
      sqnr_db(outputs(torch::jit::load(path), data.inputs)[0], outputs(fused, data.inputs)[0]), 30);
}

std::string name_of_first(const BothForms& forms, const char* kind) {
  for (const auto& replacement : forms.replaced) {
    if (replacement.fused->node()->kind() == c10::Symbol::fromQualString(kind)) {
      return replacement.module;
    }
  }
  return "";
}

/// Replaces argument `index` of the first operator `kind` of the fused form.
void change(const BothForms& forms, const char* kind, std::size_t index, const c10::IValue& value) {
  for (auto* node : forms.fused_graph->nodes()) {
    if (node->kind() != c10::Symbol::fromQualString(kind)) continue;
    const torch::jit::WithInsertPoint guard(node);
    node->replaceInput(index, forms.fused_graph->insertConstant(value));
    return;
  }
  FAIL() << "no " << kind;
}

TEST(BothForms, AnOperatorThatComputesSomethingElseIsNamed) {
  const TempDir dir;
  const auto path = (dir / "a.pt").string();
  const auto inputs = fixture_data("vit_fused").inputs;
  save(lowered("vit_fused", "trace", bits(8, 8)).module, path);
  const auto wrong = [&](const char* kind, std::size_t index, const c10::IValue& value) {
    const BothForms forms = load_both(path, {});
    EXPECT_TRUE(differences(forms, inputs).empty());
    change(forms, kind, index, value);
    const auto found = differences(forms, inputs);
    ASSERT_EQ(found.size(), 1U) << kind;  // and none of those behind it
    EXPECT_EQ(found[0].module, name_of_first(forms, kind));
    EXPECT_FALSE(found[0].measured.empty());
  };
  wrong("repquant::norm_quantize", 4, 200);                   // max_code
  wrong("repquant::attention", 8, 3.0);                       // score_factor
  wrong("repquant::attention", 5, at::zeros({7}, at::kInt));  // does not run
}

TEST(BothForms, WhatIsKeptPortableIsNotCompared) {
  const TempDir dir;
  const auto path = (dir / "a.pt").string();
  const auto data = fixture_data("vit_fused");
  save(lowered("vit_fused", "trace", bits(8, 8)).module, path);
  const std::string module = name_of_first(load_both(path, {}), "repquant::attention");
  const BothForms forms = load_both(path, {{module, "as asked"}});
  for (const auto& replacement : forms.replaced) EXPECT_NE(replacement.module, module);
  EXPECT_TRUE(differences(forms, data.inputs).empty());
  EXPECT_TRUE(at::equal(outputs(forms.portable, data.inputs)[0],
                        outputs(torch::jit::load(path), data.inputs)[0]));
}

TEST(LoadTest, RefusesWhatIsNoArtifact) {
  const TempDir dir;
  const auto expect_kind = [](const std::string& path, ErrorKind kind) {
    try {
      load(path);
      ADD_FAILURE() << "loaded " << path;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), kind) << e.what();
    }
  };
  expect_kind((dir / "missing.pt").string(), ErrorKind::kFile);
  testing::write_text(dir / "text.pt", "no archive");
  expect_kind((dir / "text.pt").string(), ErrorKind::kFile);
  expect_kind(testing::fixture_path("vit_fused", "trace"), ErrorKind::kUnsupported);

  const auto path = dir / "a.pt";
  const Lowered result = lowered("norm_relu", "trace", {});
  save(result.module, path, R"({"format": {"major": 2, "minor": 0}})");
  expect_kind(path.string(), ErrorKind::kUnsupported);
  save(result.module, path, "not json");
  expect_kind(path.string(), ErrorKind::kFile);
  save(result.module, path, R"({"format": {"major": 1, "minor": 3}})");
  expect_kind(path.string(), ErrorKind::kFile);
  save(result.module, path);
  const std::string bytes = testing::read_text(path);
  testing::write_text(path, bytes.substr(0, bytes.size() / 2));
  expect_kind(path.string(), ErrorKind::kFile);
}

}  // namespace
}  // namespace repquant
