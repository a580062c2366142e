// Keys and values of earlier tokens: their description, and inputs that data does not give.
#include "data/past.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "data/model_inputs.h"
#include "repquant/error.h"

namespace repquant {
namespace {

const Past kShapes{.shapes = {{4, 0, 8}, {4, 0, 6}}};

TEST(Past, JsonReadsBack) { EXPECT_EQ(past_from_json(past_to_json(kShapes), "x"), kShapes); }

TEST(Past, WrongDescriptionsAreRefused) {
  for (const char* text :
       {"[]", "{}", R"({"schema_version": 1, "past": []})",
        R"({"schema_version": 2, "past": [[4, 0, 8]]})",
        R"({"schema_version": 1, "past": [[4, 0, 8]], "more": 1})",
        R"({"schema_version": 1, "past": [[4, 0, 8]], "type": "int4"})",
        R"({"schema_version": 1, "past": [[4, 0, 8]], "type": 8})",
        R"({"schema_version": 1, "past": [[4, 1, 8]]})",
        R"({"schema_version": 1, "past": [[4, 0, 0]]})",
        R"({"schema_version": 1, "past": [[4, 0, -8]]})",
        R"({"schema_version": 1, "past": [[0, 99999999999999]]})",
        R"({"schema_version": 1, "past": [[0]]})", R"({"schema_version": 1, "past": ["4"]})"}) {
    try {
      past_from_json(text, "model.pt:cache.json");
      ADD_FAILURE() << text;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::kUsage);
      EXPECT_NE(std::string(e.what()).find("model.pt:cache.json"), std::string::npos) << e.what();
    }
  }
}

TEST(Past, CodesAreSaidByTheirType) {
  Past codes = kShapes;
  codes.codes = true;
  EXPECT_EQ(past_from_json(past_to_json(codes), "x"), codes);
  EXPECT_EQ(past_from_json(R"({"schema_version": 1, "past": [[4, 0, 8]], "type": "float32"})", "x"),
            (Past{.shapes = {{4, 0, 8}}}));
  const auto tensors = empty_past(codes, 3);
  EXPECT_EQ(tensors[0].scalar_type(), at::kByte);
  EXPECT_EQ(tensors[1].sizes(), (std::vector<std::int64_t>{3, 4, 0, 6}));
}

TEST(Past, SamplesBeginWithoutKeysAndValues) {
  const ModelSignature signature{
      .names = {"input_ids", "past.0", "past.1"}, .required = 3, .past = kShapes};
  const at::Tensor ids = at::ones({2, 5}, at::kLong);
  const auto inputs = arrange_inputs({.names = {"ids"}, .inputs = {ids}, .labels = {}}, signature);
  ASSERT_EQ(inputs.size(), 3U);
  EXPECT_TRUE(inputs[0].is_same(ids));
  EXPECT_EQ(inputs[1].sizes(), (std::vector<std::int64_t>{2, 4, 0, 8}));
  EXPECT_EQ(inputs[2].sizes(), (std::vector<std::int64_t>{2, 4, 0, 6}));
}

TEST(Past, GivenKeysAndValuesAreTaken) {
  const ModelSignature signature{
      .names = {"input_ids", "past.0", "past.1"}, .required = 3, .past = kShapes};
  const at::Tensor a = at::ones({2, 4, 3, 8}), b = at::ones({2, 4, 3, 6});
  const auto inputs = arrange_inputs({.names = {"past.1", "input_ids", "past.0"},
                                      .inputs = {b, at::ones({2, 5}), a},
                                      .labels = {}},
                                     signature);
  EXPECT_TRUE(inputs[1].is_same(a) && inputs[2].is_same(b));
  EXPECT_THROW(arrange_inputs({.names = {}, .inputs = {a, b}, .labels = {}}, signature), Error);
}

// The class that a diffusion model draws; where nothing is missing, labels stay what they are.
TEST(ModelInputs, LabelsAreAnInputThatTheModelNeeds) {
  const at::Tensor x = at::ones({2, 3}), t = at::ones({2});
  const Batch batch{.names = {"t", "x"}, .inputs = {t, x}, .labels = {4, 7}};
  for (const char* name : {"y", "labels"}) {
    const auto inputs =
        arrange_inputs(batch, {.names = {"x", "t", name}, .required = 3, .past = {}});
    ASSERT_EQ(inputs.size(), 3U);
    EXPECT_TRUE(inputs[0].is_same(x) && inputs[1].is_same(t));
    EXPECT_TRUE(at::equal(inputs[2], at::tensor({4, 7}, at::kLong)));
  }
  EXPECT_EQ(arrange_inputs(batch, {.names = {"x", "t", "y"}, .required = 2, .past = {}}).size(),
            2U);
  EXPECT_THROW(arrange_inputs(batch, {.names = {"x", "t", "z"}, .required = 3, .past = {}}), Error);
}

// A list of pairs that is read as a whole is as long as the data makes it.
TEST(ModelInputs, TuplesInAWholeList) {
  const auto t = [](double value) { return at::full({2}, value); };
  const ModelSignature signature{.names = {"x", "past.0.0", "past.0.1"}, .required = 3, .past = {}};
  const Batch batch{.names = {"past.0.0", "past.1.0", "past.0.1", "past.1.1", "x"},
                    .inputs = {t(1), t(3), t(2), t(4), t(0)},
                    .labels = {}};
  const auto inputs = arrange_inputs(batch, signature);
  ASSERT_EQ(inputs.size(), 5U);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(inputs[static_cast<std::size_t>(i)][0].item<double>(), i);
  }
}

}  // namespace
}  // namespace repquant
