// A model written as TorchScript text, saved, and loaded as the tool loads it.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/frontend/resolver.h>
#include <torch/csrc/jit/frontend/sugared_value.h>
#include <torch/csrc/jit/serialization/import.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "graph/archive.h"
#include "graph/observe.h"
#include "graph/site.h"
#include "graph/walker.h"
#include "repquant/error.h"

namespace repquant::testing {

/// How many sites of this kind were found.
inline int count_kind(const SiteSearch& search, SiteKind kind) {
  return static_cast<int>(std::count_if(search.sites.begin(), search.sites.end(),
                                        [&](const Site& site) { return kind_of(site) == kind; }));
}

class LoadedText : public ::testing::Test {
 protected:
  LoadedText() : module_("m") { at::manual_seed(3); }

  void parameter(const std::string& name, const at::Tensor& tensor) {
    module_.register_parameter(name, tensor, false);
  }

  /// Adds these methods; they may fork.
  void define(const std::string& code) {
    struct Resolver : torch::jit::NativeResolver {
      std::shared_ptr<torch::jit::SugaredValue> resolveValue(
          const std::string& name, torch::jit::GraphFunction& method,
          const torch::jit::SourceRange& range) override {
        if (name == "fork") return torch::jit::SpecialFormValue::create(c10::prim::fork);
        return NativeResolver::resolveValue(name, method, range);
      }
    };
    module_.define(code, std::make_shared<Resolver>());
  }

  /// Saves the module with this forward method and loads it as the tool does. `rank`: of the input,
  /// where it is known; `type`: its type, where that is, too.
  Model load(const std::string& code, std::size_t inputs = 1, std::int64_t rank = 0,
             std::optional<at::ScalarType> type = {}) {
    define(code);
    module_.eval();
    path_ = (std::filesystem::path(::testing::TempDir()) /
             (std::string("load_") +
              ::testing::UnitTest::GetInstance()->current_test_info()->name() + ".pt"))
                .string();
    module_.save(path_);
    std::vector<GivenInput> given;
    if (rank > 0) given.assign(inputs, {.name = "", .rank = rank, .type = type});
    return load_model(path_, inputs, given);
  }

  /// The outputs of the graph, which must be those of the module in stock LibTorch.
  at::Tensor run(const Model& model, const std::vector<at::Tensor>& tensors,
                 std::vector<c10::IValue> arguments = {}) {
    at::NoGradGuard no_grad;
    if (arguments.empty()) arguments.assign(tensors.begin(), tensors.end());
    const at::Tensor expected = torch::jit::load(path_).forward(arguments).toTensor();
    const at::Tensor got =
        output_tensors(run_graph(*model.graph, Schedule(*model.graph), copies_of(tensors))).at(0);
    EXPECT_TRUE(at::allclose(got, expected.to(got.scalar_type()), 1e-4, 1e-5));
    return got;
  }

  SiteSearch sites(const Model& model, const std::vector<at::Tensor>& inputs) {
    SiteSearch search = find_sites(model);
    prove_sites(model, search, inputs, observe(model, inputs).observed);
    return search;
  }

  /// One attention and nothing skipped, and the outputs of the module.
  void expect_attention(const Model& model, const at::Tensor& x, const std::string& what) {
    run(model, {x});
    const SiteSearch search = sites(model, {x});
    EXPECT_EQ(count_kind(search, SiteKind::kScores), 1) << what;
    EXPECT_EQ(count_kind(search, SiteKind::kAttend), 1) << what;
    EXPECT_TRUE(search.skipped.empty()) << what;
  }

  std::string refusal(const std::string& code) {
    try {
      load(code);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUnsupported);
      return error.parts().what;
    }
    return "";
  }

  torch::jit::Module module_;
  std::string path_;
};

}  // namespace repquant::testing
