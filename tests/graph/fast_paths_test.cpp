// PyTorch's fast paths of nn.TransformerEncoder and nn.MultiheadAttention are the operators that
// they stand for.
#include "graph/loaded_text.h"

namespace repquant {
namespace {

using testing::count_kind;
using testing::LoadedText;

// The fast paths of nn.TransformerEncoder and nn.MultiheadAttention, weights of x's width 8.
class FastPaths : public LoadedText {
 protected:
  FastPaths() {
    const std::vector<std::pair<std::string, std::vector<std::int64_t>>> shapes{
        {"qkv", {24, 8}}, {"qkv_b", {24}}, {"out", {8, 8}}, {"out_b", {8}},
        {"n1", {8}},      {"n1_b", {8}},   {"n2", {8}},     {"n2_b", {8}},
        {"w1", {16, 8}},  {"b1", {16}},    {"w2", {8, 16}}, {"b2", {8}}};
    for (const auto& [name, shape] : shapes) parameter(name, at::randn(shape) * 0.3);
  }
  static std::string layer(const std::string& x, const std::string& mask) {
    return "torch._transformer_encoder_layer_fwd(" + x +
           ", 8, 2, self.qkv, self.qkv_b, self.out, self.out_b, False, False, 1e-5, self.n1, "
           "self.n1_b, self.n2, self.n2_b, self.w1, self.b1, self.w2, self.b2, " +
           mask + ")\n";
  }
  static at::Tensor padding(const std::vector<std::vector<int>>& rows) {
    at::Tensor mask = at::zeros({static_cast<std::int64_t>(rows.size()), 5}, at::kBool);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      for (const int column : rows[i]) mask[static_cast<std::int64_t>(i)][column] = true;
    }
    return mask;
  }
};

TEST_F(FastPaths, NestedTensorsArePaddedOnesWithMasks) {
  const Model model = load(
      "def forward(self, x, pad):\n    used = pad.logical_not()\n"
      "    y = torch._nested_tensor_from_mask(x, used, False)\n    y = " +
          layer("y", "None, None") + "    y = " + layer("y", "None, None") +
          "    return torch.to_padded_tensor(y, 0.0, x.size())\n",
      2, 3);
  const at::Tensor x = at::randn({3, 5, 8});
  run(model, {x, padding({{4}, {}, {2, 3, 4}})});
  EXPECT_EQ(count_kind(find_sites(model), SiteKind::kScores), 2);
}

// Scripted, the model asks each time; rows of padding are zeros only where it all is behind.
TEST_F(FastPaths, TheQuestionBeforeANestedTensorIsAnsweredAtRunTime) {
  const Model model = load(
      "def forward(self, x, pad):\n    y = x\n    mask: Optional[Tensor] = pad\n"
      "    kind: Optional[int] = 1\n    used = pad.logical_not()\n"
      "    nested = torch._nested_tensor_from_mask_left_aligned(x, used)\n"
      "    if nested:\n        y = torch._nested_tensor_from_mask(x, used, False)\n"
      "        mask = None\n        kind = None\n    y = " +
          layer("y", "mask, kind") +
          "    if nested:\n        y = torch.to_padded_tensor(y, 0.0, x.size())\n    return y\n",
      2, 3);
  const at::Tensor x = at::randn({3, 5, 8});
  run(model, {x, padding({{4}, {}, {2, 3, 4}})});
  run(model, {x, padding({{0}, {}, {1, 3}})});
  EXPECT_EQ(count_kind(find_sites(model), SiteKind::kScores), 1);
}

TEST_F(FastPaths, AttentionGivesItsWeightsToo) {
  for (const std::string average : {"True", "False"}) {
    module_ = torch::jit::Module("m");
    for (const char* name : {"qkv", "out"}) {
      parameter(name, at::randn({name[0] == 'q' ? 24 : 8, 8}) * 0.5);
    }
    parameter("qkv_b", at::randn({24}));
    parameter("out_b", at::randn({8}));
    const Model model = load(
        "def forward(self, x):\n"
        "    y, w = torch._native_multi_head_attention(x, x, x, 8, 2, self.qkv, self.qkv_b, "
        "self.out, self.out_b, None, True, " +
            average + ", None)\n    return torch.cat([y.flatten(), w.flatten()])\n",
        1, 3);
    expect_attention(model, at::randn({3, 5, 8}), average);
  }
}

}  // namespace
}  // namespace repquant
