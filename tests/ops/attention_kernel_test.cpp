// The attention kernel against a plain reference in double precision, all levels, and each other.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "ops/levels.h"
#include "ops/operators.h"

namespace repquant {
namespace {

using testing::LevelScope;
using testing::random_codes;

struct Grid {
  int code, steps, max_code;
  bool zero_code;
};

const std::vector<Grid> kGrids{{0, 2, 15, true},  {0, 2, 15, false},  {0, 1, 15, true},
                               {0, 1, 7, false},  {0, 2, 3, true},    {1, 4, 63, true},
                               {1, 8, 255, true}, {1, 8, 255, false}, {1, 3, 31, true},
                               {2, 1, 255, true}, {2, 1, 15, true}};

/// Weights of scores minus row maximum in code units (uniform: octaves), from their definition.
at::Tensor reference_weights(const at::Tensor& units, const Grid& grid) {
  if (grid.code == 2) return at::round(at::exp2(units) * grid.max_code);
  const at::Tensor codes = at::round(-units).clamp(0, grid.max_code);
  at::Tensor w = at::exp2(-codes / grid.steps);
  if (grid.code == 1) w = at::round(w * 255);
  if (grid.zero_code) w = w.masked_fill(codes.ge(grid.max_code), 0.0);
  return w;
}

struct Case {
  at::Tensor q, k, v;  // int8
  at::Tensor query_zero, value_zero, scale, factor, multiplier, offset;
  ops::OptionalTensor mask;
  ops::OptionalTensor query_scale{}, key_scale{};  // [.., T, 1], [.., S, 1]
};

Case make_case(at::IntArrayRef leading, std::int64_t rows, std::int64_t columns,
               std::int64_t depth) {
  const std::int64_t heads = leading.empty() ? 1 : leading.back();
  const auto sizes = [&](std::int64_t n) {
    auto s = leading.vec();
    s.push_back(n);
    s.push_back(depth);
    return s;
  };
  Case c;
  c.q = random_codes(-128, 127, sizes(rows), at::kChar);
  c.k = random_codes(-128, 127, sizes(columns), at::kChar);
  c.v = random_codes(-128, 127, sizes(columns), at::kChar);
  c.query_zero = random_codes(-100, 100, {heads, 1, 1}, at::kInt);
  c.value_zero = random_codes(-100, 100, {heads, 1, depth}, at::kInt);
  c.scale = at::full({1}, 0.01F);
  c.factor = at::rand({heads, 1, 1}) * 2e-4 + 1e-5;
  c.multiplier = at::rand({heads, 1, depth}) + 0.5;
  c.offset = at::rand({heads, 1, depth}) * 100 + 20;
  return c;
}

at::Tensor reference(const Case& c, const Grid& grid) {
  at::Tensor scores = at::matmul(c.q.to(at::kDouble) - c.query_zero.to(at::kDouble),
                                 c.k.to(at::kDouble).transpose(-1, -2));
  if (c.mask || c.query_scale) scores = scores * c.scale.to(at::kDouble);
  if (c.query_scale) {
    scores =
        scores * c.query_scale->to(at::kDouble) * c.key_scale->to(at::kDouble).transpose(-1, -2);
  }
  if (c.mask) scores = scores + c.mask->to(at::kDouble);
  at::Tensor top = scores.amax(-1, true);
  const at::Tensor nothing = top.eq(-std::numeric_limits<double>::infinity());
  at::Tensor w = reference_weights(
      ((scores - top.masked_fill(nothing, 0.0)).to(at::kFloat) * c.factor).to(at::kDouble), grid);
  w = w.masked_fill(nothing, 0.0);
  const at::Tensor sum = w.sum(-1, true);
  return at::matmul(w, c.v.to(at::kDouble) - c.value_zero.to(at::kDouble)) /
         sum.masked_fill(sum.eq(0), 1.0) * c.multiplier.to(at::kDouble);
}

at::Tensor run(const Case& c, const Grid& grid, std::int64_t output_max_code,
               bool transposed = false) {
  return ops::attention_cpu(c.q, c.k, c.v, c.mask, c.query_zero, c.value_zero, c.scale, c.factor,
                            1.0, c.multiplier, c.offset, grid.code, grid.steps, grid.max_code,
                            grid.zero_code, output_max_code, transposed, c.query_scale,
                            c.key_scale);
}

void check(const Case& c, const Grid& grid) {
  at::Tensor expected = reference(c, grid);
  at::Tensor exact_codes =
      at::floor(expected + c.offset.to(at::kDouble) + 0.5).clamp(0, 255).to(at::kByte);
  if (c.q.dim() == 2) {  // one head, without a dimension of its own
    expected = expected.squeeze(0);
    exact_codes = exact_codes.squeeze(0);
  }
  at::Tensor first, first_codes;
  for (const auto& level : ops::cpu_levels()) {
    SCOPED_TRACE(level);
    const LevelScope scope(level);
    const at::Tensor y = run(c, grid, 0);
    ASSERT_EQ(y.sizes(), expected.sizes());
    if (y.numel() == 0) continue;
    const double size = expected.abs().max().item<double>() + 1;
    // A score at a tie of two codes may fall on either side of it: rare, and only with a mask.
    const at::Tensor wrong = (y.to(at::kDouble) - expected).abs().gt(2e-6 * size);
    EXPECT_LE(wrong.to(at::kDouble).mean().item<double>(), 2e-3);
    const at::Tensor codes = run(c, grid, 255, true);
    const auto d = testing::difference(codes, exact_codes);
    EXPECT_LE(d.count, 1 + codes.numel() / 500);
    if (!first.defined()) {
      first = y;
      first_codes = codes;
    }
    EXPECT_TRUE(at::equal(y, first) && at::equal(codes, first_codes)) << "levels differ";
  }
}

TEST(AttentionKernelTest, MatchesTheDefinitionOnAllGrids) {
  at::manual_seed(11);
  for (const Grid& grid : kGrids) {
    SCOPED_TRACE("code " + std::to_string(grid.code) + " steps " + std::to_string(grid.steps) +
                 " max " + std::to_string(grid.max_code));
    check(make_case({2, 3}, 17, 37, 24), grid);
  }
}

TEST(AttentionKernelTest, ZeroPointsOfValuesByTensorAndHead) {
  at::manual_seed(15);
  for (const std::int64_t heads : {1, 3}) {
    Case c = make_case({2, 3}, 9, 21, 70);  // two panels of channels
    c.value_zero = random_codes(-100, 100, {heads, 1, 1}, at::kInt);
    for (const Grid& grid : kGrids) check(c, grid);
  }
}

// Sums of weights times codes without their zero point, which leave int32.
TEST(AttentionKernelTest, ManyKeysAtTheEndOfTheirCodes) {
  for (const Grid& grid : kGrids) {
    for (const std::int64_t keys : {33000, 50000, 65536}) {
      Case c = make_case({1}, 2, keys, 20);
      c.q.zero_();
      c.query_zero.zero_();
      c.v.fill_(127);
      c.value_zero.fill_(-128);
      check(c, grid);
      c.v.fill_(-128);
      c.value_zero.fill_(127);
      check(c, grid);
    }
  }
  EXPECT_THROW(run(make_case({1}, 1, 65537, 4), kGrids[0], 0), c10::Error);
}

TEST(AttentionKernelTest, RefusesZeroPointsThatDoNotFit) {
  Case c = make_case({2, 3}, 4, 4, 8);
  c.value_zero = at::zeros({3, 1, 7}, at::kInt);
  EXPECT_THROW(run(c, kGrids[0], 0), c10::Error);
  c.value_zero = at::zeros({1}, at::kFloat);
  EXPECT_THROW(run(c, kGrids[0], 0), c10::Error);
}

TEST(AttentionKernelTest, AnyShape) {
  at::manual_seed(12);
  const Grid grid = kGrids[0];
  check(make_case({1, 1}, 1, 1, 1), grid);
  check(make_case({1, 2}, 1, 200, 7), grid);
  check(make_case({3}, 65, 64, 80), grid);
  check(make_case({}, 5, 129, 130), grid);
  check(make_case({2, 2, 3}, 4, 18, 5), grid);
  check(make_case({2, 0}, 4, 18, 5), grid);
  check(make_case({1, 2}, 197, 197, 64), grid);
}

TEST(AttentionKernelTest, MasksAndFullyMaskedRows) {
  at::manual_seed(13);
  const double inf = std::numeric_limits<double>::infinity();
  for (const Grid& grid : kGrids) {
    Case c = make_case({2, 3}, 9, 20, 16);
    c.factor = c.factor * 100;
    const at::Tensor bias = at::randn({9, 20});
    c.mask = bias;
    check(c, grid);
    c.mask = bias.masked_fill(at::ones({9, 20}, at::kBool).triu(1), -inf);
    check(c, grid);
    at::Tensor masked = at::randn({2, 1, 1, 20}).masked_fill(at::rand({2, 1, 1, 20}).gt(0.6), -inf);
    c.mask = masked;
    check(c, grid);
    masked.fill_(-inf);  // every row: 0, never NaN
    const at::Tensor y = run(c, grid, 0);
    EXPECT_TRUE(y.eq(0).all().item<bool>());
  }
}

TEST(AttentionKernelTest, ScalesOfTokens) {
  at::manual_seed(18);
  for (const Grid& grid : kGrids) {
    for (const auto& [rows, columns] : {std::pair{9, 37}, {1, 20}, {17, 1}}) {
      Case c = make_case({2, 3}, rows, columns, 24);
      c.query_zero = at::zeros({1}, at::kInt);
      c.factor = c.factor * 100;
      c.query_scale = at::rand({2, 3, rows, 1}) + 0.5;
      // Strides as a transposed tensor has them, and heads that share scales.
      c.key_scale = (at::rand({2, columns, 3, 1}) + 0.5).transpose(1, 2);
      check(c, grid);
      c.key_scale = at::rand({2, 1, columns, 1}) + 0.5;
      c.mask = at::randn({rows, columns});
      check(c, grid);
    }
  }
}

TEST(AttentionKernelTest, RefusesScalesOfTokensThatDoNotFit) {
  Case c = make_case({2, 3}, 4, 5, 8);
  c.query_scale = at::ones({2, 3, 4, 1});
  EXPECT_THROW(run(c, kGrids[0], 0), c10::Error);
  c.key_scale = at::ones({2, 3, 4, 1});
  EXPECT_THROW(run(c, kGrids[0], 0), c10::Error);
  c.key_scale = at::ones({2, 3, 5});
  EXPECT_THROW(run(c, kGrids[0], 0), c10::Error);
  c.key_scale = at::ones({2, 3, 5, 1}, at::kDouble);
  EXPECT_THROW(run(c, kGrids[0], 0), c10::Error);
}

TEST(AttentionKernelTest, OperandsMasksAndGridsBroadcastAsInMatmul) {
  at::manual_seed(16);
  const Grid grid = kGrids[0];
  // No axis of heads: the batch may be as long as a head is wide, or not.
  for (const std::int64_t batch : {8, 3}) {
    Case c = make_case({batch}, 9, 20, 8);
    c.query_zero = random_codes(-100, 100, {1}, at::kInt);
    c.value_zero = random_codes(-100, 100, {8}, at::kInt);
    c.factor = c.factor.select(0, 0).flatten();
    c.multiplier = at::rand({8}) + 0.5;
    c.offset = at::rand({1, 1, 8}) * 100 + 20;
    check(c, grid);
    c.mask = at::randn({batch, 1, 20});
    check(c, grid);
  }
  Case c = make_case({2, 3}, 9, 20, 8);
  c.mask = at::randn({3, 1, 20});
  c.q = c.q.narrow(0, 0, 1);  // one set of queries for all samples
  check(c, grid);
  c.k = c.k.narrow(1, 0, 1).contiguous();  // one set of keys for all heads
  check(c, grid);
  c.q = c.q.select(0, 0);
  check(c, grid);
  c.q = c.q.narrow(1, 0, 1).contiguous();  // one row; the mask has as many as there are
  c.mask = at::randn({2, 1, 9, 20});
  check(c, grid);
}

// Where the data choose the keys there may be none.
TEST(AttentionKernelTest, NoKeysGiveSumsOfNothing) {
  at::manual_seed(18);
  Case c = make_case({2, 3}, 5, 4, 8);
  c.k = c.k.narrow(-2, 0, 0);
  c.v = c.v.narrow(-2, 0, 0);
  for (const Grid& grid : kGrids) {
    EXPECT_TRUE(at::equal(run(c, grid, 0), at::zeros({2, 3, 5, 8})));
    const at::Tensor codes = at::floor(c.offset + 0.5).clamp(0, 100).to(at::kByte);
    EXPECT_TRUE(at::equal(run(c, grid, 100, true), codes.expand({2, 3, 5, 8})));
  }
}

TEST(AttentionKernelTest, ValuesOfAnotherWidthThanKeys) {
  at::manual_seed(17);
  for (const Grid& grid : kGrids) {
    for (const std::int64_t width : {5, 32, 130}) {
      const Case values = make_case({2, 3}, 9, 20, width);
      Case c = make_case({2, 3}, 9, 20, 24);
      c.v = values.v;
      c.value_zero = values.value_zero;
      c.multiplier = values.multiplier;
      c.offset = values.offset;
      check(c, grid);
    }
  }
}

TEST(AttentionKernelTest, ReadsViewsAndWritesTheOrderAskedFor) {
  at::manual_seed(14);
  Case c = make_case({2, 3}, 10, 10, 16);
  const at::Tensor expected = run(c, kGrids[0], 0);
  const at::Tensor qkv = at::stack({c.q, c.k, c.v}, 2).permute({0, 3, 2, 1, 4}).contiguous();
  const auto part = [&](std::int64_t i) { return qkv.select(2, i).permute({0, 2, 1, 3}); };
  c.q = part(0);
  c.k = part(1);
  c.v = part(2);
  ASSERT_FALSE(c.q.is_contiguous());
  const at::Tensor y = run(c, kGrids[0], 0, true);
  EXPECT_TRUE(at::equal(y, expected));
  EXPECT_TRUE(y.transpose(1, 2).is_contiguous());
}

TEST(AttentionKernelTest, RefusesGridsWithoutIntegerForm) {
  const Case c = make_case({1, 1}, 2, 2, 4);
  EXPECT_THROW(run(c, {0, 2, 31, true}, 0), c10::Error);
  EXPECT_THROW(run(c, {0, 4, 15, true}, 0), c10::Error);
}

}  // namespace
}  // namespace repquant
