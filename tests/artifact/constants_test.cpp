// Constants as an artifact has them.
#include "artifact/constants.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <limits>
#include <utility>
#include <vector>

#include "graph/rewrite.h"

namespace repquant {
namespace {

/// A number as Python writes it beside a tensor, or a double tensor of its own.
at::Tensor number(double value, bool of_python) {
  const at::Tensor t = at::scalar_tensor(value, at::kDouble);
  t.unsafeGetTensorImpl()->set_wrapped_number(of_python);
  return t;
}

// A mask of whole numbers times a number is float32 in Python, and was double in the artifact.
TEST(TidyConstants, NumbersOfPythonAreFloat32) {
  torch::jit::Graph graph;
  const std::vector<std::pair<at::Tensor, at::ScalarType>> cases{
      {number(-1e4, true), at::kFloat},
      {number(-1e4, false), at::kDouble},
      {number(1e300, true), at::kDouble},  // no float32
      {number(-std::numeric_limits<double>::infinity(), true), at::kFloat},
      {at::scalar_tensor(3, at::kLong), at::kLong}};
  for (const auto& [tensor, type] : cases) graph.registerOutput(graph.insertConstant(tensor));
  tidy_constants(graph);
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const at::Tensor got = constant_tensor(graph.outputs()[i]);
    EXPECT_EQ(got.scalar_type(), cases[i].second) << i;
    EXPECT_EQ(got.item<double>(), cases[i].first.item<double>()) << i;
    if (cases[i].second == at::kFloat) {
      const at::Tensor mask = at::ones({3}, at::kLong);
      EXPECT_EQ((mask * got).scalar_type(), (mask * cases[i].first).scalar_type());
    }
  }
}

TEST(TidyConstants, EqualOnesAreOneCopy) {
  torch::jit::Graph graph;
  const at::Tensor weight = at::randn({3, 4});
  for (const at::Tensor& t : {weight, weight.clone(), weight.to(at::kDouble)}) {
    graph.registerOutput(graph.insertConstant(t));
  }
  tidy_constants(graph);
  const auto data = [&](std::size_t i) {
    return constant_tensor(graph.outputs()[i]).const_data_ptr();
  };
  EXPECT_EQ(data(0), data(1));
  EXPECT_NE(data(0), data(2));
  EXPECT_NE(data(0), weight.const_data_ptr());
}

}  // namespace
}  // namespace repquant
