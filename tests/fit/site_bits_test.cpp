// Which bits each site gets: the recipe's, the edges', the overrides', none.
#include <ATen/ATen.h>

#include <sstream>

#include "fit/site_bits.h"
#include "support/errors.h"

namespace repquant {
namespace {

/// embed (patch embedding), fc1, scores, attend, fc2, head: only the paths and the weights matter.
std::vector<Site> six_sites() {
  std::vector<Site> sites(6);
  const char* paths[] = {"embed",           "blocks.0.fc1", "blocks.0.scores",
                         "blocks.0.attend", "blocks.0.fc2", "head"};
  for (std::size_t i = 0; i < sites.size(); ++i) {
    sites[i].path = paths[i];
    sites[i].kind = LinearSite{.weight = at::zeros({2, 2}), .bias = {}};
  }
  sites[2].kind = ScoresSite{};
  sites[3].kind = AttendSite{};
  return sites;
}

/// "w4a8 w4a4 -": one word per site; "-" is floating point.
std::string bits_text(const Recipe& recipe) {
  std::ostringstream text;
  for (const auto& bits : resolve_bits(six_sites(), recipe)) {
    if (text.tellp() > 0) text << ' ';
    if (bits.quantized) {
      text << 'w' << bits.weight_bits << 'a' << bits.activation_bits;
    } else {
      text << '-';
    }
  }
  return text.str();
}

Recipe w4a4_bits() {
  Recipe recipe;
  recipe.bits = {4, 4};
  recipe.first_layer = {};
  recipe.last_layer = {};
  return recipe;
}

TEST(ResolveBits, AllSitesGetTheBitsOfTheRecipe) {
  EXPECT_EQ(bits_text(w4a4_bits()), "w4a4 w4a4 w4a4 w4a4 w4a4 w4a4");
}

TEST(ResolveBits, EdgesAreTheFirstAndLastSitesWithAWeight) {
  Recipe recipe = w4a4_bits();
  recipe.first_layer = {0, 8};
  recipe.last_layer = {8, 6};
  EXPECT_EQ(bits_text(recipe), "w4a8 w4a4 w4a4 w4a4 w4a4 w8a6");
}

TEST(ResolveBits, TheFirstMatchingOverrideDecides) {
  Recipe recipe = w4a4_bits();
  recipe.last_layer = {8, 8};
  recipe.overrides = {{"*.fc1", 2, 0}, {"blocks.*", 6, 6}, {"head", 3, 0}};
  EXPECT_EQ(bits_text(recipe), "w4a4 w2a4 w6a6 w6a6 w6a6 w3a8");
}

TEST(ResolveBits, ProductsWithoutASoftmaxKeepEightBits) {
  std::vector<Site> sites = six_sites();
  sites[2].kind = ScoresSite{.softmax = false};
  Recipe recipe = w4a4_bits();
  EXPECT_EQ(resolve_bits(sites, recipe)[2].activation_bits, 8);
  recipe.overrides = {{"*.scores", 0, 6}};
  EXPECT_EQ(resolve_bits(sites, recipe)[2].activation_bits, 6);
  recipe.bits = {4, 16};
  recipe.overrides = {};
  EXPECT_FALSE(resolve_bits(sites, recipe)[2].quantized);
}

TEST(ResolveBits, SumsThatMayOverflowAreOfWeightsAlone) {
  for (const std::int64_t columns : {65793, 65794}) {
    std::vector<Site> sites(1);
    sites[0].kind = LinearSite{.weight = at::zeros({1, columns}), .bias = {}};
    Recipe recipe = w4a4_bits();
    EXPECT_EQ(resolve_bits(sites, recipe)[0].activation_bits, 4);
    recipe.bits = {8, 8};
    EXPECT_EQ(resolve_bits(sites, recipe)[0].activation_bits,
              columns > 65793 ? kWeightOnlyBits : 8);
  }
}

TEST(ResolveBits, ExcludedSitesStayInFloatingPoint) {
  Recipe recipe = w4a4_bits();
  recipe.exclude = {"*.fc?", "blocks.0.scores"};
  EXPECT_EQ(bits_text(recipe), "w4a4 - - w4a4 - w4a4");
}

TEST(ResolveBits, WeightOnlyLeavesProductsOfActivationsAlone) {
  Recipe recipe = w4a4_bits();
  recipe.bits = {4, 16};
  recipe.first_layer = {8, 8};  // edges say nothing to weight-only
  EXPECT_EQ(bits_text(recipe), "w4a16 w4a16 - - w4a16 w4a16");
}

TEST(ResolveBits, AttentionCanBeLeftOut) {
  Recipe recipe = w4a4_bits();
  recipe.attention.quantize = false;
  EXPECT_EQ(bits_text(recipe), "w4a4 w4a4 - - w4a4 w4a4");
}

TEST(ResolveBits, PatternsMustMatch) {
  Recipe recipe = w4a4_bits();
  recipe.exclude = {"blocks.1.*"};
  EXPECT_ERROR(resolve_bits(six_sites(), recipe), ErrorKind::kUsage, "blocks.1.*");
  recipe = w4a4_bits();
  recipe.overrides = {{"tail", 8, 8}};
  EXPECT_ERROR(resolve_bits(six_sites(), recipe), ErrorKind::kUsage, "/overrides/0/pattern");
}

/// embedding, fc, head; the head reads the embedding's table.
std::vector<Site> tied_sites() {
  std::vector<Site> sites(3);
  const char* paths[] = {"wte", "fc", "head"};
  for (std::size_t i = 0; i < sites.size(); ++i) {
    sites[i].path = paths[i];
    sites[i].kind = LinearSite{.weight = at::zeros({2, 2}), .bias = {}};
  }
  sites[0].kind = EmbeddingSite{constant_of(sites[2])};
  return sites;
}

SiteBits embedding_bits(const Recipe& recipe) { return resolve_bits(tied_sites(), recipe)[0]; }

TEST(ResolveBits, EmbeddingsHaveBitsOfTheirOwn) {
  Recipe recipe = w4a4_bits();
  EXPECT_EQ(embedding_bits(recipe), (SiteBits{true, 8, kWeightOnlyBits}));
  recipe.embedding.bits = 4;
  recipe.bits = {8, 16};
  EXPECT_EQ(embedding_bits(recipe), (SiteBits{true, 4, kWeightOnlyBits}));
  recipe.overrides = {{"wte", 6, 4}};
  EXPECT_EQ(embedding_bits(recipe), (SiteBits{true, 6, kWeightOnlyBits}));
}

TEST(ResolveBits, EmbeddingsCanBeLeftOut) {
  Recipe recipe = w4a4_bits();
  recipe.embedding.bits = 0;
  recipe.overrides = {{"*", 6, 6}};  // bits for all sites do not take the table along
  EXPECT_FALSE(embedding_bits(recipe).quantized);
  recipe = w4a4_bits();
  recipe.exclude = {"wte"};
  EXPECT_FALSE(embedding_bits(recipe).quantized);
}

TEST(ResolveBits, ATableThatIsReadInFloatStaysInFloat) {
  Recipe recipe = w4a4_bits();
  recipe.exclude = {"head"};
  EXPECT_FALSE(embedding_bits(recipe).quantized);
  EXPECT_TRUE(is_read_in_float(tied_sites(), resolve_bits(tied_sites(), recipe), 0));
  recipe.exclude = {"fc"};
  EXPECT_TRUE(embedding_bits(recipe).quantized);
}

TEST(ResolveBits, TheFirstLayerIsTheFirstLinear) {
  Recipe recipe = w4a4_bits();
  recipe.first_layer = {6, 8};
  EXPECT_EQ(resolve_bits(tied_sites(), recipe)[1], (SiteBits{true, 6, 8}));
}

}  // namespace
}  // namespace repquant
