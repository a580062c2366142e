// Attention as people write it, from the model to the artifact: the fused form computes what the
// portable one does, at batch sizes and lengths that were not calibrated on.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <cmath>

#include "pipeline/model_run.h"
#include "recipe/json.h"
#include "repquant/load.h"
#include "repquant/quantize.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using testing::run;
using testing::saved_options;
using testing::sqnr_db;

constexpr std::int64_t kWidth = 32;

struct Spelling {
  const char* name;
  const char* body;  // from q, k, v [B, N, 32] to y [B, N, 32]
  bool fused;        // the attention has a fused form
};

const std::vector<Spelling> kSpellings{
    {"single_head",
     "y = torch.matmul(torch.softmax(torch.matmul(q, k.transpose(1, 2)) / 4.0, -1), v)", true},
    {"heads_apart", R"(
    y0 = torch.matmul(torch.softmax(torch.matmul(q[:, :, :16], k[:, :, :16].transpose(1, 2)) / 4.0, -1), v[:, :, :16])
    y1 = torch.matmul(torch.softmax(torch.matmul(q[:, :, 16:], k[:, :, 16:].transpose(1, 2)) / 4.0, -1), v[:, :, 16:])
    y = torch.cat([y0, y1], -1))",
     true},
    {"folded_heads", R"(
    q = q.view(b, n, 4, 8).transpose(1, 2).reshape(b * 4, n, 8)
    k = k.view(b, n, 4, 8).transpose(1, 2).reshape(b * 4, n, 8)
    v = v.view(b, n, 4, 8).transpose(1, 2).reshape(b * 4, n, 8)
    a = torch.softmax(torch.bmm(q, k.transpose(1, 2)) * 0.3, -1)
    y = torch.bmm(a, v).view(b, 4, n, 8).transpose(1, 2).reshape(b, n, 32))",
     true},
    {"folded_products_unfolded_softmax", R"(
    q = q.view(b, n, 4, 8).transpose(1, 2).reshape(b * 4, n, 8)
    k = k.view(b, n, 4, 8).transpose(1, 2).reshape(b * 4, n, 8)
    v = v.view(b, n, 4, 8).transpose(1, 2).reshape(b * 4, n, 8)
    a = torch.softmax(torch.bmm(q, k.transpose(1, 2)).view(b, 4, n, n) * 0.3, -1)
    y = torch.bmm(a.view(b * 4, n, n), v).view(b, 4, n, 8).transpose(1, 2).reshape(b, n, 32))",
     true},
    {"heads_before_the_batch", R"(
    q = q.view(b, n, 4, 8).permute(2, 0, 1, 3)
    k = k.view(b, n, 4, 8).permute(2, 0, 1, 3)
    v = v.view(b, n, 4, 8).permute(2, 0, 1, 3)
    a = torch.softmax(torch.matmul(q, k.transpose(-1, -2)) * 0.3, -1)
    y = torch.matmul(a, v).permute(1, 2, 0, 3).reshape(b, n, 32))",
     true},
    {"mask_on_the_left", R"(
    q = q.view(b, n, 4, 8).transpose(1, 2)
    k = k.view(b, n, 4, 8).transpose(1, 2)
    v = v.view(b, n, 4, 8).transpose(1, 2)
    mask = torch.triu(torch.full([n, n], -1e9, dtype=q.dtype), 1)
    a = torch.softmax(mask + torch.matmul(q, k.transpose(-1, -2)) * 0.3, -1)
    y = torch.matmul(a, v).transpose(1, 2).reshape(b, n, 32))",
     true},
    {"mask_of_more_dimensions", R"(
    mask = torch.triu(torch.full([1, 1, n, n], -1e9, dtype=q.dtype), 1)
    a = torch.softmax(torch.matmul(q, k.transpose(1, 2)) / 4.0 + mask, -1)
    y = torch.matmul(a, v)[0])",
     true},
    {"wide_values", R"(
    q = q[:, :, :16].view(b, n, 4, 4).transpose(1, 2)
    k = k[:, :, :16].view(b, n, 4, 4).transpose(1, 2)
    v = v.view(b, n, 4, 8).transpose(1, 2)
    a = torch.softmax(torch.matmul(q, k.transpose(-1, -2)) * 0.5, -1)
    y = torch.matmul(a, v).transpose(1, 2).reshape(b, n, 32))",
     true},
    {"zeros_among_keys", R"(
    k = torch.constant_pad_nd(k, [0, 0, 0, 2])
    v = torch.constant_pad_nd(v, [0, 0, 0, 2])
    y = torch.matmul(torch.softmax(torch.matmul(q, k.transpose(1, 2)) / 4.0, -1), v))",
     true},
    {"softmax_over_queries", R"(
    a = torch.softmax(torch.matmul(q, k.transpose(1, 2)) / 4.0, -1)
    y = torch.matmul(a.transpose(1, 2), v))",
     false},
    {"linear_attention", R"(
    q = torch.relu(q.view(b, n, 4, 8).transpose(1, 2)) + 0.1
    k = torch.relu(k.view(b, n, 4, 8).transpose(1, 2)) + 0.1
    v = v.view(b, n, 4, 8).transpose(1, 2)
    sums = k.sum(2).unsqueeze(-1)
    y = torch.matmul(q, torch.matmul(k.transpose(-1, -2), v)) / torch.matmul(q, sums)
    y = y.transpose(1, 2).reshape(b, n, 32))",
     false},
    {"retention", R"(
    decay = torch.tril(torch.full([n, n], 1.0, dtype=q.dtype))
    y = torch.matmul(torch.matmul(q, k.transpose(1, 2)) * decay, v) / 8.0)",
     false},
    {"weights_with_two_readers", R"(
    a = torch.softmax(torch.matmul(q, k.transpose(1, 2)) / 4.0, -1)
    y = torch.matmul(a, v) * (1.0 + a.amax(-1, True)))",
     true},
    {"scores_with_two_readers", R"(
    s = torch.matmul(q, k.transpose(1, 2)) / 4.0
    y = torch.matmul(torch.softmax(s, -1), v)
    y = y + torch.matmul(torch.softmax(s.transpose(1, 2), -1), q))",
     true},
    {"pooling_without_scores", R"(
    a = torch.softmax(q.transpose(1, 2), -1)
    y = torch.matmul(a, v))",
     true},
};

torch::jit::Module make_model(const Spelling& form) {
  at::manual_seed(3);
  torch::jit::Module module("Attention");
  for (const char* name : {"wq", "wk", "wv", "wo"}) {
    module.register_parameter(name, at::randn({kWidth, kWidth}) / std::sqrt(kWidth), false);
  }
  // Channels of v of different sizes, so that grids per channel differ.
  module.attr("wv").toTensor().mul_(at::logspace(-0.5, 0.5, kWidth).unsqueeze(1));
  module.define(std::string(R"(
def forward(self, x: Tensor) -> Tensor:
    b = x.size(0)
    n = x.size(1)
    q = torch.linear(x, self.wq)
    k = torch.linear(x, self.wk)
    v = torch.linear(x, self.wv)
    )") + form.body +
                R"(
    return torch.linear(y, self.wo)
)");
  return module;
}

class AttentionForms : public ::testing::TestWithParam<Spelling> {};

TEST_P(AttentionForms, FusedAndPortableFormsAgreeAtAnySize) {
  const Spelling& form = GetParam();
  const testing::TempDir folder;
  torch::jit::Module model = make_model(form);
  auto options = saved_options(folder.path(), model, at::randn({24, 12, kWidth}));
  struct Widths {
    BitWidths bits;
    TokenScales scales;
  };
  for (const auto& [bits, scales] :
       {Widths{{8, 8}, TokenScales::kNever}, Widths{{4, 4}, TokenScales::kNever},
        Widths{{8, 8}, TokenScales::kAlways}, Widths{{4, 4}, TokenScales::kAlways}}) {
    options.recipe = recipe_for_bits(bits);
    options.recipe.attention.token_scales = scales;
    options.force = true;
    quantize(options);
    LoadReport report;
    const torch::jit::Module fused = load(options.output, {}, &report);
    const torch::jit::Module portable = torch::jit::load(options.output);
    for (const auto& [batch, length] : {std::pair{16, 12}, {8, 12}, {3, 7}, {1, 12}}) {
      SCOPED_TRACE(std::to_string(batch) + " x " + std::to_string(length));
      const at::Tensor x = at::randn({batch, length, kWidth});
      const at::Tensor expected = run(model, x), got = run(fused, x), own = run(portable, x);
      ASSERT_EQ(got.sizes(), expected.sizes());
      ASSERT_EQ(own.sizes(), expected.sizes());
      EXPECT_GT(sqnr_db(own, got), bits.activation_bits == 8 ? 40 : 20);
      EXPECT_GT(sqnr_db(expected, got), bits.activation_bits == 8 ? 22 : 5);
    }
    bool attention = false;
    for (const auto& site : report.sites) {
      attention = attention || (site.fused && site.op.starts_with("repquant::attention"));
    }
    EXPECT_EQ(attention, form.fused);
  }
}

// No grid of 8 bits holds exponentials of every size: the product stays, and the table says why.
TEST(ProductForms, LongTailsStayInFloatingPoint) {
  const testing::TempDir folder;
  torch::jit::Module model = make_model({"tails", R"(
    y = torch.matmul(torch.exp(8.0 * k).transpose(1, 2), v)
    y = torch.layer_norm(torch.matmul(torch.exp(8.0 * q), y), [32]))",
                                         false});
  const auto options = saved_options(folder.path(), model, at::randn({24, 12, kWidth}));
  const QuantizeReport report = quantize(options);
  EXPECT_EQ(report.coverage.gaps.size(), 2U);
  for (const auto& gap : report.coverage.gaps) {
    EXPECT_EQ(gap.op, "product") << gap.path << ": " << gap.reason;
    EXPECT_NE(gap.reason.find("dB of this product"), std::string::npos) << gap.reason;
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, AttentionForms, ::testing::ValuesIn(kSpellings),
                         [](const auto& parameter) { return parameter.param.name; });

}  // namespace
}  // namespace repquant
