// What people's files contain: types, devices, state, randomness, assignments to slices, inputs of
// several tensors. Models are written as TorchScript text.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/api/module.h>

#include "graph/loaded_text.h"
#include "graph/results.h"
#include "graph/rewrite.h"
#include "graph/site.h"
#include "graph/walker.h"

namespace repquant {
namespace {

using testing::LoadedText;

TEST_F(LoadedText, HalfWeightsBecomeFloat32) {
  for (const auto type : {at::kHalf, at::kBFloat16}) {
    module_ = torch::jit::Module("m");
    parameter("w", at::randn({4, 8}).to(type));
    const Model model = load("def forward(self, x):\n    return torch.linear(x.to(" +
                             std::to_string(static_cast<int>(type)) + "), self.w).to(6)\n");
    const at::Tensor x = at::randn({3, 8});
    EXPECT_EQ(find_sites(model).sites.size(), 1U);
    EXPECT_FALSE(model.notes.empty());
    const at::Tensor expected = at::linear(x, module_.attr("w").toTensor().to(at::kFloat));
    const auto got = run_graph(*model.graph, Schedule(*model.graph), {x}).at(0).toTensor();
    EXPECT_TRUE(at::allclose(got, expected, 1e-5, 1e-6));
  }
}

TEST_F(LoadedText, DoubleModelTakesDoubleInputs) {
  parameter("w", at::randn({4, 8}, at::kDouble));
  const Model model = load("def forward(self, x):\n    return torch.linear(x, self.w)\n");
  run(model, {at::randn({3, 8}, at::kDouble)});
  EXPECT_EQ(find_sites(model).sites.size(), 1U);
}

// In lists, tuples and dicts, and as parts of complex numbers.
TEST_F(LoadedText, AllOfADoubleModelIsConverted) {
  parameter("w", at::randn({8, 8}, at::kDouble));
  parameter("c", at::randn({4}, at::kComplexDouble));
  c10::Dict<std::string, at::Tensor> tables;
  tables.insert("a", at::randn({8}, at::kDouble));
  module_.register_attribute("tables",
                             c10::DictType::create(c10::StringType::get(), c10::TensorType::get()),
                             c10::IValue(tables));
  module_.register_attribute("pair",
                             c10::TupleType::create({c10::TensorType::get(), c10::IntType::get()}),
                             c10::ivalue::Tuple::create({at::randn({8}, at::kDouble), 2}));
  const Model model = load(
      "def forward(self, x):\n"
      "    y = torch.linear(x, self.w) * self.tables[\"a\"] + self.pair[0] * self.pair[1]\n"
      "    z = torch.view_as_complex(y.reshape([-1, 4, 2])) * self.c\n"
      "    return torch.linear(torch.view_as_real(z).flatten(1), self.w)\n");
  run(model, {at::randn({3, 8}, at::kDouble)});
  EXPECT_EQ(find_sites(model).sites.size(), 2U);
}

TEST_F(LoadedText, DoubleArithmeticInAFloat32ModelStays) {
  parameter("w", at::randn({8, 8}));
  const Model model = load(
      "def forward(self, x):\n    y = (x.to(7) / 3.0).to(6)\n    return torch.linear(y, self.w)\n");
  EXPECT_TRUE(model.notes.empty());
  run(model, {at::randn({3, 8})});
}

// Of float32 in the data: who calls the model may still give what the cast is for.
TEST_F(LoadedText, CastsOfInputsStay) {
  for (const std::string cast : {"x.to(6)", "x.to(self.w)", "x.transpose(0, 1).to(6).t()"}) {
    module_ = torch::jit::Module("m");
    parameter("w", at::randn({4, 8}));
    const Model model = load(
        "def forward(self, x):\n    return torch.linear(" + cast + ", self.w)\n", 1, 2, at::kFloat);
    for (const auto type : {at::kFloat, at::kDouble, at::kHalf, at::kInt}) {
      run(model, {at::randn({3, 8}).to(type)});
    }
    EXPECT_EQ(find_sites(model).sites.size(), 1U) << cast;
  }
}

TEST_F(LoadedText, CudaConstantsBecomeCpu) {
  parameter("w", at::randn({8, 8}));
  const Model model = load(
      "def forward(self, x):\n"
      "    return torch.linear(x, self.w) + torch.ones([8], device=torch.device(\"cuda:0\"))\n");
  ASSERT_EQ(model.notes.size(), 1U);
  EXPECT_NE(model.notes[0].find("cuda"), std::string::npos);
  const at::Tensor x = at::randn({3, 8});
  const auto got = run_graph(*model.graph, Schedule(*model.graph), {x}).at(0).toTensor();
  EXPECT_TRUE(at::allclose(got, at::linear(x, module_.attr("w").toTensor()) + 1));
}

TEST_F(LoadedText, DropoutInTrainingModeIsSwitchedOff) {
  parameter("w", at::randn({8, 8}));
  const Model model =
      load("def forward(self, x):\n    return torch.dropout(torch.linear(x, self.w), 0.5, True)\n");
  ASSERT_EQ(model.notes.size(), 1U);
  EXPECT_NE(model.notes[0].find("dropout"), std::string::npos);
  const at::Tensor x = at::randn({3, 8});
  const auto got = run_graph(*model.graph, Schedule(*model.graph), {x}).at(0).toTensor();
  EXPECT_TRUE(at::allclose(got, at::linear(x, module_.attr("w").toTensor())));
}

TEST_F(LoadedText, BatchNormInTrainingModeTakesItsStatistics) {
  parameter("mean", at::randn({4}));
  parameter("variance", at::rand({4}) + 0.5);
  const Model model = load(
      "def forward(self, x):\n"
      "    return torch.batch_norm(x, None, None, self.mean, self.variance, True, 0.1, 1e-5, "
      "False)\n");
  ASSERT_EQ(model.notes.size(), 1U);
  EXPECT_NE(model.notes[0].find("1 batch norm"), std::string::npos);
  const at::Tensor x = at::randn({3, 4, 2});
  const auto got = run_graph(*model.graph, Schedule(*model.graph), {x}).at(0).toTensor();
  const at::Tensor mean = module_.attr("mean").toTensor().view({4, 1});
  const at::Tensor variance = module_.attr("variance").toTensor().view({4, 1});
  EXPECT_TRUE(at::allclose(got, (x - mean) / (variance + 1e-5).sqrt(), 1e-4, 1e-5));
}

TEST_F(LoadedText, MessagesAreLeftOut) {
  parameter("w", at::randn({8, 8}));
  const Model model = load(
      "def forward(self, x):\n"
      "    print(\"rows\", x.size(0), \"of {}\".format(x.size(1)))\n"
      "    if x.size(0) > 2:\n"
      "        torch.warn(\"many\")\n"
      "    return torch.linear(x, self.w)\n");
  ASSERT_EQ(model.notes.size(), 1U);
  EXPECT_NE(model.notes[0].find("2 statements"), std::string::npos) << model.notes[0];
  run(model, {at::randn({3, 8})});
}

// A number of operands that no schema tells.
TEST_F(LoadedText, OperatorsOfAnyNumberOfOperands) {
  parameter("w", at::randn({8, 8}));
  const Model model = load(
      "def forward(self, x):\n"
      "    y = torch.linear(x, self.w)\n"
      "    if \"{} {}\".format(x.size(0), x.size(1)) == \"3 8\":\n"
      "        y = y * 2\n"
      "    return y\n");
  run(model, {at::randn({3, 8})});
  run(model, {at::randn({4, 8})});
}

TEST_F(LoadedText, RefusalsNameTheirReason) {
  parameter("w", at::randn({8, 8}));
  const std::string random =
      refusal("def forward(self, x):\n    return torch.linear(x + torch.rand_like(x), self.w)\n");
  EXPECT_NE(random.find("random"), std::string::npos) << random;
  EXPECT_NE(random.find("aten::rand_like"), std::string::npos) << random;

  module_ = torch::jit::Module("m");
  module_.register_buffer("past", at::zeros({8}));
  const std::string state =
      refusal("def forward(self, x):\n    y = x + self.past\n    self.past = x[0]\n    return y\n");
  EXPECT_NE(state.find("past"), std::string::npos) << state;

  module_ = torch::jit::Module("m");
  module_.register_buffer("past", at::zeros({8}));
  const std::string written =
      refusal("def forward(self, x):\n    self.past.add_(x[0])\n    return x + self.past\n");
  EXPECT_NE(written.find("past"), std::string::npos) << written;

  module_ = torch::jit::Module("m");
  const std::string quantized = refusal(
      "def forward(self, x):\n"
      "    return torch.dequantize(torch.quantize_per_tensor(x, 0.1, 0, 12))\n");
  EXPECT_NE(quantized.find("quantized already"), std::string::npos) << quantized;
}

TEST_F(LoadedText, PartsOfConstantsAreConstants) {
  parameter("w", at::randn({12, 8}));
  const Model model = load(
      "def forward(self, x):\n    a, b = torch.split(self.w, [4, 8])\n"
      "    return torch.cat([torch.linear(x, a), torch.linear(x, b)], -1)\n");
  const at::Tensor x = at::randn({3, 8});
  run(model, {x});
  const SiteSearch search = sites(model, {x});
  EXPECT_EQ(search.sites.size(), 2U);
  EXPECT_TRUE(search.skipped.empty());
  EXPECT_EQ(model.tensors.parameters, 96);
}

// nn.MultiheadAttention with k = v splits its weight by the width of q, which only the readers of q
// tell, and asks for the type of q before it takes its fast path.
TEST_F(LoadedText, WidthsThatReadersTellSplitConstants) {
  const std::vector<std::string> widths{"q.size(-1)", "torch.layer_norm(q, [8]).size(-1)",
                                        "(q + torch.linear(q, self.w[:8])).relu().size(-1)"};
  for (const auto& width : widths) {
    module_ = torch::jit::Module("m");
    parameter("w", at::randn({24, 8}));
    const Model model =
        load("def forward(self, q, k):\n    e = " + width +
                 "\n    a, b = torch.split(self.w, [e, 2 * e])\n"
                 "    return torch.cat([torch.linear(q, a), torch.linear(k, b)], -1)\n",
             2);
    const std::vector<at::Tensor> inputs{at::randn({3, 8}), at::randn({3, 8})};
    run(model, inputs);
    const SiteSearch search = sites(model, inputs);
    EXPECT_GE(search.sites.size(), 2U) << width;
    EXPECT_TRUE(search.skipped.empty()) << width;
  }
}

TEST_F(LoadedText, AReaderThatMayNotRunTellsNoWidth) {
  parameter("w", at::randn({4, 8}));
  const Model model = load(
      "def forward(self, x):\n    if x.size(-1) == 8:\n        y = torch.linear(x, self.w)\n"
      "    else:\n        y = x + 1\n    return y\n");
  run(model, {at::randn({3, 8})});
  run(model, {at::randn({3, 6})});
}

TEST_F(LoadedText, WhatAFloat32WeightMultipliesIsFloat32) {
  parameter("w", at::randn({4, 8}));
  const Model model = load(
      "def forward(self, x):\n    if x.dtype != self.w.dtype:\n"
      "        y = torch.linear(x.transpose(0, 1).transpose(0, 1), self.w)\n"
      "    else:\n        y = torch.linear(x, self.w).relu()\n    return y\n");
  const at::Tensor x = at::randn({3, 8});
  run(model, {x});
  EXPECT_EQ(find_sites(model).sites.size(), 1U);
}

TEST_F(LoadedText, AssignmentsToSlices) {
  parameter("w", at::randn({8, 8}));
  const std::vector<std::string> bodies{
      "    y[:, 0] = y[:, 0] * 0.5\n",
      "    y[:, 1:] -= 0.1\n",
      "    y[:, 0] = 0.0\n",
      "    v = y[0]\n    y.add_(1.0)\n    y = y * v\n",
      "    v = y.transpose(0, 1)\n    v[2] = x[0, 0]\n    v.mul_(2.0)\n",
      "    v = y.view([-1])\n    v[3:5] = 7.0\n    a, b = torch.unbind(y[:2])\n    b.fill_(3.0)\n",
      "    y[x > 0.5] = -1.0\n",
  };
  for (std::size_t i = 0; i < bodies.size(); ++i) {
    module_ = torch::jit::Module("m");
    parameter("w", at::randn({8, 8}));
    const Model model = load("def forward(self, x):\n    y = torch.linear(x, self.w)\n" +
                             bodies[i] + "    return torch.linear(y, self.w) + y.sum()\n");
    run(model, {at::randn({3, 8})});
    for (const auto* node : all_nodes(*model.graph)) {
      const std::string kind = node->kind().toQualString();
      EXPECT_FALSE(kind.ends_with("_")) << bodies[i] << kind;
    }
  }
}

TEST_F(LoadedText, InputsOfSeveralTensors) {
  const at::Tensor a = at::randn({3, 8}), b = at::randn({3, 8});
  parameter("w", at::randn({4, 8}));
  const Model tuple = load(
      "def forward(self, obs: Tuple[Tensor, Tensor]):\n"
      "    return torch.linear(obs[0] - obs[1], self.w)\n",
      2);
  EXPECT_EQ(tuple.input_names, (std::vector<std::string>{"obs.0", "obs.1"}));
  run(tuple, {a, b}, {c10::ivalue::Tuple::create({a, b})});

  module_ = torch::jit::Module("m");
  parameter("w", at::randn({4, 8}));
  const Model dict = load(
      "def forward(self, batch: Dict[str, Tensor], gain: float):\n"
      "    return torch.linear(batch[\"ids\"] - batch[\"mask\"], self.w) * gain\n",
      3);
  EXPECT_EQ(dict.input_names, (std::vector<std::string>{"batch.ids", "batch.mask", "gain"}));
  c10::Dict<std::string, at::Tensor> filled;
  filled.insert("ids", a);
  filled.insert("mask", b);
  run(dict, {a, b, at::full({3}, 2.0)}, {filled, 2.0});

  module_ = torch::jit::Module("m");
  parameter("w", at::randn({4, 8}));
  const Model list = load(
      "def forward(self, xs: List[Tensor]):\n"
      "    return torch.linear(xs[0] + xs[1], self.w)\n",
      2);
  EXPECT_EQ(list.input_names, (std::vector<std::string>{"xs.0", "xs.1"}));
  run(list, {a, b}, {c10::List<at::Tensor>({a, b})});
}

TEST_F(LoadedText, InputsInsideInputs) {
  const at::Tensor a = at::randn({3, 8}), b = at::randn({3, 8}), c = at::randn({3, 8});
  const at::Tensor d = at::randn({3, 8});
  const auto pair = [](const at::Tensor& one, const at::Tensor& other) {
    return c10::ivalue::Tuple::create({one, other});
  };
  const auto loaded = [&](const std::string& code, std::size_t inputs) {
    module_ = torch::jit::Module("m");
    parameter("w", at::randn({4, 8}));
    return load("def forward(self, " + code, inputs);
  };
  const Model tuples = loaded(
      "past: Tuple[Tuple[Tensor, Tensor], Tuple[Tensor, Tensor]], n: int):\n"
      "    return torch.linear(past[0][0] - past[0][1] * past[1][0] + past[1][1] * n, self.w)\n",
      5);
  EXPECT_EQ(tuples.input_names,
            (std::vector<std::string>{"past.0.0", "past.0.1", "past.1.0", "past.1.1", "n"}));
  run(tuples, {a, b, c, d, at::full({3}, 2)},
      {c10::ivalue::Tuple::create({pair(a, b), pair(c, d)}), 2});

  const auto past = [&] {
    const auto tensor = c10::TensorType::get();
    c10::impl::GenericList list(c10::TupleType::create({tensor, tensor}));
    list.push_back(pair(a, b));
    list.push_back(pair(c, d));
    return list;
  };
  const Model list = loaded(
      "past: List[Tuple[Tensor, Tensor]]):\n    k, v = past[1]\n"
      "    return torch.linear(past[0][0] * past[0][1] - k * v, self.w)\n",
      4);
  EXPECT_EQ(list.input_names,
            (std::vector<std::string>{"past.0.0", "past.0.1", "past.1.0", "past.1.1"}));
  run(list, {a, b, c, d}, {past()});

  const Model whole = loaded(
      "past: List[Tuple[Tensor, Tensor]], y: Tensor):\n    for k, v in past:\n"
      "        y = y + k * v\n    return torch.linear(y, self.w)\n",
      5);
  EXPECT_EQ(whole.input_names, (std::vector<std::string>{"past.0.0", "past.0.1", "y"}));
  run(whole, {a, b, c, d, a}, {past(), a});

  const Model dict = loaded(
      "batch: Dict[str, List[Tensor]]):\n    k = batch[\"k\"]\n"
      "    return torch.linear(batch[\"q\"][0] * k[0] - k[1], self.w)\n",
      3);
  EXPECT_EQ(dict.input_names, (std::vector<std::string>{"batch.k.0", "batch.k.1", "batch.q.0"}));
  c10::Dict<std::string, c10::List<at::Tensor>> filled;
  filled.insert("q", c10::List<at::Tensor>({a}));
  filled.insert("k", c10::List<at::Tensor>({b, c}));
  run(dict, {b, c, a}, {filled});

  EXPECT_THROW(bind_inputs(*dict.graph, copies_of({a, b})), Error);
  EXPECT_THROW(bind_inputs(*tuples.graph, copies_of({a, b, c, d, a, b})), Error);
}

TEST_F(LoadedText, RecurrentLayersAreGapsWithTheirParameters) {
  parameter("w_ih", at::randn({12, 8}));
  parameter("w_hh", at::randn({12, 4}));
  parameter("head", at::randn({2, 4}));
  const Model model = load(
      "def forward(self, x):\n"
      "    h = torch.zeros([1, x.size(0), 4])\n"
      "    y, h = torch.gru(x, h, [self.w_ih, self.w_hh], False, 1, 0.0, False, False, True)\n"
      "    return torch.linear(y, self.head)\n");
  const at::Tensor x = at::randn({3, 5, 8});
  run(model, {x});
  const SiteSearch search = sites(model, {x});
  ASSERT_EQ(search.skipped.size(), 1U);
  EXPECT_EQ(search.skipped[0].op, "aten::gru");
  EXPECT_EQ(search.skipped[0].parameters, 12 * 12);
  EXPECT_EQ(search.skipped[0].macs, 5 * 12 * 12);
  EXPECT_EQ(model.tensors.parameters, 12 * 12 + 8);
}

TEST_F(LoadedText, ParametersThatForwardNeverReads) {
  parameter("w", at::randn({4, 8}));
  parameter("extra", at::randn({10, 8}));
  const Model model = load("def forward(self, x):\n    return torch.linear(x, self.w)\n");
  EXPECT_EQ(model.tensors.parameters, 32 + 80);
  EXPECT_EQ(model.tensors.unread, 80);
}

TEST_F(LoadedText, WhatContinuesAnInputIsNoResult) {
  parameter("w", at::randn({4, 4}));
  const Model model = load(
      "def forward(self, x, past: List[Tensor]):\n    k = torch.cat([past[0], x], 1)\n"
      "    y = torch.linear(k, self.w)\n    z = torch.cat([y, past[1]], 1)\n"
      "    return y, [k, z]\n",
      3);
  const std::vector<at::Tensor> inputs{at::randn({2, 3, 4}), at::randn({2, 5, 4}),
                                       at::randn({2, 1, 4})};
  const auto outputs = run_graph(*model.graph, Schedule(*model.graph), copies_of(inputs));
  EXPECT_EQ(output_tensors(outputs).size(), 3U);
  const auto results = result_tensors(*model.graph, outputs);
  ASSERT_EQ(results.size(), 2U);  // y, and z: what it begins with is computed
  EXPECT_TRUE(at::equal(results[0], output_tensors(outputs)[0]));
  EXPECT_TRUE(at::equal(results[1], output_tensors(outputs)[2]));
}

}  // namespace
}  // namespace repquant
