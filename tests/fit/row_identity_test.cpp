// Which rows a value holds: decided by the data, or in their place.
#include "fit/row_identity.h"

#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/ir/irparser.h>

#include <memory>
#include <string>

namespace repquant {
namespace {

/// Of value `name` in a graph where %w is what a site computes.
bool depends(const std::string& nodes, const std::string& name) {
  const auto graph = std::make_shared<torch::jit::Graph>();
  std::unordered_map<std::string, torch::jit::Value*> values;
  torch::jit::parseIR(
      "graph(%x : Tensor, %i : Tensor):\n"
      "  %zero : int = prim::Constant[value=0]()\n"
      "  %one : int = prim::Constant[value=1]()\n"
      "  %none : NoneType = prim::Constant()\n"
      "  %w : Tensor = aten::relu(%x)\n" +
          nodes + "  return (%" + name + ")\n",
      graph.get(), values);
  Site site;
  site.node = values.at("w")->node();
  return rows_depend_on_data(values.at(name), quantized_values(Schedule(*graph), {site}));
}

TEST(RowIdentity, RowsThatTheDataChoose) {
  const std::string choice =
      "  %p : Tensor = aten::nonzero(%w)\n"
      "  %l : Tensor?[] = prim::ListConstruct(%p)\n"
      "  %y : Tensor = aten::index(%w, %l)\n";
  EXPECT_TRUE(depends(choice, "y"));
  EXPECT_TRUE(depends(choice + "  %z : Tensor = aten::relu(%y)\n", "z"));
  EXPECT_TRUE(depends("  %y : Tensor = aten::masked_select(%x, %w)\n", "y"));
  EXPECT_TRUE(
      depends("  %y : Tensor, %k : Tensor = aten::max(%w, %one, %zero)\n"
              "  %z : Tensor = aten::index_select(%x, %zero, %k)\n",
              "z"));
}

TEST(RowIdentity, RowsInTheirPlace) {
  EXPECT_FALSE(depends("  %y : Tensor = aten::index_select(%w, %zero, %i)\n", "y"));
  EXPECT_FALSE(depends("  %y : Tensor = aten::masked_select(%x, %i)\n", "y"));
  EXPECT_FALSE(
      depends("  %n : int = aten::size(%w, %one)\n"
              "  %y : Tensor = aten::slice(%w, %one, %zero, %n, %one)\n",
              "y"));
  EXPECT_FALSE(
      depends("  %p : Tensor = aten::nonzero(%w)\n"
              "  %s : Tensor = aten::index_select(%w, %zero, %p)\n"
              "  %y : Tensor = aten::index_add(%w, %zero, %p, %s, %one)\n",
              "y"));
  EXPECT_FALSE(depends("  %y : Tensor = aten::mul(%w, %w)\n", "y"));
}

// As a mask that is made in the type of the scores: the branch reads only the type.
TEST(RowIdentity, Branches) {
  const auto branch = [](const std::string& condition, const std::string& inside) {
    return condition + "  %y : Tensor = prim::If(%c)\n    block0():\n" + inside +
           "      -> (%z)\n    block1():\n      -> (%w)\n";
  };
  const std::string type = "  %t : int = prim::dtype(%w)\n  %c : bool = aten::eq(%t, %one)\n";
  const std::string value = "  %c : bool = aten::Bool(%w)\n";
  const std::string plain = "      %z : Tensor = aten::neg(%w)\n";
  EXPECT_FALSE(depends(branch(type, plain), "y"));
  EXPECT_TRUE(depends(branch(value, plain), "y"));
  EXPECT_TRUE(depends(branch(type, "      %z : Tensor = aten::masked_select(%x, %w)\n"), "y"));
}

}  // namespace
}  // namespace repquant
