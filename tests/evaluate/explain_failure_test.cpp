// What a model does not take of its inputs.
#include "evaluate/explain_failure.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "support/errors.h"

namespace repquant {
namespace {

using Inputs = std::vector<at::Tensor>;

const std::vector<std::string> kNames{"input_ids", "attention_mask"};

at::Tensor ids(std::int64_t length) { return at::ones({8, length}, at::kLong); }

/// A model of `context` tokens, whose mask is as long as its ids.
bool takes_alike(const Inputs& inputs, std::int64_t context) {
  return inputs[0].size(1) == inputs[1].size(1) && inputs[0].size(1) <= context;
}

ErrorParts explain_alike(const at::Tensor& first, const at::Tensor& second, std::int64_t context) {
  return explain_failure({first, second}, kNames,
                         [=](const Inputs& inputs) { return takes_alike(inputs, context); });
}

TEST(ExplainFailure, InputsOfOtherLengthsAreNoLongSamples) {
  for (const auto type : {at::kLong, at::kBool, at::kFloat}) {
    for (const std::int64_t length : {4, 6}) {
      const ErrorParts parts = explain_alike(ids(5), at::ones({8, length}, type), 16);
      EXPECT_EQ(parts.what, "the inputs differ in their number of tokens");
      EXPECT_EQ(parts.got, "input_ids [8, 5], attention_mask [8, " + std::to_string(length) + "]");
    }
  }
  // Beyond the context, too.
  const ErrorParts both = explain_alike(ids(20), ids(10), 16);
  EXPECT_EQ(both.what, "the inputs differ in their number of tokens");
}

TEST(ExplainFailure, SamplesThatAreTooLong) {
  for (const auto type : {at::kLong, at::kBool, at::kFloat}) {
    const ErrorParts parts = explain_alike(ids(20), at::ones({8, 20}, type), 16);
    EXPECT_EQ(parts.expected, "at most 16 ids in a sample");
  }
  // Inputs of their own lengths.
  const ErrorParts parts = explain_failure({ids(20), ids(10)}, kNames, [](const Inputs& inputs) {
    return inputs[0].size(1) <= 16 && inputs[1].size(1) <= 12;
  });
  EXPECT_EQ(parts.expected, "at most 16 ids in a sample");
}

// As of labels that mark padding by -100: shorter ones are no remedy.
TEST(ExplainFailure, NegativeIds) {
  const auto embeds = [](const Inputs& inputs) {
    return inputs[0].min().item<std::int64_t>() >= 0;
  };
  at::Tensor padded = ids(12);
  padded.select(1, 11).fill_(-100);
  const ErrorParts parts = explain_failure({padded}, kNames, embeds);
  EXPECT_EQ(parts.what, "a token id lies outside the vocabulary of the model");
  EXPECT_EQ(parts.got, "ids from -100");
}

TEST(ExplainFailure, SamplesInTheSecondDimension) {
  const Inputs inputs{at::ones({8, 7, 4}), at::ones({8, 5, 4}), at::ones({8, 7})};
  const std::vector<std::string> names{"src", "tgt", "mask"};
  // A mask that has the samples first.
  const auto runs = [](const Inputs& given) {
    return given[0].size(1) == given[1].size(1) && given[2].size(0) == given[0].size(1) &&
           given[2].size(1) == given[0].size(0);
  };
  const ErrorParts parts = explain_failure(inputs, names, runs);
  EXPECT_NE(parts.what.find("second dimension"), std::string::npos);
  EXPECT_EQ(parts.got, "[length, samples, ...] of src, tgt");
  // A length that is fixed at the number of samples is none.
  const auto fixed = [](const Inputs& given) { return given[0].size(1) == 8; };
  EXPECT_TRUE(explain_failure(inputs, names, fixed).what.empty());
}

}  // namespace
}  // namespace repquant
