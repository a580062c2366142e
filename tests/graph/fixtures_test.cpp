// Every fixture model, in every exported form: the walker reproduces PyTorch's outputs, the sites
// and folds are those that the model's author expects, or the error is the expected one.
#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <map>
#include <set>

#include "graph/observe.h"
#include "graph/site.h"
#include "graph/site_path.h"
#include "graph/walker.h"
#include "repquant/error.h"
#include "support/fixtures.h"
#include "support/load.h"

namespace repquant {
namespace {

using ::repquant::testing::fixture_data;
using ::repquant::testing::fixture_entry;
using ::repquant::testing::fixture_manifest;
using ::repquant::testing::fixture_path;

struct Case {
  std::string name, form;
};

// Without it gtest prints the bytes, addresses among them.
void PrintTo(const Case& value, std::ostream* out) { *out << value.name << '.' << value.form; }

/// Every fixture in every form; `with_sites`: only where something can be quantized.
std::vector<Case> all_cases(bool with_sites = false) {
  std::vector<Case> cases;
  for (const auto& entry : fixture_manifest()) {
    if (with_sites && entry.at("expect").at("outcome") != "ok") continue;
    for (const auto& form : entry.at("forms")) cases.push_back({entry.at("name"), form});
  }
  return cases;
}

class Fixture : public ::testing::TestWithParam<Case> {
 protected:
  nlohmann::json expect() const { return fixture_entry(GetParam().name).at("expect"); }
  std::string outcome() const { return expect().at("outcome"); }
  std::string path() const { return fixture_path(GetParam().name, GetParam().form); }
};

TEST_P(Fixture, WalkerReproducesPyTorch) {
  const auto data = fixture_data(GetParam().name);
  const Model model = testing::load_for(path(), data.inputs);
  const Schedule schedule(*model.graph);
  at::NoGradGuard no_grad;
  const std::vector<c10::IValue> inputs(data.inputs.begin(), data.inputs.end());
  const auto outputs = output_tensors(run_graph(*model.graph, schedule, inputs));
  ASSERT_EQ(outputs.size(), data.outputs.size());
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    EXPECT_TRUE(at::allclose(outputs[i], data.outputs[i], 1e-4, 1e-5)) << "output " << i;
  }
}

TEST_P(Fixture, FindsTheExpectedSites) {
  const auto data = fixture_data(GetParam().name);
  SiteSearch search;
  try {
    const Model model = testing::load_for(path(), data.inputs);
    search = find_sites(model);
    prove_sites(model, search, data.inputs, observe(model, data.inputs).observed);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUnsupported) << error.what();
    EXPECT_EQ(outcome(), "unsupported") << error.what();
    EXPECT_FALSE(error.parts().where.empty());
    return;
  }
  ASSERT_NE(outcome(), "unsupported");
  std::map<SiteKind, int> count;
  std::set<std::string> paths;
  for (const auto& site : search.sites) {
    const SiteKind kind = kind_of(site);
    ++count[kind];
    EXPECT_TRUE(paths.insert(site.path).second) << site.path << " is not unique";
    EXPECT_EQ(site.macs > 0, kind != SiteKind::kEmbedding) << site.path;
    const bool product = kind == SiteKind::kScores || kind == SiteKind::kAttend;
    EXPECT_EQ(constant_of(site).defined(), !product) << site.path;
  }
  EXPECT_EQ(count[SiteKind::kLinear], expect().at("linears"));
  EXPECT_EQ(count[SiteKind::kPatchEmbedding], expect().at("patch_embeddings"));
  EXPECT_EQ(count[SiteKind::kScores], expect().at("attentions"));
  EXPECT_EQ(count[SiteKind::kAttend], expect().at("attentions"));
  const std::string& name = GetParam().name;
  const bool reads_ids = name.starts_with("post_norm_") || name.starts_with("decoder");
  EXPECT_EQ(count[SiteKind::kEmbedding], reads_ids ? 1 : 0);
}

class FixtureWithSites : public Fixture {};

TEST_P(FixtureWithSites, FoldsExactlyTheFoldableNorms) {
  const auto data = fixture_data(GetParam().name);
  const Model model = testing::load_for(path(), data.inputs);
  SiteSearch search = find_sites(model);
  prove_sites(model, search, data.inputs, observe(model, data.inputs).observed);
  const auto expected = expect();              // a temporary in the range would be gone in the loop
  if (GetParam().form.ends_with("_frozen")) {  // inlined by PyTorch: the modules' names are lost
    std::size_t wanted = 0;
    for (const auto& norm : expected.at("norms")) {
      if (norm.at("fold") != "none") wanted += norm.at("linears").size();
    }
    const auto folded = [](const Site& site) { return norm_of(site) != nullptr; };
    EXPECT_EQ(std::count_if(search.sites.begin(), search.sites.end(), folded), wanted);
    return;
  }
  std::map<std::string, const Site*> by_path;
  for (const auto& site : search.sites) by_path[site.path] = &site;
  std::map<std::string, int> seen;  // a module that runs twice has the sites path and path#2
  for (const auto& norm : expected.at("norms")) {
    const std::string fold = norm.at("fold");
    if (fold == "optional") continue;
    for (const std::string path : norm.at("linears")) {
      const int run = ++seen[path];
      const std::string module = path.empty() ? "linear" : path;  // of no module of its own
      const std::string name = run == 1 ? module : module + "#" + std::to_string(run);
      ASSERT_EQ(by_path.count(name), 1U) << name;
      const Site& site = *by_path.at(name);
      EXPECT_EQ(norm_of(site) != nullptr, fold != "none") << name << ": " << site.note;
      if (norm_of(site) != nullptr) {
        EXPECT_EQ(linear_of(site)->scale_only_fold, fold == "scale") << name;
      } else if (linear_of(site)->source == InputSource::kNorm) {
        EXPECT_NE(site.note, "") << name;
      }
    }
  }
}

std::string name_of_case(const ::testing::TestParamInfo<Case>& test) {
  return test.param.name + "_" + test.param.form;
}

INSTANTIATE_TEST_SUITE_P(All, Fixture, ::testing::ValuesIn(all_cases()), name_of_case);
INSTANTIATE_TEST_SUITE_P(All, FixtureWithSites, ::testing::ValuesIn(all_cases(true)), name_of_case);

TEST(Forms, TraceAndScriptGiveTheSameSites) {
  for (const auto& entry : fixture_manifest()) {
    const std::string name = entry.at("name");
    std::set<std::string> forms;
    for (const auto& form : entry.at("forms")) forms.insert(form);
    if (forms.count("trace") == 0 || forms.count("script") == 0) continue;
    if (entry.at("expect").at("outcome") != "ok") continue;
    const auto data = fixture_data(name);
    std::vector<std::string> lists;
    for (const char* form : {"trace", "script"}) {
      const Model model = testing::load_for(fixture_path(name, form), data.inputs);
      SiteSearch search = find_sites(model);
      prove_sites(model, search, data.inputs, observe(model, data.inputs).observed);
      std::string list;
      for (const auto& site : search.sites) {
        list += site.path + " " + name_of(kind_of(site)) +
                " fold=" + (norm_of(site) == nullptr ? "none" : module_path(norm_of(site))) + " " +
                (linear_of(site) == nullptr
                     ? "-"
                     : std::to_string(static_cast<int>(linear_of(site)->source))) +
                "\n";
      }
      lists.push_back(list);
    }
    EXPECT_EQ(lists[0], lists[1]) << name;
  }
}

}  // namespace
}  // namespace repquant
