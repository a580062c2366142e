// The registered operators: reachable by name, with forms for tensors without data.
#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/frontend/ir_emitter.h>
#include <torch/csrc/jit/runtime/operator.h>

#include "ops/levels.h"
#include "ops/operators.h"

namespace repquant {
namespace {

TEST(OperatorsTest, AreRegisteredWithAnExample) {
  for (const char* name : {"pack_weight",      "norm_quantize",
                           "quantize",         "token_quantize",
                           "norm_tokens",      "norm_and_tokens",
                           "cache_quantize",   "cache_dequantize",
                           "cache_operand",    "linear",
                           "linear_tokens",    "linear_side",
                           "pack_weight_only", "weight_only_linear",
                           "windows",          "rearrange",
                           "attention",        "operand_rows",
                           "depthwise",        "depthwise_tokens",
                           "cpu_level",        "set_cpu_level",
                           "embedding_rows",   "grouped_linear",
                           "group_quantize",   "group_codes",
                           "norm_group_codes", "pack_group_weight",
                           "group_linear"}) {
    const auto symbol = c10::Symbol::fromQualString(std::string("repquant::") + name);
    EXPECT_EQ(torch::jit::getAllOperatorsFor(symbol).size(), 1U) << name;
  }
}

TEST(OperatorsTest, MetaTensorsGiveTheSameShapesAndTypes) {
  at::manual_seed(5);
  const at::Tensor weight = testing::random_codes(-7, 7, {10, 12}, at::kChar);
  const auto packed = testing::pack(weight, 4);
  const at::Tensor vector = testing::padded(at::rand({10}));
  const at::Tensor codes = testing::random_codes(0, 15, {2, 5, 12}, at::kByte);
  using Linear = at::Tensor(
      const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
      const ops::OptionalTensor&, const ops::OptionalTensor&, const ops::OptionalTensor&,
      std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t,
      std::int64_t, bool, const ops::OptionalTensor&, const ops::OptionalTensor&);
  const auto linear =
      c10::Dispatcher::singleton().findSchemaOrThrow("repquant::linear", "").typed<Linear>();
  for (const std::int64_t output : {0, 1, 2}) {
    const auto call = [&](const at::Tensor& x) {
      return linear.call(x, packed.weight, packed.sums, vector, vector, vector, vector, {}, 10, 12,
                         4, 0, output, 0, 15, false, {}, {});
    };
    const at::Tensor real = call(codes), meta = call(codes.to(at::kMeta));
    EXPECT_EQ(real.sizes(), meta.sizes());
    EXPECT_EQ(real.scalar_type(), meta.scalar_type());
  }
}

TEST(OperatorsTest, CacheMetaTensorsGiveTheSameShapesAndTypes) {
  const auto call = [](const char* name, const at::Tensor& x) {
    return c10::Dispatcher::singleton()
        .findSchemaOrThrow(name, "")
        .typed<at::Tensor(const at::Tensor&)>()
        .call(x);
  };
  const at::Tensor x = at::randn({2, 3, 4, 6});
  const at::Tensor codes = call("repquant::cache_quantize", x),
                   values = call("repquant::cache_dequantize", codes);
  const at::Tensor meta_codes = call("repquant::cache_quantize", x.to(at::kMeta)),
                   meta_values = call("repquant::cache_dequantize", codes.to(at::kMeta));
  EXPECT_EQ(codes.sizes(), meta_codes.sizes());
  EXPECT_EQ(codes.scalar_type(), meta_codes.scalar_type());
  EXPECT_EQ(values.sizes(), meta_values.sizes());
  EXPECT_EQ(values.scalar_type(), meta_values.scalar_type());
}

struct WindowCase {
  std::vector<std::int64_t> sizes, before, after, kernel, stride, dilation;
};

TEST(OperatorsTest, WeightOnlyMetaTensorsGiveTheSameShapesAndTypes) {
  const at::Tensor codes = testing::random_codes(-8, 7, {10, 12}, at::kByte);
  const auto [packed, scale] =
      ops::pack_weight_only_cpu(codes.narrow(1, 0, 6), at::rand({10, 3}), 4, 12, 4);
  using Linear =
      at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
                 std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t);
  const auto linear = c10::Dispatcher::singleton()
                          .findSchemaOrThrow("repquant::weight_only_linear", "")
                          .typed<Linear>();
  const at::Tensor x = at::rand({2, 5, 12}), bias = testing::padded(at::rand({10}));
  const at::Tensor real = linear.call(x, packed, scale, bias, 10, 12, 4, 4, 0);
  const at::Tensor meta = linear.call(x.to(at::kMeta), packed, scale, bias, 10, 12, 4, 4, 0);
  EXPECT_EQ(real.sizes(), meta.sizes());
  EXPECT_EQ(real.scalar_type(), meta.scalar_type());
}

TEST(OperatorsTest, GroupMetaTensorsGiveTheSameShapesAndTypes) {
  using Codes = std::tuple<at::Tensor, at::Tensor>(const at::Tensor&, std::int64_t, std::int64_t,
                                                   const ops::OptionalTensor&);
  using Linear = at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                            const at::Tensor&, const at::Tensor&, std::int64_t, std::int64_t,
                            std::int64_t, std::int64_t, std::int64_t, const ops::OptionalTensor&);
  auto& dispatcher = c10::Dispatcher::singleton();
  const auto group_codes = dispatcher.findSchemaOrThrow("repquant::group_codes", "").typed<Codes>();
  const auto linear = dispatcher.findSchemaOrThrow("repquant::group_linear", "").typed<Linear>();
  const auto [packed, scale] = ops::pack_group_weight_cpu(
      testing::random_codes(-8, 7, {10, 6}, at::kByte), at::rand({10, 2}), 4, 12, 8);
  const at::Tensor x = at::rand({2, 5, 12}), bias = testing::padded(at::rand({10}));
  const auto [codes, grids] = group_codes.call(x, 8, 15, {});
  const auto [meta_codes, meta_grids] = group_codes.call(x.to(at::kMeta), 8, 15, {});
  const at::Tensor y = linear.call(codes, grids, packed, scale, bias, 10, 12, 4, 8, 0, {});
  const at::Tensor meta_y =
      linear.call(meta_codes, meta_grids, packed, scale, bias, 10, 12, 4, 8, 0, {});
  for (const auto& [real, meta] :
       {std::pair(codes, meta_codes), std::pair(grids, meta_grids), std::pair(y, meta_y)}) {
    EXPECT_EQ(real.sizes(), meta.sizes());
    EXPECT_EQ(real.scalar_type(), meta.scalar_type());
  }
}

TEST(OperatorsTest, WindowsAreThoseOfUnfold) {
  at::manual_seed(7);
  const std::vector<WindowCase> cases{
      {{2, 9, 5}, {1}, {1}, {3}, {2}, {1}},
      {{2, 7, 8, 3}, {0, 0}, {0, 0}, {3, 2}, {1, 3}, {1, 1}},
      {{3, 7, 8, 4}, {2, 1}, {1, 3}, {2, 3}, {2, 1}, {3, 2}},
      {{1, 2, 2, 1}, {4, 4}, {4, 4}, {3, 3}, {1, 1}, {1, 1}},
  };
  for (const WindowCase& c : cases) {
    for (const auto type : {at::kByte, at::kFloat}) {
      const at::Tensor x = at::randint(0, 200, c.sizes, type);
      const at::Tensor got =
          ops::windows_cpu(x, c.before, c.after, c.kernel, c.stride, c.dilation, 7.0);
      const auto n = static_cast<std::int64_t>(c.kernel.size());
      std::vector<std::int64_t> pad{0, 0}, order;
      for (std::size_t d = c.kernel.size(); d-- > 0;) {
        pad.insert(pad.end(), {c.before[d], c.after[d]});
      }
      at::Tensor expected = at::constant_pad_nd(x, pad, 7);
      for (std::int64_t d = 0; d < n; ++d) {
        const auto i = static_cast<std::size_t>(d);
        const std::int64_t reach = c.dilation[i] * (c.kernel[i] - 1) + 1;
        expected = expected.unfold(d + 1, reach, c.stride[i]).slice(-1, 0, reach, c.dilation[i]);
      }
      for (std::int64_t d = 0; d <= n; ++d) order.push_back(d);
      for (std::int64_t d = 0; d < n; ++d) order.push_back(n + 2 + d);
      order.push_back(n + 1);
      expected = expected.permute(order).flatten(n + 1);
      EXPECT_TRUE(at::equal(got, expected));
      // Any strides will do.
      const at::Tensor moved = x.transpose(0, 1).contiguous().transpose(0, 1);
      EXPECT_TRUE(
          at::equal(ops::windows_cpu(moved, c.before, c.after, c.kernel, c.stride, c.dilation, 7.0),
                    expected));
    }
  }
  const at::Tensor small = at::zeros({1, 2, 3}, at::kByte);
  EXPECT_THROW(ops::windows_cpu(small, {0}, {0}, {3}, {1}, {1}, 0.0), c10::Error);
  EXPECT_THROW(ops::windows_cpu(small, {0}, {0}, {1}, {0}, {1}, 0.0), c10::Error);
  EXPECT_THROW(ops::windows_cpu(small, {-1}, {0}, {1}, {1}, {1}, 0.0), c10::Error);
  EXPECT_THROW(ops::windows_cpu(small, {0, 0}, {0, 0}, {1, 1}, {1, 1}, {1, 1}, 0.0), c10::Error);
}

TEST(OperatorsTest, SideColumnsAddTheirProduct) {
  at::manual_seed(6);
  const at::Tensor weight = testing::random_codes(-7, 7, {70, 12}, at::kChar);
  const auto packed = testing::pack(weight, 4);
  const at::Tensor scale = at::rand({70}), bias = at::randn({70});
  const at::Tensor codes = testing::random_codes(0, 15, {2, 5, 12}, at::kByte);
  const at::Tensor x = at::randn({2, 5, 12}) * 5, residual = at::randn({2, 5, 70});
  const at::Tensor channels = at::tensor({3, 7}, at::kLong);
  const at::Tensor inverse = at::tensor({9.0F, 11.0F}), zero = at::tensor({100.0F, 120.0F});
  const at::Tensor side = at::randn({2, 70});
  const at::Tensor columns =
      (at::round(x.index_select(-1, channels) * inverse + zero).clamp(0, 255) - zero);
  const at::Tensor expected = at::matmul(codes.to(at::kFloat), weight.to(at::kFloat).t()) * scale +
                              bias + at::matmul(columns, side) + residual;
  for (const auto& level : ops::cpu_levels()) {
    const testing::LevelScope scope(level);
    const at::Tensor y =
        ops::linear_side_cpu(codes, packed.weight, at::zeros_like(packed.sums),
                             testing::padded(scale), testing::padded(bias), x, channels, inverse,
                             zero, testing::padded(side), 255, residual, 70, 12, 4);
    EXPECT_TRUE(at::allclose(y, expected, 1e-5, 1e-4)) << level;
  }
}

}  // namespace
}  // namespace repquant
