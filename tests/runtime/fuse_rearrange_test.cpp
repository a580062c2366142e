// Chains of reshapes and permutations become one operator, and nothing else does.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/api/compilation_unit.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/frontend/ir_emitter.h>
#include <torch/csrc/jit/frontend/resolver.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>
#include <torch/csrc/jit/passes/inliner.h>

#include <map>

#include "graph/rewrite.h"
#include "runtime/fuse.h"

namespace repquant {
namespace {

using Counts = std::map<std::string, int>;

/// What the function computes before and after, of inputs at two batch sizes; returns which
/// operators it then has. The output of the first node of kind `kept` stands for something.
Counts fused(const std::string& text, at::IntArrayRef sizes, const std::string& kept = "") {
  torch::jit::CompilationUnit unit;
  unit.define(std::nullopt, text, torch::jit::nativeResolver(), nullptr);
  auto& function = torch::jit::toGraphFunction(unit.get_function("forward"));
  std::vector<at::Tensor> inputs, expected;
  for (const std::int64_t batch : {2, 5}) {
    std::vector<std::int64_t> shape = sizes.vec();
    shape.insert(shape.begin(), batch);
    inputs.push_back(at::randn(shape));
    expected.push_back(function({inputs.back()}).toTensor());
  }
  const LazyArchive archive;
  const PortableSites portable;
  const GraphCopy copy(*function.graph());
  FusionContext context{archive, portable, copy};
  for (const auto* node : all_nodes(*copy.graph)) {
    if (context.replaced.empty() && node->kind().toQualString() == kept) {
      context.replaced.push_back({.module = "kept", .fused = node->output()});
    }
  }
  fuse_rearrangements(context, *copy.graph);
  torch::jit::EliminateDeadCode(copy.graph);
  copy.graph->lint();
  torch::jit::GraphFunction rewritten("forward", copy.graph, nullptr);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const at::Tensor got = rewritten({inputs[i]}).toTensor();
    EXPECT_EQ(got.sizes(), expected[i].sizes()) << text;
    EXPECT_TRUE(at::equal(got, expected[i])) << text;
  }
  Counts counts;
  bool found = kept.empty();
  for (const auto* node : all_nodes(*copy.graph)) {
    const std::string kind = node->kind().toQualString();
    for (const char* name : {"aten::reshape", "aten::view", "aten::permute", "aten::transpose",
                             "aten::contiguous", "repquant::rearrange"}) {
      if (kind == name) ++counts[kind];
    }
    for (const auto* output : node->outputs()) {
      found = found || context.is_replacement(output);
    }
  }
  EXPECT_TRUE(found) << "what stands for a value is gone";
  return counts;
}

TEST(FuseRearrangements, TakesAWholeChain) {
  const Counts counts = fused(R"(
def forward(x: Tensor) -> Tensor:
  b, c = x.size(0), x.size(1)
  w = x.reshape([b * c * 4, 2, 4, 2]).transpose(1, 2).reshape([b, c, 16, 4])
  t = w.transpose(1, 3).reshape([b * 4, 16, c]).contiguous() * 2.0
  u = t.view([b, 4, 16, c]).transpose(1, 3).reshape([b * c * 4, 4, 2, 2])
  return u.transpose(1, 2).reshape([b, c, 8, -1]).permute([0, 2, 3, 1])
)",
                              {6, 8, 8});
  EXPECT_EQ(counts, (Counts{{"repquant::rearrange", 2}}));
}

TEST(FuseRearrangements, TransposesMatrices) {
  const Counts counts = fused(R"(
def forward(x: Tensor) -> Tensor:
  return x.reshape([-1, 6]).transpose(0, 1).reshape([6, 4, -1]).transpose(-1, 1) * 2.0
)",
                              {6, 8});
  EXPECT_EQ(counts, (Counts{{"repquant::rearrange", 1}}));
}

TEST(FuseRearrangements, EndsWhereAValueIsReadTwice) {
  const Counts counts = fused(R"(
def forward(x: Tensor) -> Tensor:
  y = x.transpose(1, 2).reshape([-1, 6])
  z = y.reshape([x.size(0), 8, 6]).transpose(1, 2)
  return z + y.sum()
)",
                              {6, 8});
  EXPECT_EQ(counts, (Counts{{"repquant::rearrange", 2}}));
}

TEST(FuseRearrangements, KeepsWhatStandsForAValue) {
  const char* text = R"(
def forward(x: Tensor) -> Tensor:
  return x.transpose(1, 2).reshape([-1, 6]).permute([1, 0]).reshape([6, -1, 2])
)";
  EXPECT_EQ(fused(text, {6, 8}), (Counts{{"repquant::rearrange", 1}}));
  EXPECT_EQ(fused(text, {6, 8}, "aten::permute"),
            (Counts{{"repquant::rearrange", 1}, {"aten::reshape", 1}}));
  EXPECT_EQ(fused(text, {6, 8}, "aten::transpose"),
            (Counts{{"repquant::rearrange", 1}, {"aten::transpose", 1}}));
}

TEST(FuseRearrangements, LeavesWhatIsNoChain) {
  EXPECT_EQ(fused("def forward(x: Tensor) -> Tensor:\n  return x.reshape([-1, 4]) * 2.0\n", {6, 8}),
            (Counts{{"aten::reshape", 1}}));
  EXPECT_EQ(
      fused("def forward(x: Tensor) -> Tensor:\n  return x.permute([0, 2, 1]) * 2.0\n", {6, 8}),
      (Counts{{"aten::permute", 1}}));
  // A list that is no list of numbers here.
  EXPECT_EQ(fused("def forward(x: Tensor) -> Tensor:\n"
                  "  return x.transpose(1, 2).reshape(x.size())\n",
                  {6, 8}),
            (Counts{{"aten::reshape", 1}, {"aten::transpose", 1}}));
}

TEST(FuseRearrangements, StaysInItsBlock) {
  const Counts counts = fused(R"(
def forward(x: Tensor) -> Tensor:
  y = x.transpose(1, 2)
  if x.size(0) > 3:
    z = y.reshape([-1, 6]).reshape([x.size(0), 4, 12])
  else:
    z = y.reshape([x.size(0), 4, 12])
  return z
)",
                              {6, 8});
  EXPECT_EQ(counts, (Counts{{"aten::reshape", 3}, {"aten::transpose", 1}}));
}

}  // namespace
}  // namespace repquant
