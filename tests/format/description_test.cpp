// The artifact's description: what is written is read; anything else is a typed error.
#include "format/description.h"

#include <cstdlib>
#include <limits>
#include <random>
#include <string_view>

#include "base/json_text.h"
#include "recipe/json.h"
#include "support/errors.h"

namespace repquant {
namespace {

ArtifactInfo example() {
  ArtifactInfo info;
  info.tool_version = "0.1.0";
  info.libtorch_version = "2.13.0";
  info.model_hash = std::string(64, 'a');
  info.calibration_hash = std::string(64, 'b');
  info.protocol = "32 samples, \"images\" float32 [3, 16, 16]";
  info.samples = 32;
  info.synthetic = true;
  info.recipe = recipe_to_json(recipe_for_bits({4, 4}));
  info.recipe_name = "w4a4";
  info.inputs = {"images", "mask"};
  info.coverage.rows = {{"linear", 4, 4, 2, 1024, 4096}};
  info.coverage.gaps = {{"head", "aten::linear", "excluded by the recipe", true, 320, 320}};
  info.coverage.parameters = 1344;
  info.coverage.quantized_parameters = 1024;
  info.coverage.macs = 4416;
  info.coverage.quantized_macs = 4096;
  info.coverage.average_bits = 10.5;
  info.bit_allocation = BitAllocationReport{4.5, 4.25, 4.5, 9.75, 0.125};
  ArtifactSite row;
  row.site.path = "blocks.0.fc1";
  row.site.kind = "linear";
  row.site.weight_bits = 4;
  row.site.activation_bits = 4;
  row.site.grids = "uniform, per channel, folded";
  row.site.side_columns = 2;
  row.site.own_sqnr_db = 17.25;
  row.site.output_sqnr_db = std::numeric_limits<double>::infinity();
  row.site.rounding = "gptq, damping x10";
  row.module = "blocks_0_fc1";
  row.scale_module = "blocks_0_fc1_scale";
  row.input = SiteInput::kNorm;
  row.output = SiteOutput::kFloat;
  info.sites = {row, row};
  info.fold_deviation = 1e-6;
  info.output_sqnr_db = 12.5;
  info.judgement = HeldBackReport{16, 11.5, 0.9375, 0.96875, 3.0};
  info.portable = {{"blocks_0_attend", "self-check: values differ by 1.0e+00 of the largest"}};
  info.lowered_sqnr_db = 120.0;
  info.changed_codes = 1e-4;
  return info;
}

TEST(ArtifactInfo, RoundTrip) {
  const std::string text = artifact_to_json(example());
  const ArtifactInfo again = artifact_from_json(text, "a.pt");
  EXPECT_EQ(artifact_to_json(again), text);
  EXPECT_EQ(again.inputs, example().inputs);
  EXPECT_EQ(again.bit_allocation, example().bit_allocation);
  EXPECT_EQ(again.judgement, example().judgement);
  EXPECT_EQ(again.portable, example().portable);
  EXPECT_EQ(again.sites.size(), 2U);
  EXPECT_EQ(again.sites[0].site.rounding, "gptq, damping x10");
  EXPECT_EQ(again.sites[0].scale_module, "blocks_0_fc1_scale");
  EXPECT_EQ(again.sites[0].site.output_sqnr_db, std::numeric_limits<double>::infinity());
  EXPECT_EQ(again.coverage.gaps[0].reason, "excluded by the recipe");
  EXPECT_EQ(parse_recipe(again.recipe).recipe, recipe_for_bits({4, 4}));
}

TEST(ArtifactInfo, NewerMinorVersionsAndUnknownKeysAreRead) {
  Json json = Json::parse(artifact_to_json(example()));
  json["format"]["minor"] = 7;
  json["news"] = {1, 2, 3};
  EXPECT_EQ(artifact_from_json(json.dump(), "a.pt").minor_version, 7);
}

TEST(ArtifactInfo, OlderMinorVersionsKnowNoScalesPerToken) {
  Json json = Json::parse(artifact_to_json(example()));
  json["format"]["minor"] = 1;
  for (Json& site : json["sites"]) site.erase("scale_module");
  EXPECT_EQ(artifact_from_json(json.dump(), "a.pt").sites[0].scale_module, "");
}

TEST(ArtifactInfo, NewerKeysOfAWrongTypeAreErrors) {
  const Json whole = Json::parse(artifact_to_json(example()));
  const auto damaged = [&](const char* pointer, const Json& value) {
    Json json = whole;
    json[Json::json_pointer(pointer)] = value;
    EXPECT_ERROR(artifact_from_json(json.dump(), "a.pt"), ErrorKind::kFile, "damaged");
  };
  damaged("/portable", 7);
  damaged("/portable", "blocks_0_attend");
  damaged("/portable/blocks_0_attend", false);
  damaged("/held_back/samples", "many");
  damaged("/coverage/other_bytes", "none");
  damaged("/coverage/notes", "one");
  damaged("/coverage/notes", Json::array({1}));
}

TEST(ArtifactInfo, WhatHasNothingToSayHasNoKey) {
  ArtifactInfo info = example();
  info.judgement.reset();
  info.portable.clear();
  const Json json = Json::parse(artifact_to_json(info));
  EXPECT_FALSE(json.contains("held_back"));
  EXPECT_FALSE(json.contains("portable"));
  EXPECT_FALSE(artifact_from_json(json.dump(), "a.pt").judgement.has_value());
}

TEST(ArtifactInfo, AnotherMajorVersionIsNotRead) {
  Json json = Json::parse(artifact_to_json(example()));
  json["format"]["major"] = 2;
  EXPECT_ERROR(artifact_from_json(json.dump(), "a.pt"), ErrorKind::kUnsupported, "version 2");
}

/// Visits every value inside `json`, objects and arrays too.
template <class Visit>
void for_each(Json& json, const Visit& visit) {
  for (auto& value : json) {
    visit(value);
    if (value.is_structured()) for_each(value, visit);
  }
}

TEST(ArtifactInfo, EveryValueOfAnotherTypeIsNamedOrHarmless) {
  const Json whole = Json::parse(artifact_to_json(example()));
  std::size_t count = 0;
  Json counted = whole;
  for_each(counted, [&](Json&) { ++count; });
  std::size_t refused = 0;
  for (std::size_t place = 0; place < count; ++place) {
    for (const Json& other : {Json(nullptr), Json("text"), Json(-1), Json::object(), Json(true)}) {
      Json json = whole;
      std::size_t index = 0;
      Json* target = nullptr;
      for_each(json, [&](Json& value) {
        if (index++ == place) target = &value;
      });
      *target = other;
      const auto error = testing::error_of([&] { artifact_from_json(json.dump(), "a.pt"); });
      if (!error) continue;
      ++refused;
      EXPECT_TRUE(error->kind() == ErrorKind::kFile || error->kind() == ErrorKind::kUnsupported)
          << error->what();
      EXPECT_THAT(error->parts().where, ::testing::HasSubstr("a.pt"));
    }
  }
  EXPECT_GT(refused, count);
}

// REPQUANT_FUZZ_FACTOR in the environment multiplies the number of mutations.
TEST(ArtifactInfo, MutatedTextIsReadOrRefused) {
  const char* factor = std::getenv("REPQUANT_FUZZ_FACTOR");
  const int rounds = 3000 * (factor != nullptr ? std::max(std::atoi(factor), 1) : 1);
  const std::string whole = artifact_to_json(example());
  constexpr std::string_view kAlphabet = "{}[]\",:0123456789.-+eE\\u truefalsn\xff\x00";
  std::mt19937_64 random(11);
  int read = 0, refused = 0;
  for (int round = 0; round < rounds; ++round) {
    std::string text = whole;
    for (std::uint64_t changes = 1 + random() % 4; changes > 0; --changes) {
      const std::size_t place = random() % text.size();
      switch (random() % 4) {
        case 0:
          text[place] = kAlphabet[random() % kAlphabet.size()];
          break;
        case 1:
          text.erase(place, 1 + random() % 20);
          break;
        case 2:
          text.insert(place, text.substr(random() % text.size(), random() % 40));
          break;
        default:
          text.insert(place, 1, kAlphabet[random() % kAlphabet.size()]);
      }
    }
    const auto error = testing::error_of([&] { artifact_from_json(text, "a.pt"); });
    ++(error ? refused : read);
    if (error) {
      EXPECT_TRUE(error->kind() == ErrorKind::kFile || error->kind() == ErrorKind::kUnsupported)
          << error->what();
    }
  }
  EXPECT_GT(read, 50);
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace repquant
