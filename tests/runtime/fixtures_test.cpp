// Every fixture model, loaded portable and fused at every instruction set: the same outputs.
#include <gtest/gtest.h>

#include "ops/operators.h"
#include "repquant/error.h"
#include "runtime/saved_model.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using namespace testing;

struct Variant {
  const char* name;
  MinMaxOptions options;
  double least_db;
};

/// The other forms of a model become the graph of its first one, so they do with two.
std::vector<Variant> variants(bool first_form) {
  if (!first_form) return {{"w8a8", bits(8, 8), 30}, {"w4a4", bits(4, 4), 15}};
  MinMaxOptions channels = bits(8, 8), uniform = bits(8, 8), per_tensor = bits(8, 8);
  MinMaxOptions tokens = bits(4, 8);
  channels.per_channel_inputs = true;
  tokens.per_token_inputs = true;
  MinMaxOptions groups = tokens;
  groups.group_size = 8;
  uniform.uniform_softmax = true;
  per_tensor.row_maximum = false;
  MinMaxOptions weights = bits(4, 8);
  weights.weight_only = true;
  return {{"w8a8", bits(8, 8), 30}, {"w4a4", bits(4, 4), 15},       {"channels", channels, 30},
          {"uniform", uniform, 30}, {"per_tensor", per_tensor, 30}, {"weights", weights, 50},
          {"tokens", tokens, 30},   {"groups", groups, 30}};
}

struct FixtureForm {
  std::string name;
  std::string form;
  bool first_form = false;
};

std::vector<FixtureForm> fixtures() {
  std::vector<FixtureForm> result;
  for (const auto& entry : fixture_manifest()) {
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
                          site.op.find("repquant::group_linear") == 0 ||
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

}  // namespace
}  // namespace repquant
