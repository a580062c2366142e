#include "fit/row_source.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "support/errors.h"

namespace repquant {
namespace {

/// Rows 0, 1, 2, ... in batches of these sizes; the last one has another shape.
std::vector<at::Tensor> counted_batches(const std::vector<std::int64_t>& sizes) {
  std::vector<at::Tensor> batches;
  std::int64_t row = 0;
  for (const std::int64_t size : sizes) {
    const at::Tensor values = at::arange(row, row + size, at::kFloat);
    batches.push_back(at::stack({values, -values}, 1));
    row += size;
  }
  if (!batches.empty()) batches.back() = batches.back().unsqueeze(0);
  return batches;
}

TEST(SourceRows, BlocksAreRowsInOrder) {
  const SourceRows rows(rows_in_memory(counted_batches({700, 0, 900, 1500})), "site", 2);
  EXPECT_EQ(rows.size(), 3100);
  EXPECT_EQ(rows.columns(), 2);
  EXPECT_EQ(rows.begins(), (std::vector<std::int64_t>{0, 700, 700, 1600, 3100}));
  std::int64_t next = 5;
  rows.for_each_block(5, 3000, [&](const RowBlock& block) {
    EXPECT_EQ(block.from, next);
    EXPECT_LE(block.to - block.from, 1024);
    ASSERT_EQ(block.x.sizes(), (std::vector<std::int64_t>{block.to - block.from, 2}));
    EXPECT_TRUE(at::equal(block.x.select(1, 0), at::arange(block.from, block.to, at::kFloat)));
    EXPECT_FALSE(block.x_float.defined() || block.residual_error.defined());
    next = block.to;
  });
  EXPECT_EQ(next, 3000);
  EXPECT_EQ(rows.x(650, 1700).select(1, 1).sum().item<double>(),
            -at::arange(650, 1700).sum().item<double>());
  EXPECT_EQ(rows.x(7, 7).size(0), 0);
}

TEST(SourceRows, AllStreamsComeTogetherAndEachBatchIsReadOnce) {
  const auto x = counted_batches({300, 1200});
  std::vector<int> reads(2);
  RowSource source = rows_in_memory(x);
  source.x_float = [&](std::size_t i) {
    ++reads[i];
    return x[i] + 0.5;
  };
  source.residual_error = [&](std::size_t i) { return x[i].slice(-1, 0, 1) * 2; };
  const SourceRows rows(source, "site", 1);
  rows.for_each_block(0, rows.size(), [&](const RowBlock& block) {
    EXPECT_TRUE(at::equal(block.x_float, block.x + 0.5));
    EXPECT_TRUE(at::equal(block.residual_error, block.x.slice(1, 0, 1) * 2));
  });
  EXPECT_EQ(reads, (std::vector<int>{1, 1}));
}

TEST(SourceRows, NamesTheSiteWhoseRowsAreNotFinite) {
  for (const float value :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    auto batches = counted_batches({3, 4});
    batches[1][0][2][0] = value;
    EXPECT_EQ(SourceRows(rows_in_memory(batches), "block.fc", 2).left_out(), 1);
    for (auto& batch : batches) batch.fill_(value);
    EXPECT_ERROR(SourceRows(rows_in_memory(batches), "block.fc", 2), ErrorKind::kNumerical,
                 "block.fc");
  }
}

}  // namespace
}  // namespace repquant
