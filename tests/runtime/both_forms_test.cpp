#include "runtime/both_forms.h"

#include <gtest/gtest.h>
#include <torch/csrc/jit/ir/ir.h>

#include "runtime/saved_model.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using namespace testing;

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

}  // namespace
}  // namespace repquant
