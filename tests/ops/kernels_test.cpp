// Kernels against plain references in double precision, and all levels against each other.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>

#include "format/codes.h"
#include "ops/kernels/kernels.h"
#include "ops/levels.h"
#include "ops/operators.h"

namespace repquant {
namespace {

using testing::CodeDifference;
using testing::difference;
using testing::LevelScope;
using testing::pack;
using testing::padded;
using testing::random_codes;

struct Shape {
  std::int64_t rows, channels, columns;
};

/// Nothing is a multiple of anything; few and many rows, and those about a tile of AMX (16 rows, 64
/// inputs); one of everything; empty.
const std::vector<Shape> kShapes{
    {1, 1, 1},     {1, 10, 7},    {2, 64, 64},   {3, 70, 33},    {6, 65, 130}, {7, 129, 31},
    {8, 48, 200},  {9, 33, 65},   {13, 100, 9},  {16, 65, 64},   {17, 70, 63}, {31, 64, 65},
    {63, 20, 130}, {65, 129, 31}, {197, 70, 97}, {400, 130, 40}, {0, 8, 8}};

struct Problem {
  at::Tensor codes, weight, scale, bias, compensation, packed;
  std::int64_t zero = 0;
  at::Tensor exact;  // double: (x - z) w^T scale + bias
};

Problem problem(const Shape& shape, int bits, std::int64_t largest_code) {
  Problem p;
  const std::int64_t limit = (std::int64_t{1} << (bits - 1)) - 1;
  p.codes = random_codes(0, largest_code, {shape.rows, shape.columns}, at::kByte);
  p.weight =
      random_codes(-limit - (bits == 8 ? 1 : 0), limit, {shape.channels, shape.columns}, at::kChar);
  p.zero = largest_code / 3;
  p.scale = at::rand({shape.channels}) * 0.01 + 0.001;
  p.bias = at::randn({shape.channels});
  const at::Tensor levels = random_codes(-128, 127, {16}, at::kChar);
  const auto packed = pack(p.weight, bits, bits <= 4 ? std::optional(levels) : std::nullopt);
  if (bits <= 4) p.weight = look_up_levels(levels, p.weight);
  p.packed = packed.weight;
  p.compensation = packed.sums * p.zero;
  p.exact = at::matmul(p.codes.to(at::kDouble) - p.zero, p.weight.to(at::kDouble).t()) *
                p.scale.to(at::kDouble) +
            p.bias.to(at::kDouble);
  return p;
}

at::Tensor run(const Problem& p, int bits, std::int64_t activation, std::int64_t output,
               std::int64_t low = 0, std::int64_t high = 255, bool quadratic = false,
               const at::Tensor& multiplier = {}, const at::Tensor& offset = {},
               const ops::OptionalTensor& residual = {}) {
  ops::OptionalTensor m, a;
  if (multiplier.defined()) m = padded(multiplier);
  if (offset.defined()) a = padded(offset);
  return ops::linear_cpu(p.codes, p.packed, p.compensation, padded(p.scale), padded(p.bias), m, a,
                         residual, p.weight.size(0), p.weight.size(1), bits, activation, output,
                         low, high, quadratic);
}

class LinearKernelTest : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override { at::manual_seed(100 + GetParam()); }
};

TEST_P(LinearKernelTest, FloatOutputIsTheExactProductRoundedOnce) {
  const int bits = GetParam();
  for (const Shape& shape : kShapes) {
    const Problem p = problem(shape, bits, 255);
    const at::Tensor residual = at::randn({shape.rows, shape.channels});
    at::Tensor first;
    for (const auto& level : ops::cpu_levels()) {
      SCOPED_TRACE(level + " " + std::to_string(shape.rows) + " " + std::to_string(shape.channels) +
                   " " + std::to_string(shape.columns));
      const LevelScope scope(level);
      const at::Tensor y = run(p, bits, 0, 0, 0, 0, false, {}, {}, residual);
      ASSERT_EQ(y.sizes(), residual.sizes());
      const at::Tensor exact = p.exact + residual.to(at::kDouble);
      const at::Tensor bound = (p.exact.abs() + residual.abs() + 1) * 3e-7;
      EXPECT_TRUE((y.to(at::kDouble) - exact).abs().le(bound).all().item<bool>());
      if (!first.defined()) first = y;
      EXPECT_TRUE(at::equal(y, first)) << "levels differ";
    }
  }
}

TEST_P(LinearKernelTest, CodesAreTheExactOnesExceptAtTies) {
  const int bits = GetParam();
  std::int64_t codes = 0, changed = 0;
  for (const Shape& shape : kShapes) {
    const Problem p = problem(shape, bits, 255);
    const at::Tensor m = at::rand({shape.channels}) * 30 + 10, a = at::rand({shape.channels}) * 40;
    const auto m64 = m.to(at::kDouble), a64 = a.to(at::kDouble);
    const at::Tensor gelu = at::gelu(p.exact);
    const std::vector<at::Tensor> expected{
        at::round(p.exact * 1.0).clamp(-128, 127).to(at::kChar),
        at::round(gelu * m64 + a64).clamp(0, 255).to(at::kByte),
        at::round(at::sqrt(at::round(gelu * m64 + a64).clamp(0, 225))).square().to(at::kByte)};
    std::vector<at::Tensor> first;
    for (const auto& level : ops::cpu_levels()) {
      SCOPED_TRACE(level);
      const LevelScope scope(level);
      const std::vector<at::Tensor> got{run(p, bits, 0, 1, -128, 127),
                                        run(p, bits, 2, 2, 0, 255, false, m, a),
                                        run(p, bits, 2, 2, 0, 15, true, m, a)};
      for (std::size_t i = 0; i < got.size(); ++i) {
        const CodeDifference d = difference(got[i], expected[i]);
        if (i < 2) {
          EXPECT_LE(d.largest, 1);
        }
        codes += got[i].numel();
        changed += d.count;
        if (first.size() <= i) first.push_back(got[i]);
        EXPECT_TRUE(at::equal(got[i], first[i])) << "levels differ";
      }
    }
  }
  EXPECT_LE(static_cast<double>(changed), 1e-4 * static_cast<double>(codes));
}

TEST_P(LinearKernelTest, ThreadsDoNotChangeTheResult) {
  const Problem p = problem({500, 130, 70}, GetParam(), 255);
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const at::Tensor one = run(p, GetParam(), 2, 0);
  at::set_num_threads(2);
  const at::Tensor two = run(p, GetParam(), 2, 0);
  at::set_num_threads(before);
  EXPECT_TRUE(at::equal(one, two));
}

INSTANTIATE_TEST_SUITE_P(Bits, LinearKernelTest, ::testing::Values(2, 3, 4, 5, 8));

TEST(ActivationTest, MatchTheirDefinition) {
  const at::Tensor x = at::cat({at::linspace(-12, 12, 20001), at::tensor({0.0F, -1e30F, 1e30F})});
  const at::Tensor x64 = x.to(at::kDouble);
  const std::vector<at::Tensor> expected{
      x64, at::relu(x64), at::gelu(x64), at::gelu(x64, "tanh"), at::silu(x64), at::hardswish(x64)};
  ASSERT_EQ(std::ssize(expected), ops::kActivations);
  for (int i = 0; i < ops::kActivations; ++i) {
    at::Tensor first;
    for (const auto level : ops::available_levels()) {
      at::Tensor y = x.clone();
      ops::kernels(level).activate(static_cast<ops::Activation>(i), y.mutable_data_ptr<float>(),
                                   y.numel());
      const at::Tensor error = (y.to(at::kDouble) - expected[static_cast<std::size_t>(i)]).abs();
      const at::Tensor bound = 1.2e-6 + x64.abs() * 4e-7;
      EXPECT_TRUE(error.le(bound).all().item<bool>())
          << "activation " << i << " error " << (error - bound).max().item<double>();
      if (!first.defined()) first = y;
      EXPECT_TRUE(at::equal(y, first)) << "levels differ for activation " << i;
    }
  }
}

TEST(NormKernelTest, RoundsTheExactNorm) {
  at::manual_seed(3);
  for (const std::int64_t width : {1, 5, 16, 31, 64, 100, 192, 385}) {
    for (const std::int64_t rows : {0, 1, 7, 50}) {
      const at::Tensor x = at::randn({rows, width}) * 3 + 1;
      const at::Tensor w = at::rand({width}) * 20, b = at::randn({width}) * 10 + 100;
      const at::Tensor exact =
          at::layer_norm(x.to(at::kDouble), {width}, w.to(at::kDouble), b.to(at::kDouble), 1e-6);
      const at::Tensor expected = at::floor(exact + 0.5).clamp(0, 127).to(at::kByte);
      at::Tensor first;
      for (const auto& level : ops::cpu_levels()) {
        const LevelScope scope(level);
        const at::Tensor codes = ops::norm_quantize_cpu(x, w, b, 1e-6, 127);
        const CodeDifference d = difference(codes, expected);
        EXPECT_LE(d.largest, 1);
        EXPECT_LE(d.count, 1 + codes.numel() / 1000) << level << " width " << width;
        if (!first.defined()) first = codes;
        EXPECT_TRUE(at::equal(codes, first)) << "levels differ";
      }
    }
  }
}

TEST(QuantizeKernelTest, IsExact) {
  at::manual_seed(4);
  for (const std::int64_t width : {1, 15, 16, 70}) {
    const at::Tensor x = at::randn({9, width}) * 4;
    for (const bool per_channel : {false, true}) {
      const at::Tensor m = at::rand({per_channel ? width : 1}) * 20 + 5;
      const at::Tensor a = at::rand({per_channel ? width : 1}) * 100;
      const at::Tensor u = at::round(at::mul(x, m).add(a));
      for (const auto& level : ops::cpu_levels()) {
        const LevelScope scope(level);
        EXPECT_TRUE(at::equal(ops::quantize_cpu(x, m, a, 255, false, false, 0),
                              u.clamp(0, 255).to(at::kByte)));
        EXPECT_TRUE(at::equal(ops::quantize_cpu(x, m, a, 255, false, true, 128),
                              (u.clamp(0, 255) - 128).to(at::kChar)));
        EXPECT_TRUE(at::equal(ops::quantize_cpu(x, m, a, 15, true, false, 0),
                              u.clamp(0, 225).sqrt().round().square().to(at::kByte)));
      }
    }
  }
}

TEST(QuantizeKernelTest, EveryIntegerOfTheQuadraticGridIsExact) {
  const at::Tensor x = at::arange(256, at::kFloat), one = at::ones({1}), zero = at::zeros({1});
  const at::Tensor expected =
      at::round(at::sqrt(x.to(at::kDouble).clamp(0, 225))).square().to(at::kByte);
  for (const auto& level : ops::cpu_levels()) {
    SCOPED_TRACE(level);
    const LevelScope scope(level);
    EXPECT_TRUE(at::equal(ops::quantize_cpu(x, one, zero, 15, true, false, 0), expected));
  }
}

TEST(LevelTest, CanBeForcedDownAndRefusesUnknownNames) {
  const LevelScope scope("generic");
  EXPECT_EQ(ops::cpu_level(), "generic");
  EXPECT_THROW(ops::set_cpu_level("sse9"), c10::Error);
}

TEST(LinearOperatorTest, RefusesUnsuitableArguments) {
  const Problem p = problem({3, 10, 20}, 8, 255);
  EXPECT_THROW(ops::linear_cpu(p.codes.to(at::kChar), p.packed, p.compensation, padded(p.scale),
                               padded(p.bias), {}, {}, {}, 10, 20, 8, 0, 0, 0, 255, false),
               c10::Error);
  EXPECT_THROW(ops::linear_cpu(p.codes, p.packed, p.compensation, padded(p.scale), padded(p.bias),
                               {}, {}, {}, 10, 20, 4, 0, 0, 0, 255, false),
               c10::Error);
  EXPECT_THROW(ops::linear_cpu(p.codes, p.packed, p.compensation, p.scale, padded(p.bias), {}, {},
                               {}, 10, 20, 8, 0, 0, 0, 255, false),
               c10::Error);
  EXPECT_THROW(ops::linear_cpu(p.codes, p.packed, p.compensation, padded(p.scale), padded(p.bias),
                               {}, {}, {}, 10, 20, 8, 0, 2, 0, 255, false),
               c10::Error);
}

TEST(LinearOperatorTest, LevelsAreSixteenOfNibbles) {
  const at::Tensor bytes = random_codes(-128, 127, {10, 20}, at::kChar);
  const at::Tensor nibbles = random_codes(0, 255, {10, 10}, at::kByte);
  const at::Tensor levels = random_codes(-128, 127, {16}, at::kChar);
  EXPECT_NO_THROW(ops::pack_weight_cpu(nibbles, 4, 20, levels));
  EXPECT_THROW(ops::pack_weight_cpu(bytes, 8, 20, levels), c10::Error);
  EXPECT_THROW(ops::pack_weight_cpu(nibbles, 4, 20, levels.narrow(0, 0, 8)), c10::Error);
  EXPECT_THROW(ops::pack_weight_cpu(nibbles, 4, 20, levels.to(at::kByte)), c10::Error);
}

}  // namespace
}  // namespace repquant
