// Depthwise convolutions of codes: the same as LibTorch's convolution of them.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include "ops/kernels/kernels.h"
#include "ops/levels.h"
#include "ops/operators.h"

namespace repquant {
namespace {

using Dimensions = std::vector<std::int64_t>;

struct DepthwiseShape {
  const char* name;
  Dimensions image;  // [B, sizes.., C]
  Dimensions kernel, stride, padding, dilation;
};

const std::vector<DepthwiseShape> kDepthwiseShapes{
    {"image", {2, 9, 11, 24}, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
    {"strides_of_many_channels", {3, 8, 7, 70}, {3, 5}, {2, 3}, {1, 2}, {1, 1}},
    {"dilation", {1, 12, 10, 16}, {3, 3}, {1, 2}, {4, 2}, {4, 2}},
    {"strides_beyond_the_window", {2, 9, 9, 5}, {2, 2}, {4, 3}, {0, 0}, {1, 1}},
    {"more_padding_than_image", {1, 2, 1, 3}, {3, 4}, {1, 1}, {4, 5}, {1, 1}},
    {"no_window", {2, 4, 5, 33}, {1, 1}, {1, 1}, {0, 0}, {1, 1}},
    {"large_window", {1, 13, 14, 8}, {7, 7}, {1, 1}, {3, 3}, {1, 1}},
    {"row", {2, 30, 20}, {5}, {2}, {2}, {1}},
};

at::Tensor of_lanes(const at::Tensor& vector) {
  return at::constant_pad_nd(vector, {0, (16 - vector.numel() % 16) % 16});
}

/// Random codes, weights and grids of a shape.
struct DepthwiseProblem {
  DepthwiseShape shape;
  at::Tensor codes, weight, scale, bias, multiplier, zero_point, x;

  explicit DepthwiseProblem(const DepthwiseShape& of) : shape(of) {
    const std::int64_t channels = of.image.back();
    codes = testing::random_codes(0, 255, of.image, at::kByte);
    Dimensions taps{channels};
    taps.insert(taps.end(), of.kernel.begin(), of.kernel.end());
    weight = testing::random_codes(-127, 127, taps, at::kFloat);
    scale = at::rand({channels}) * 1e-3;
    bias = at::randn({channels});
    multiplier = at::rand({channels}) * 40 + 1;
    zero_point = testing::random_codes(0, 255, {channels}, at::kFloat);
    x = (codes.to(at::kFloat) - zero_point) / multiplier;  // rounds to these codes
  }

  at::Tensor packed() const {
    const std::int64_t channels = weight.size(0), rest = (16 - channels % 16) % 16;
    return at::constant_pad_nd(weight.reshape({channels, -1}), {0, 0, 0, rest})
        .view({-1, 16, weight[0].numel()})
        .transpose(1, 2)
        .contiguous();
  }

  at::Tensor run(const at::Tensor& input, bool grid, bool zero, std::int64_t activation = 0) const {
    return ops::depthwise_cpu(input, packed(), of_lanes(scale), of_lanes(bias),
                              grid ? ops::OptionalTensor(of_lanes(multiplier)) : std::nullopt,
                              zero ? ops::OptionalTensor(of_lanes(zero_point)) : std::nullopt, 255,
                              shape.kernel, shape.stride, shape.padding, shape.dilation,
                              activation);
  }

  /// LibTorch's, [B, sizes.., C], of whole numbers: exact.
  at::Tensor sums(const at::Tensor& input) const {
    const at::Tensor image = input.movedim(-1, 1).contiguous();
    const at::Tensor kernels = weight.unsqueeze(1);
    const std::int64_t channels = weight.size(0);
    const at::Tensor y =
        shape.kernel.size() == 1
            ? at::conv1d(image, kernels, {}, shape.stride, shape.padding, shape.dilation, channels)
            : at::conv2d(image, kernels, {}, shape.stride, shape.padding, shape.dilation, channels);
    return y.movedim(1, -1).contiguous();
  }

  at::Tensor expected() const {
    return sums(codes.to(at::kFloat) - zero_point).mul_(scale).add_(bias);
  }
};

class Depthwise : public ::testing::TestWithParam<DepthwiseShape> {
 protected:
  void SetUp() override { at::manual_seed(9); }
};

TEST_P(Depthwise, IsTheConvolutionOfCodesAtEveryLevel) {
  const DepthwiseProblem p(GetParam());
  const at::Tensor expected = p.expected();
  for (const std::string& level : ops::cpu_levels()) {
    SCOPED_TRACE(level);
    const testing::LevelScope scope(level);
    EXPECT_TRUE(at::equal(p.run(p.codes, false, true), expected));
    EXPECT_TRUE(at::equal(p.run(p.x, true, true), expected));
  }
}

TEST_P(Depthwise, OfFloatsIsCloseToTheConvolution) {
  const DepthwiseProblem p(GetParam());
  const at::Tensor expected = p.sums(p.x).mul_(p.scale).add_(p.bias);
  at::Tensor first;
  for (const std::string& level : ops::cpu_levels()) {
    SCOPED_TRACE(level);
    const testing::LevelScope scope(level);
    const at::Tensor got = p.run(p.x, false, false);
    EXPECT_TRUE(at::allclose(got, expected, 1e-4, 1e-4));
    if (!first.defined()) first = got;
    EXPECT_TRUE(at::equal(got, first));
  }
}

TEST_P(Depthwise, GivesTheCodesOfItsPixels) {
  const DepthwiseProblem p(GetParam());
  const at::Tensor levels = at::tensor({0, 30, 90, 200, 255}, at::kByte);
  const std::int64_t channels = p.codes.size(-1);
  const at::Tensor multiplier = at::rand({channels}) + 0.5, offset = at::randn({channels});
  const auto silu = static_cast<std::int64_t>(ops::Activation::kSilu);
  const at::Tensor y = p.run(p.codes, false, true, silu);
  for (const bool scaled : {false, true}) {
    const auto given = [&](const at::Tensor& t) {
      return scaled ? ops::OptionalTensor(t) : std::nullopt;
    };
    const auto [codes, rows] =
        ops::token_quantize_cpu(y, 255, levels, given(multiplier), given(offset));
    const auto [own_codes, own_rows] = ops::depthwise_tokens_cpu(
        p.codes, p.packed(), of_lanes(p.scale), of_lanes(p.bias), {}, of_lanes(p.zero_point), 255,
        p.shape.kernel, p.shape.stride, p.shape.padding, p.shape.dilation, silu, 255, levels,
        given(multiplier), given(offset));
    EXPECT_TRUE(at::equal(codes, own_codes));
    EXPECT_TRUE(at::equal(rows, own_rows));
  }
}

TEST_P(Depthwise, DoesNotDependOnThreadsOrStrides) {
  const DepthwiseProblem p(GetParam());
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const at::Tensor one = p.run(p.codes, false, true);
  at::set_num_threads(3);
  const at::Tensor three = p.run(p.codes.transpose(0, 1).contiguous().transpose(0, 1), false, true);
  at::set_num_threads(before);
  EXPECT_TRUE(at::equal(one, three));
}

INSTANTIATE_TEST_SUITE_P(Shapes, Depthwise, ::testing::ValuesIn(kDepthwiseShapes),
                         [](const auto& parameter) { return parameter.param.name; });

TEST(DepthwiseTest, TakesAnActivationIn) {
  const DepthwiseProblem p(kDepthwiseShapes[0]);
  const auto with = static_cast<std::int64_t>(ops::Activation::kHardswish);
  EXPECT_TRUE(at::equal(p.run(p.codes, false, true, with), at::hardswish(p.expected())));
}

// Enough rows that threads share the work.
TEST(DepthwiseTest, PartsOfImagesJoin) {
  const DepthwiseProblem p({"large", {2, 70, 40, 32}, {3, 3}, {1, 1}, {1, 1}, {1, 1}});
  const int before = at::get_num_threads();
  at::set_num_threads(4);
  const at::Tensor got = p.run(p.codes, false, true);
  at::set_num_threads(before);
  EXPECT_TRUE(at::equal(got, p.expected()));
}

TEST(DepthwiseTest, AnEmptyBatchGivesNothing) {
  const DepthwiseProblem p({"empty", {0, 5, 5, 4}, {3, 3}, {1, 1}, {1, 1}, {1, 1}});
  EXPECT_EQ(p.run(p.codes, false, true).sizes(), (Dimensions{0, 5, 5, 4}));
}

TEST(DepthwiseTest, RefusesWhatDoesNotFit) {
  DepthwiseProblem p(kDepthwiseShapes[0]);
  EXPECT_THROW(p.run(p.codes, true, true), c10::Error);  // codes of codes
  EXPECT_THROW(p.run(p.x, true, false), c10::Error);     // half a grid
  EXPECT_THROW(p.run(p.codes.to(at::kInt), false, true), c10::Error);
  EXPECT_THROW(p.run(p.codes, false, true, ops::kActivations), c10::Error);
  p.shape.kernel = {3, 2};
  EXPECT_THROW(p.run(p.codes, false, true), c10::Error);  // a weight of other taps
  p.shape.kernel = {3, 30};
  EXPECT_THROW(p.run(p.codes, false, true), c10::Error);
}

}  // namespace
}  // namespace repquant
