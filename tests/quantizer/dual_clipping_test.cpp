#include "quantizer/dual_clipping.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

#include "quantizer/affine.h"
#include "quantizer/channel_sample.h"
#include "quantizer/range_search.h"
#include "repquant/error.h"
#include "support/random.h"

namespace repquant {
namespace {

constexpr std::array kMethods = {Clipping::kMinMax, Clipping::kPercentile, Clipping::kSearch,
                                 Clipping::kLearned};

struct Case {
  at::Tensor x;
  at::Tensor gram;
};

// LayerNorm-like: channels of different width, one-sided outliers, correlated consumers.
Case make_case(std::uint64_t seed, std::int64_t rows, std::int64_t channels) {
  testing::Random random(seed);
  at::Tensor x = random.normal({rows, channels}) * random.uniform({channels}, 0.1, 3) +
                 random.normal({channels}) * 0.5;
  for (std::int64_t i = 0; i < rows; i += 97) x[i].mul_(4);  // heavy tails
  for (std::int64_t i = 0; i < rows; i += 131) x[i].abs_().mul_(3);
  const at::Tensor weight =
      at::mm(random.normal({2 * channels, 5}), random.normal({5, channels})) * 0.3 +
      random.normal({2 * channels, channels});
  return {x, at::mm(weight.t(), weight)};
}

double layer_error(const Case& layer, const ChannelRange& range, int bits, bool integer = true,
                   bool centred = false) {
  const AffineGrid grid = affine_grid(range.lower, range.upper, bits, integer);
  return output_error(layer.x, fake_quantize(layer.x, grid), layer.gram, centred);
}

TEST(DualClipping, MinMaxIsTheExtremes) {
  const Case layer = make_case(1, 300, 10);
  const ChannelRange range = clip_channels(layer.x, layer.gram, 4, Clipping::kMinMax);
  EXPECT_TRUE(at::equal(range.lower, at::amin(layer.x, 0)));
  EXPECT_TRUE(at::equal(range.upper, at::amax(layer.x, 0)));
}

TEST(DualClipping, EachMethodBeatsTheOneBelowIt) {
  const Case layer = make_case(2, 800, 32);
  for (const int bits : {3, 4}) {
    std::vector<double> errors;
    for (const Clipping method : kMethods) {
      errors.push_back(layer_error(layer, clip_channels(layer.x, layer.gram, bits, method), bits));
    }
    EXPECT_LT(errors[1], 0.85 * errors[0]) << bits;
    EXPECT_LT(errors[2], 0.97 * errors[1]) << bits;
    EXPECT_LT(errors[3], 0.99 * errors[1]) << bits;
  }
}

TEST(DualClipping, SidesAreClippedSeparately) {
  // One outlier, above: clipping it costs 4, keeping it makes every other error four times as
  // large.
  testing::Random random(3);
  Case layer{random.uniform({2000, 4}, -1, 1), at::eye(4)};
  layer.x[5].fill_(3);
  for (const Clipping method : {Clipping::kPercentile, Clipping::kSearch, Clipping::kLearned}) {
    const ChannelRange range = clip_channels(layer.x, layer.gram, 3, method);
    EXPECT_LT(range.lower.max().item<float>(), -0.8F);
    EXPECT_LT(range.upper.max().item<float>(), 2);
    EXPECT_GT(range.upper.min().item<float>(), 0.8F);
  }
}

TEST(DualClipping, AllPositiveAndAllNegativeChannelsKeepTheirCentre) {
  testing::Random random(4);
  Case layer{random.normal({600, 4}), at::eye(4)};
  layer.x.select(1, 0).mul_(0.1).add_(10);
  layer.x.select(1, 1).mul_(0.1).sub_(10);
  for (const Clipping method : kMethods) {
    const ChannelRange range = clip_channels(layer.x, layer.gram, 4, method);
    EXPECT_TRUE((range.lower >= at::amin(layer.x, 0) - 1e-5).all().item<bool>());
    EXPECT_TRUE((range.upper <= at::amax(layer.x, 0) + 1e-5).all().item<bool>());
    EXPECT_TRUE((range.lower < range.upper).all().item<bool>());
    EXPECT_LT(layer_error(layer, range, 4), 0.1);
  }
}

TEST(DualClipping, ConstantAndExtremeChannels) {
  testing::Random random(5);
  Case layer{random.normal({200, 5}), at::eye(5)};
  layer.x.select(1, 0).fill_(3.25F);
  layer.x.select(1, 1).zero_();
  layer.x.select(1, 2).mul_(1e6);
  layer.x.select(1, 3).mul_(1e-6);
  for (const Clipping method : kMethods) {
    const ChannelRange range = clip_channels(layer.x, layer.gram, 4, method);
    const at::Tensor value = fake_quantize(layer.x, affine_grid(range.lower, range.upper, 4));
    EXPECT_TRUE(at::isfinite(value).all().item<bool>());
    EXPECT_NEAR(value[0][0].item<float>(), 3.25, 1e-5);
    EXPECT_EQ(value[0][1].item<float>(), 0);
    const at::Tensor relative = (value - layer.x).square().sum(0) / layer.x.square().sum(0);
    EXPECT_LT(relative[2].item<double>(), 0.05);
    EXPECT_LT(relative[3].item<double>(), 0.05);
  }
}

TEST(DualClipping, OneRow) {
  for (const Clipping method : kMethods) {
    const ChannelRange range =
        clip_channels(at::tensor({1.0F, -2.0F}).view({1, 2}), at::eye(2), 4, method);
    EXPECT_TRUE(at::allclose(range.lower, at::tensor({1.0F, -2.0F})));
  }
}

TEST(DualClipping, CentredErrorIsMinimisedWhenAsked) {
  const Case layer = make_case(6, 600, 24);
  ClippingOptions options;
  options.centred_error = true;
  for (const int bits : {2, 3}) {
    const auto error = [&](Clipping method, const ClippingOptions& used) {
      return layer_error(layer, clip_channels(layer.x, layer.gram, bits, method, used), bits, true,
                         true);
    };
    EXPECT_LT(error(Clipping::kSearch, options), 0.97 * error(Clipping::kPercentile, options));
    EXPECT_LT(error(Clipping::kSearch, options), 1.01 * error(Clipping::kSearch, {}));
  }
}

TEST(DualClipping, RealOffsetsAreScoredAsSuch) {
  const Case layer = make_case(7, 600, 24);
  ClippingOptions options;
  options.integer_zero_point = false;
  const auto real = clip_channels(layer.x, layer.gram, 3, Clipping::kSearch, options);
  const auto integer = clip_channels(layer.x, layer.gram, 3, Clipping::kSearch);
  EXPECT_LT(layer_error(layer, real, 3, false), layer_error(layer, integer, 3, false));
}

TEST(DualClipping, WithoutGramIsThePlainError) {
  const Case layer = make_case(8, 300, 12);
  for (const Clipping method : {Clipping::kSearch, Clipping::kLearned}) {
    const auto undefined = clip_channels(layer.x, {}, 4, method);
    const auto identity = clip_channels(layer.x, at::eye(12), 4, method);
    EXPECT_TRUE(at::allclose(undefined.lower, identity.lower, 1e-3));
    EXPECT_TRUE(at::allclose(undefined.upper, identity.upper, 1e-3));
  }
}

TEST(DualClipping, RejectsBadInput) {
  EXPECT_THROW(clip_channels(at::zeros({0, 2}), {}, 4, Clipping::kSearch), Error);
  EXPECT_THROW(clip_channels(at::ones({2, 2}), at::eye(3), 4, Clipping::kSearch), Error);
  EXPECT_THROW(clip_channels(at::ones({2, 2}), {}, 1, Clipping::kSearch), Error);
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_THROW(clip_channels(at::full({2, 2}, infinity), {}, 4, Clipping::kSearch), Error);
}

}  // namespace
}  // namespace repquant
