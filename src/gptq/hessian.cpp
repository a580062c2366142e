#include "gptq/hessian.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "tensor/check.h"
#include "tensor/parallel.h"

namespace repquant {
namespace {

constexpr std::int64_t kBlockRows = 1024;
constexpr std::int64_t kBlockColumns = 128;
constexpr std::int64_t kManyColumns = 2048;
// Each holds a K x K sum in double: 134 MB at K = 4096.
std::int64_t shards_for(std::int64_t columns) { return columns > kManyColumns ? 2 : 4; }

// sum += x^T x, only the blocks on and above the diagonal (ATen has no syrk).
void add_upper_blocks(const at::Tensor& sum, const at::Tensor& x) {
  const std::int64_t columns = x.size(1);
  for (std::int64_t from = 0; from < columns; from += kBlockColumns) {
    const std::int64_t to = std::min(from + kBlockColumns, columns);
    at::Tensor block = sum.slice(0, from, to).slice(1, from, columns);
    block.addmm_(x.slice(1, from, to).t(), x.slice(1, from, columns));
  }
}

}  // namespace

HessianAccumulator::HessianAccumulator(std::int64_t columns) : columns_(columns) {
  require(columns > 0, "HessianAccumulator", "at least one column");
  pending_ = at::empty({kBlockRows, columns}, at::kFloat);
  sum_ = at::zeros({columns, columns}, at::kDouble);
  total_ = at::zeros({columns}, at::kDouble);
}

void HessianAccumulator::add(const at::Tensor& x) {
  require(x.dim() >= 1 && x.size(-1) == columns_, "HessianAccumulator::add",
          "rows of as many columns as the accumulator has");
  const at::Tensor rows = x.reshape({-1, columns_}).to(at::kFloat);
  const std::int64_t count = rows.size(0);
  for (std::int64_t from = 0; from < count;) {
    const std::int64_t taken = std::min(count - from, kBlockRows - pending_rows_);
    pending_.slice(0, pending_rows_, pending_rows_ + taken)
        .copy_(rows.slice(0, from, from + taken));
    pending_rows_ += taken;
    rows_ += taken;
    from += taken;
    if (pending_rows_ == kBlockRows) flush();
  }
}

void HessianAccumulator::flush() {
  if (pending_rows_ == 0) return;
  const at::Tensor block = pending_.slice(0, 0, pending_rows_).to(at::kDouble);
  add_upper_blocks(sum_, block);
  total_.add_(block.sum(0));
  pending_rows_ = 0;
}

void HessianAccumulator::merge(HessianAccumulator other) {
  require(other.columns_ == columns_, "HessianAccumulator::merge", "accumulators of one width");
  flush();
  other.flush();
  sum_.add_(other.sum_);
  total_.add_(other.total_);
  rows_ += other.rows_;
}

at::Tensor HessianAccumulator::hessian() {
  flush();
  return at::triu(sum_).add_(at::triu(sum_, 1).t());
}

at::Tensor HessianAccumulator::mean() {
  flush();
  return total_ / static_cast<double>(std::max<std::int64_t>(rows_, 1));
}

at::Tensor HessianAccumulator::centred_hessian() {
  at::Tensor centred = hessian();
  if (rows_ == 0) return centred;
  centred.sub_(at::outer(total_, total_).div_(static_cast<double>(rows_)));
  // Rounding may leave the variance of a constant column just below zero.
  centred.diagonal().clamp_min_(0);
  return centred;
}

HessianAccumulator accumulate_hessian(const std::vector<at::Tensor>& batches, int threads) {
  require(!batches.empty(), "accumulate_hessian", "at least one batch");
  const std::int64_t columns = batches.front().size(-1);
  std::vector<at::Tensor> rows;
  std::int64_t total = 0;
  for (const at::Tensor& batch : batches) {
    require(batch.size(-1) == columns, "accumulate_hessian", "batches of one width");
    rows.push_back(batch.reshape({-1, columns}));
    total += rows.back().size(0);
  }
  // Shards are ranges of rows in whole blocks, so neither threads nor batches shape the sums.
  const std::int64_t blocks = (total + kBlockRows - 1) / kBlockRows;
  const std::int64_t parts = shards_for(columns);
  const std::int64_t shard_rows = (blocks + parts - 1) / parts * kBlockRows;
  std::vector<HessianAccumulator> shards;
  for (std::int64_t from = 0; from == 0 || from < total; from += shard_rows) {
    shards.emplace_back(columns);
    if (shard_rows == 0) break;
  }
  parallel_for(static_cast<std::int64_t>(shards.size()), threads, [&](std::int64_t shard) {
    std::int64_t first = 0;  // index of the batch's first row among all rows
    for (const at::Tensor& batch : rows) {
      const std::int64_t size = batch.size(0);
      const std::int64_t from = std::clamp<std::int64_t>(shard * shard_rows - first, 0, size);
      const std::int64_t to = std::clamp<std::int64_t>((shard + 1) * shard_rows - first, 0, size);
      if (from < to) shards[static_cast<std::size_t>(shard)].add(batch.slice(0, from, to));
      first += size;
    }
  });
  // A fixed binary tree over the shards.
  for (std::size_t step = 1; step < shards.size(); step *= 2) {
    for (std::size_t i = 0; i + step < shards.size(); i += 2 * step) {
      shards[i].merge(std::move(shards[i + step]));
    }
  }
  return std::move(shards.front());
}

}  // namespace repquant
