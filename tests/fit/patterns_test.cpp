// Patterns of models that other people write: which values a site may be fitted on, and which not.
#include <ATen/ATen.h>

#include <limits>
#include <map>
#include <string>

#include "fit/fit_sites.h"
#include "recipe/json.h"
#include "support/errors.h"
#include "support/scripted.h"

namespace repquant {
namespace {

using testing::add_linear;
using testing::normal_batches;
using testing::Prepared;
using testing::Random;
using testing::scripted;

using Constants = std::map<std::string, at::Tensor>;

FittedSites fit_at_8(const Prepared& prepared) {
  return fit_sites(prepared.model, prepared.search, prepared.batches, recipe_for_bits({8, 8}), {});
}

/// Every site has a plan, and the outputs are those of a model with so many bits.
void expect_good(const Prepared& prepared, std::size_t sites, double least_db = 25.0) {
  EXPECT_EQ(prepared.search.sites.size(), sites);
  const FittedSites result = fit_at_8(prepared);
  for (const FailedSite& site : result.failed) ADD_FAILURE() << site.path << ": " << site.reason;
  EXPECT_EQ(result.plans.size(), sites);
  EXPECT_GT(result.output_sqnr_db, least_db);
}

Constants two_linears() {
  Constants constants;
  add_linear(constants, "0", 24, 16, 1);
  add_linear(constants, "1", 8, 24, 2);
  return constants;
}

TEST(Patterns, AConstantIsNoResidual) {
  for (const std::vector<std::int64_t>& shape :
       {std::vector<std::int64_t>{24}, {1, 24}, {6, 24}, {1, 6, 24}, {6, 1}, {1}}) {
    Constants constants = two_linears();
    constants["c"] = Random(3).normal(shape);
    for (const char* sum : {"torch.linear(x, self.w0, self.b0) + self.c",
                            "self.c + torch.linear(x, self.w0, self.b0)",
                            "torch.linear(x, self.w0, self.b0).add_(self.c)"}) {
      expect_good(scripted(std::string("  return torch.linear(") + sum + ", self.w1, self.b1)\n",
                           constants, normal_batches(3, {4, 6, 16})),
                  2);
    }
  }
}

TEST(Patterns, AResidualMayBroadcastAndBeBroadcast) {
  Constants constants = two_linears();
  add_linear(constants, "2", 24, 24, 4);
  for (const char* residual : {"h.mean(1, True)", "h[:, 0:1]", "h.mean(2, True)", "h.mean()"}) {
    expect_good(scripted(std::string("  h = torch.linear(x, self.w0, self.b0)\n"
                                     "  y = torch.linear(torch.relu(h), self.w2, self.b2) + ") +
                             residual + "\n  return torch.linear(y, self.w1, self.b1)\n",
                         constants, normal_batches(3, {4, 6, 16})),
                3);
  }
  // The other way around: what one row lacks, many rows do.
  expect_good(scripted("  h = torch.linear(x, self.w0, self.b0)\n"
                       "  y = torch.linear(h.mean(1, True), self.w2, self.b2) + h\n"
                       "  return torch.linear(y, self.w1, self.b1)\n",
                       constants, normal_batches(3, {4, 6, 16})),
              3);
}

TEST(Patterns, ValuesMayBeComputedInAnyOrder) {
  Constants constants;
  for (const char* name : {"q", "k", "v", "o"}) add_linear(constants, name, 16, 16, name[0]);
  const std::string scores =
      "  q = torch.linear(x, self.wq, self.bq).view(x.size(0), -1, 2, 8).transpose(1, 2)\n"
      "  k = torch.linear(x, self.wk, self.bk).view(x.size(0), -1, 2, 8).transpose(1, 2)\n"
      "  a = torch.softmax(torch.matmul(q, k.transpose(-2, -1)) * 0.35, -1)\n";
  const std::string value =
      "  v = torch.linear(x, self.wv, self.bv).view(x.size(0), -1, 2, 8).transpose(1, 2)\n";
  const std::string output =
      "  y = torch.matmul(a, v).transpose(1, 2).reshape(x.size(0), -1, 16)\n"
      "  return torch.linear(y, self.wo, self.bo)\n";
  const auto batches = normal_batches(3, {4, 6, 16});
  const Prepared before = scripted(value + scores + output, constants, batches);
  const Prepared after = scripted(scores + value + output, constants, batches);
  expect_good(before, 6);
  expect_good(after, 6);
  EXPECT_NEAR(fit_at_8(after).output_sqnr_db, fit_at_8(before).output_sqnr_db, 1.0);
}

TEST(Patterns, RowsOfZerosOfAProductDoNotCount) {
  Constants constants;
  add_linear(constants, "a", 16, 16, 1);
  add_linear(constants, "b", 16, 16, 2);
  auto batches = normal_batches(3, {4, 6, 16});
  for (auto& batch : batches) batch[0].slice(1, 3).zero_();  // padding
  expect_good(scripted("  a = torch.linear(x, self.wa)\n"
                       "  b = torch.linear(x + 1.0, self.wb, self.bb)\n"
                       "  return torch.matmul(a, b.transpose(-2, -1))\n",
                       constants, batches),
              3);
}

TEST(Patterns, ReadersOfANormMaySeeOtherTokens) {
  Constants constants;
  add_linear(constants, "a", 10, 16, 1);
  add_linear(constants, "b", 10, 16, 2);
  constants["g"] = Random(3).normal({16}).abs() + 0.5;
  constants["z"] = at::zeros({16});
  constants["p"] = Random(4).normal({6, 16}) * 3.0;  // tokens that differ
  for (const char* heads : {"  return torch.linear(h[:, 0], self.wa, self.ba), torch.linear(h[:, "
                            "5], self.wb, self.bb)\n",
                            "  return torch.linear(h[:, 5], self.wb, self.bb), torch.linear(h[:, "
                            "0], self.wa, self.ba)\n",
                            "  a = torch.linear(h[:, 0:1], self.wa, self.ba)\n"
                            "  return a + torch.linear(h, self.wb, self.bb)\n"}) {
    const Prepared prepared =
        scripted(std::string("  h = torch.layer_norm(x + self.p, [16], self.g, self.z)\n") + heads,
                 constants, normal_batches(3, {4, 6, 16}));
    expect_good(prepared, 2, 30.0);
    const FittedSites result = fit_at_8(prepared);
    const auto& first = std::get<LinearPlan>(result.plans[0].plan);
    const auto& second = std::get<LinearPlan>(result.plans[1].plan);
    EXPECT_FALSE(first.norm.empty());
    EXPECT_TRUE(at::equal(first.input.multiplier, second.input.multiplier));
  }
}

TEST(Patterns, AReaderWithOtherChannelsRefutesTheFold) {
  Constants constants;
  add_linear(constants, "a", 10, 16, 1);
  add_linear(constants, "b", 10, 32, 2);
  constants["g"] = Random(3).normal({16}).abs() + 0.5;
  const Prepared prepared = scripted(
      "  h = torch.rms_norm(x, [16], self.g)\n"
      "  a = torch.linear(h, self.wa, self.ba).mean(1)\n"
      "  return a + torch.linear(h.reshape(x.size(0), 3, 32), self.wb, self.bb).mean(1)\n",
      constants, normal_batches(3, {4, 6, 16}));
  for (const Site& site : prepared.search.sites) {
    EXPECT_EQ(norm_of(site), nullptr) << site.path;
    EXPECT_NE(site.note.find("another width"), std::string::npos) << site.note;
  }
  expect_good(prepared, 2);
}

/// Four experts, the last one of which no token is routed to.
const char* const kExperts =
    "  h = x.reshape(-1, 16)\n"
    "  top = (torch.linear(h, self.wr, self.br) + self.c).argmax(-1)\n"
    "  p0 = torch.nonzero(top == 0).squeeze(1)\n"
    "  p1 = torch.nonzero(top == 1).squeeze(1)\n"
    "  p2 = torch.nonzero(top == 2).squeeze(1)\n"
    "  y = torch.zeros_like(h)\n"
    "  y = y.index_add(0, p0, torch.linear(h[p0], self.w0, self.b0))\n"
    "  y = y.index_add(0, p1, torch.linear(h[p1], self.w1, self.b1))\n"
    "  y = y.index_add(0, p2, torch.linear(h[p2], self.w2, self.b2))\n"
    "  return torch.linear(h + y, self.wo, self.bo)\n";

TEST(Patterns, RowsMayDependOnRouting) {
  Constants constants;
  add_linear(constants, "r", 3, 16, 1);
  for (const char* name : {"0", "1", "2"}) add_linear(constants, name, 16, 16, name[0]);
  add_linear(constants, "o", 8, 16, 9);
  constants["c"] = at::tensor({0.0F, 0.0F, -1e4F});
  const Prepared prepared = scripted(kExperts, constants, normal_batches(3, {4, 6, 16}));
  expect_good(prepared, 5, 12.0);  // a token that goes elsewhere is lost
  std::map<std::string, const SitePlan*> plans;
  const FittedSites result = fit_at_8(prepared);
  ASSERT_EQ(result.plans.size(), 5U);
  const SitePlan& dead = result.plans[3];
  EXPECT_NE(dead.note.find("no calibration row"), std::string::npos) << dead.note;
  EXPECT_TRUE(std::get<LinearPlan>(dead.plan).input.per_token);
  EXPECT_EQ(std::get<LinearPlan>(dead.plan).weight.outcome, "nearest");
  EXPECT_EQ(result.plans[1].note.find("no calibration row"), std::string::npos);
  EXPECT_NE(result.plans[1].note.find("calibration rows"), std::string::npos);
  EXPECT_EQ(result.plans[4].note.find("calibration rows"), std::string::npos)
      << "index_add puts rows back in their place";
}

TEST(Patterns, OutputsMayBeWholeNumbers) {
  expect_good(scripted("  y = torch.linear(x, self.w0, self.b0)\n"
                       "  return torch.linear(y, self.w1, self.b1).argmax(-1)\n",
                       two_linears(), normal_batches(3, {4, 6, 16})),
              2, 10.0);
}

TEST(Patterns, RowsThatAreNotFiniteInOneStream) {
  Constants constants;
  for (const char* name : {"q", "k", "v", "o"}) add_linear(constants, name, 16, 16, name[0]);
  auto batches = normal_batches(3, {4, 6, 16});
  for (auto& batch : batches) batch[0].select(1, 5).fill_(-9.0);  // padding
  const Prepared prepared = scripted(
      "  pad = x[:, :, 0] < -8.0\n"
      "  q = torch.linear(x, self.wq, self.bq)\n"
      "  k = torch.linear(x, self.wk, self.bk)\n"
      "  v = torch.linear(x, self.wv, self.bv)\n"
      "  s = torch.matmul(q, k.transpose(-2, -1)) * 0.25\n"
      "  s = s.masked_fill(pad[:, :, None] | pad[:, None, :], float('-inf'))\n"
      "  y = torch.linear(torch.matmul(torch.softmax(s, -1), v), self.wo, self.bo)\n"
      "  return torch.where(pad[:, :, None], torch.zeros_like(y), y)\n",
      constants, std::move(batches));
  expect_good(prepared, 6);
}

}  // namespace
}  // namespace repquant
