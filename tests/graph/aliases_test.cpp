// Tensors changed in place while lists, tuples, dicts, branches or other views hold them. Models
// are written as TorchScript text.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>

#include <set>
#include <string>
#include <vector>

#include "graph/loaded_text.h"
#include "graph/rewrite.h"

namespace repquant {
namespace {

class Aliases : public testing::LoadedText {
 protected:
  /// Loads a model with this body behind `y = Linear(x)`, and compares all its outputs.
  Model expect_same(const std::string& body) {
    const Model model = load_body(body);
    const at::Tensor x = at::randn({3, 12});
    const auto expected = output_tensors({torch::jit::load(path_).forward({x.clone()})});
    const auto got =
        output_tensors(run_graph(*model.graph, Schedule(*model.graph), copies_of({x})));
    EXPECT_EQ(got.size(), expected.size()) << body;
    for (std::size_t i = 0; i < expected.size() && i < got.size(); ++i) {
      EXPECT_TRUE(at::allclose(got[i], expected[i], 1e-4, 1e-5)) << body << "output " << i;
    }
    return model;
  }

  Model load_body(const std::string& body) {
    module_ = torch::jit::Module("m");
    parameter("w", at::randn({12, 12}));
    return load("def forward(self, x):\n    y = torch.linear(x, self.w)\n" + body, 1, 2);
  }

  /// The hint of the refusal; empty if the model was not refused.
  std::string hint(const std::string& body) {
    try {
      load_body(body);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUnsupported) << body;
      EXPECT_NE(error.parts().where.find("aten::"), std::string::npos) << error.parts().where;
      return error.parts().hint;
    }
    return "";
  }
};

TEST_F(Aliases, ContainersHoldTheNewValue) {
  for (const std::string body : {
           "    l = [y]\n    y += x.relu()\n    return y * 2, l\n",
           "    l: List[Tensor] = []\n    l.append(y)\n    y += x.relu()\n    l.append(y)\n"
           "    y.mul_(2.0)\n    return y * 2, l\n",
           "    l = [y[:, :4], x]\n    y[:, 1] = 0.0\n    return y, torch.cat(l, 1)\n",
           "    t = (y, x)\n    y += 1.0\n    return y, t\n",
           "    t = (y, (x, [y.transpose(0, 1)]))\n    y[0].zero_()\n    return y, t\n",
           "    d = {\"a\": y, \"b\": x}\n    y += 1.0\n    return d[\"a\"], d[\"b\"], d\n",
           "    l = [[y, x], [x]]\n    m = l[0]\n    y -= 1.0\n    return l, m, y\n",
           "    l = [x, y]\n    m = l + [x]\n    n = l[1:]\n    y -= 1.0\n    return m, n\n",
           "    l = [y, y]\n    l[0] += 1.0\n    return l[1], y\n",
           "    l: List[Tensor] = []\n    for i in range(3):\n        l.append(y)\n"
           "        y += torch.linear(y, self.w)\n    return y, l\n",
       }) {
    const Model model = expect_same(body);
    for (const auto* node : all_nodes(*model.graph)) {
      const std::string kind = node->kind().toQualString();
      EXPECT_FALSE(kind.ends_with("_")) << body << kind;
    }
  }
}

TEST_F(Aliases, ContainersThatAreFilledStepByStepGetTheNewValue) {
  for (const std::string body : {
           "    d: Dict[str, Tensor] = {}\n    d[\"a\"] = x\n    d[\"b\"] = y\n    d[\"c\"] = y\n"
           "    d[\"c\"] = x\n    y += x.relu()\n    d[\"e\"] = y\n    return y, d\n",
           "    d: Dict[str, Tensor] = {}\n    d[\"a\"] = y[:, 2:]\n    z = d[\"a\"]\n"
           "    y.mul_(2.0)\n    return d[\"a\"] + z, y\n",
           "    l: List[Tensor] = []\n    l.append(x)\n    l.append(y)\n    c = torch.cat(l)\n"
           "    y += c.sum()\n    l.append(y)\n    return torch.cat(l), c\n",
           "    l: List[Tensor] = []\n    if x.sum() > 0.0:\n        l.append(x)\n"
           "    y += 1.0\n    return torch.cat(l + [y])\n",
       }) {
    expect_same(body);
  }
}

TEST_F(Aliases, BranchesGiveTheNewValue) {
  for (const std::string condition : {"x.sum() > 0.0", "x.sum() <= 0.0"}) {
    expect_same("    if " + condition +
                ":\n        z = y\n    else:\n        z = x * 2\n"
                "    y += 1.0\n    return z, y\n");
    expect_same("    if " + condition +
                ":\n        z = y * 3\n    else:\n        z = x * 2\n"
                "    z += 1.0\n    return z, y\n");
  }
}

TEST_F(Aliases, WhatCannotBeRewrittenIsRefusedWithARemedy) {
  for (const std::string body : {
           "    l: List[Tensor] = []\n    if x.sum() > 0.0:\n        l.append(y)\n"
           "    y += 1.0\n    return l, y\n",
           "    if x.sum() > 0.0:\n        z = y\n    else:\n        z = x\n"
           "    z += 1.0\n    return z, y\n",
           "    if x.sum() > 0.0:\n        z = y[:2]\n    else:\n        z = x\n"
           "    y += 1.0\n    return z, y\n",
           "    l = [y, x]\n    l.reverse()\n    y += 1.0\n    return l\n",
       }) {
    EXPECT_NE(hint(body).find("x = x + y"), std::string::npos) << body;
  }
}

TEST_F(Aliases, PartsAreChangedAlone) {
  for (const std::string split :
       {"torch.chunk(y, 3, -1)", "torch.split(y, 4, -1)", "torch.split(y, [2, 6, 4], -1)",
        "torch.tensor_split(y, 3, -1)", "torch.unsafe_chunk(y, 3, -1)",
        "torch.unsafe_split(y, 4, 1)", "torch.unsafe_split_with_sizes(y, [2, 6, 4], 1)",
        "torch.unbind(y.view([3, 3, 4]), 1)", "torch.hsplit(y, 3)", "torch.hsplit(y, [2, 8])",
        "torch.vsplit(y, 3)", "torch.dsplit(y.unsqueeze(0), 3)"}) {
    const std::string parts = "    q, k, v = " + split + "\n";
    const Model model = expect_same(parts + "    q *= 0.5\n    return q, k, v\n");
    for (const auto* node : all_nodes(*model.graph)) {  // the others stay where they are
      EXPECT_FALSE(is_kind(node, "aten::cat") || is_kind(node, "aten::select_scatter")) << split;
    }
    expect_same(parts + "    q *= 0.5\n    k.add_(q.sum())\n    return y, q, k, v\n");
    expect_same("    p = " + split + "\n    p[1].mul_(2.0)\n    p[-1].neg_()\n    return y, p\n");
  }
}

TEST_F(Aliases, ViewsOfEveryKind) {
  for (const std::string view :
       {"torch.diagonal(y)", "y.mT", "y.T", "torch.swapdims(y, 0, 1)", "torch.moveaxis(y, 0, 1)",
        "torch.squeeze(torch.unsqueeze(y, 0))", "y.expand([2, 3, 12])", "y.unfold(1, 4, 4)"}) {
    expect_same("    v = " + view + "\n    y += 1.0\n    return v, y\n");
  }
  for (const std::string view :
       {"y.mT", "y.T", "torch.swapdims(y, 0, 1)", "torch.moveaxis(y, 0, 1)", "torch.diagonal(y)"}) {
    expect_same("    v = " + view + "\n    v *= 2.0\n    return v, y\n");
  }
  expect_same("    v = y[0]\n    v *= 2.0\n    y += 1.0\n    return v, y\n");
  expect_same("    v = y[0]\n    w = v[2:]\n    w *= 2.0\n    v += 1.0\n    return v, y, w\n");
  // Nobody reads the base any more.
  expect_same("    v = y.unfold(1, 4, 4)\n    v *= 2.0\n    return v\n");
}

// Elements that do not lie in order are copied by what gives a view of all others.
TEST_F(Aliases, CopiesAreChangedAlone) {
  for (const std::string copy :
       {"y.transpose(0, 1).contiguous()", "y.t().reshape([-1])",
        "y.view([3, 3, 4]).permute([2, 0, 1]).flatten()", "y.mT[2:].contiguous()",
        "y[:, 2:].contiguous()", "y[:, ::2].contiguous()", "y.chunk(2, -1)[0].contiguous()",
        "y[::2].contiguous()", "torch.diagonal(y.view([3, 3, 4]), 0, 1, 2).contiguous()",
        "torch.relu(y.t()).contiguous()", "y.expand([2, 3, 12]).reshape([-1])"}) {
    expect_same("    v = " + copy + "\n    v *= 2.0\n    return v, y\n");
    expect_same("    v = " + copy + "\n    y *= 2.0\n    return v, y\n");
  }
  for (const std::string view :
       {"y.contiguous()", "y.reshape([-1])", "torch.ravel(y)", "y[1:].contiguous()",
        "y[:, :].contiguous()", "y[:, :4].reshape([y.size(0), 2, 2])",
        "y[:, 2:].reshape([y.size(0), -1, 2])", "y[::2].reshape([-1, 3, 4])",
        "y.view([3, 3, 4])[:, 1:].flatten(1)"}) {
    expect_same("    v = " + view + "\n    v *= 2.0\n    return v, y\n");
  }
}

// x[:, 1:].reshape(-1, 8) is a view for one sample and a copy for two.
TEST_F(Aliases, WhatSizesMakeACopyIsRefused) {
  for (const std::string either :
       {"y.view([3, 3, 4])[:, 1:].reshape([-1, 4])", "y[:, :4].reshape([-1, 2])",
        "y[::2].reshape([-1, 4])", "torch.diagonal(y).reshape([-1, 1])",
        "y.chunk(2, 1)[0].flatten()", "y[:, :4].reshape_as(x[:1].view([6, 2]))"}) {
    const std::string begin = "    v = " + either + "\n    ";
    EXPECT_NE(hint(begin + "v *= 2.0\n    return v, y\n").find(".clone()"), std::string::npos)
        << either;
    EXPECT_NE(hint(begin + "y *= 2.0\n    return v, y\n").find(".clone()"), std::string::npos)
        << either;
    EXPECT_EQ(hint(begin + "v *= 2.0\n    return v, y.size(0)\n"), "") << either;
  }
  expect_same(
      "    z = y.view([3, 3, 4])\n    v = z[:, 1:].reshape([-1, 4])\n    v *= 2.0\n"
      "    return v, z[:, 0]\n");
}

// An error to give where the graph turns out to compute something else than the model.
TEST_F(Aliases, WhatMemoryDecidesIsADoubt) {
  for (const std::string either :
       {"    z = y\n    v = z.reshape([-1])\n", "    z = y[:, 2:]\n    v = z.contiguous()\n",
        "    z = torch.einsum(\"ab,cb->ca\", [x, y])\n    v = z.reshape([-1])\n"}) {
    const Model model = load_body(either + "    v *= 2.0\n    return v, z\n");
    ASSERT_TRUE(model.doubt.has_value()) << either;
    EXPECT_EQ(model.doubt->kind(), ErrorKind::kUnsupported);
    EXPECT_NE(model.doubt->parts().where.find("aten::mul_"), std::string::npos);
    EXPECT_FALSE(load_body(either + "    v *= 2.0\n    return v\n").doubt.has_value()) << either;
  }
}

TEST_F(Aliases, ShapesAreChangedInPlace) {
  for (const std::string body :
       {"    v = y[0]\n    v.unsqueeze_(0)\n    return v, y + 1\n",
        "    v = y[:, :3]\n    v.transpose_(0, 1)\n    return v, y * 2\n",
        "    v = y.unsqueeze(1)\n    v.squeeze_(1)\n    v += 1.0\n    return v, y\n",
        "    v = y.unsqueeze_(0).swapaxes_(0, 1)\n    y += 1.0\n    l = [y]\n    return v, l\n",
        "    y.mul_(2.0)\n    y.t_()\n    y[0] = 1.0\n    return torch.linear(self.w, y.t())\n"}) {
    const Model model = expect_same(body);
    for (const auto* node : all_nodes(*model.graph)) {
      EXPECT_FALSE(kind_name(node).ends_with('_')) << body << kind_name(node);
    }
  }
  EXPECT_NE(hint("    l = [y]\n    y.t_()\n    return l, y\n").find("x = x + y"),
            std::string::npos);
}

// A site in front of a loop and one behind it may not share codes of what the loop writes into.
TEST_F(Aliases, WhatALoopWritesIntoIsAnotherValueBehindIt) {
  for (const std::string body :
       {"    a = torch.linear(y, self.w)\n    v = y[:, 2:]\n    for i in range(x.size(0)):\n"
        "        y[i] *= 2.0\n    return a, torch.linear(y, self.w), v\n",
        "    a = torch.linear(y, self.w)\n    if x.size(0) > 2:\n        y.mul_(2.0)\n"
        "    return a, torch.linear(y, self.w)\n"}) {
    const Model model = expect_same(body);
    std::set<const torch::jit::Value*> read;
    for (const auto* node : model.graph->nodes()) {
      if (is_kind(node, "aten::linear")) read.insert(node->input(0));
    }
    EXPECT_EQ(read.size(), 3U) << body;
  }
}

TEST_F(Aliases, TypesStayInPlace) {
  for (const std::string body :
       {"    y.add_(x.to(7))\n    return torch.linear(y, self.w)\n",
        "    y[:, 1:3].mul_(x.to(7)[:, 1:3])\n    return torch.linear(y, self.w)\n",
        "    y.gt_(0.5)\n    return torch.linear(y, self.w)\n",
        "    n = (y > 0).to(3)\n    n += (x > 0).to(4)\n    return n, torch.linear(y, self.w)\n",
        "    m = y > 0\n    m &= y < 1\n    m |= x > 0.5\n    m ^= x > 0.8\n    return m, y\n"}) {
    const Model model = expect_same(body);
    const auto expected = output_tensors({torch::jit::load(path_).forward({at::ones({3, 12})})});
    const auto got = output_tensors(
        run_graph(*model.graph, Schedule(*model.graph), copies_of({at::ones({3, 12})})));
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_EQ(got[i].scalar_type(), expected[i].scalar_type()) << body;
    }
  }
}

}  // namespace
}  // namespace repquant
