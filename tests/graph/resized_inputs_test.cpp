#include "graph/resized_inputs.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace repquant {
namespace {

using Sizes = std::vector<std::int64_t>;

/// What was tried where `takes` decides.
std::vector<ResizedInputs> tried(const std::vector<at::Tensor>& batch,
                                 const std::function<bool(const ResizedInputs&)>& takes) {
  std::vector<ResizedInputs> all;
  try_other_sizes(batch, [&](const ResizedInputs& resized) {
    all.push_back(resized);
    return takes(resized);
  });
  return all;
}

bool takes_all(const ResizedInputs&) { return true; }

TEST(ResizedInputs, TokensAndTheirMasks) {
  const auto got = tried({at::ones({2, 9}), at::ones({2, 1, 9, 9}), at::ones({2})}, takes_all);
  ASSERT_EQ(got.size(), 1);
  EXPECT_EQ(got[0].shape, "length 6");
  EXPECT_EQ(got[0].inputs[0].sizes(), (Sizes{2, 6}));
  EXPECT_EQ(got[0].inputs[1].sizes(), (Sizes{2, 1, 6, 6}));
  EXPECT_EQ(got[0].inputs[2].sizes(), Sizes{2});
}

TEST(ResizedInputs, AWidthIsNoLength) {
  const auto got = tried({at::ones({2, 9, 9})}, takes_all);
  ASSERT_FALSE(got.empty());
  EXPECT_EQ(got[0].inputs[0].sizes(), (Sizes{2, 6, 9}));
}

TEST(ResizedInputs, EverySizeForItself) {
  const auto got = tried({at::ones({2, 3, 224, 64}), at::ones({2, 10})}, [](const auto& resized) {
    return resized.inputs[0].size(1) == 3;  // of channels there are three
  });
  std::vector<Sizes> images, tokens;
  for (const auto& resized : got) {
    if (resized.inputs[0].size(1) != 3) continue;
    images.push_back(resized.inputs[0].sizes().vec());
    tokens.push_back(resized.inputs[1].sizes().vec());
  }
  EXPECT_EQ(images, (std::vector<Sizes>{{2, 3, 96, 64}, {2, 3, 224, 32}, {2, 3, 224, 64}}));
  EXPECT_EQ(tokens, (std::vector<Sizes>{{2, 10}, {2, 10}, {2, 7}}));
  EXPECT_TRUE(std::any_of(got.begin(), got.end(),
                          [](const auto& resized) { return resized.shape == "96 x 64"; }));
}

TEST(ResizedInputs, UntilTheModelTakesOne) {
  const at::Tensor blocks = at::arange(40).view({2, 20}).to(at::kFloat);
  const auto got =
      tried({blocks}, [](const auto& resized) { return resized.inputs[0].size(1) % 4 == 0; });
  ASSERT_EQ(got.size(), 3);
  EXPECT_EQ(got[0].inputs[0].size(1), 14);
  EXPECT_EQ(got[1].inputs[0].size(1), 10);
  EXPECT_TRUE(at::equal(got[2].inputs[0], at::cat({blocks, blocks}, 1)));
}

TEST(ResizedInputs, SidesThatAreTakenAloneOnly) {
  const auto got = tried({at::ones({1, 1, 32, 32})},
                         [](const auto& resized) { return resized.inputs[0].size(3) == 32; });
  const auto taken = std::find_if(
      got.begin(), got.end(), [](const auto& resized) { return resized.inputs[0].size(3) == 32; });
  ASSERT_NE(taken, got.end());
  EXPECT_NE(taken->inputs[0].size(2), 32);
}

TEST(ResizedInputs, NothingToChange) {
  EXPECT_TRUE(tried({}, takes_all).empty());
  EXPECT_TRUE(tried({at::ones({5})}, takes_all).empty());
  EXPECT_TRUE(tried({at::ones({2, 1})}, takes_all).empty());
}

}  // namespace
}  // namespace repquant
