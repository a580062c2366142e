#include "gptq/hessian.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "tensor/check.h"

namespace repquant {
namespace {

constexpr std::int64_t kBlockRows = 1024;
constexpr std::int64_t kBlockColumns = 128;

// sum += x^T x, only the blocks on and above the diagonal (ATen has no syrk). In float32 within
// these rows: its rounding is far below the least damping.
void add_upper_blocks(const at::Tensor& sum, const at::Tensor& x) {
  const std::int64_t columns = x.size(1);
  for (std::int64_t from = 0; from < columns; from += kBlockColumns) {
    const std::int64_t to = std::min(from + kBlockColumns, columns);
    at::Tensor block = sum.slice(0, from, to).slice(1, from);
    block.add_(at::mm(x.slice(1, from, to).t(), x.slice(1, from)).to(at::kDouble));
  }
}

}  // namespace

HessianAccumulator::HessianAccumulator(std::int64_t columns) : columns_(columns) {
  require(columns > 0, "HessianAccumulator", "at least one column");
  pending_ = at::empty({kBlockRows, columns}, at::kFloat);
  sum_ = at::zeros({columns, columns}, at::kDouble);
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
    from += taken;
    if (pending_rows_ == kBlockRows) flush();
  }
}

void HessianAccumulator::flush() {
  if (pending_rows_ == 0) return;
  add_upper_blocks(sum_, pending_.slice(0, 0, pending_rows_));
  pending_rows_ = 0;
}

void HessianAccumulator::merge(HessianAccumulator other) {
  require(other.columns_ == columns_, "HessianAccumulator::merge", "accumulators of one width");
  flush();
  other.flush();
  sum_.add_(other.sum_);
}

at::Tensor HessianAccumulator::hessian() {
  flush();
  at::Tensor whole = sum_.clone();
  for (std::int64_t from = 0; from < columns_; from += kBlockColumns) {
    const std::int64_t to = std::min(from + kBlockColumns, columns_);
    at::Tensor corner = whole.slice(0, from, to).slice(1, from, to);
    corner.copy_(at::triu(corner).add_(at::triu(corner, 1).t()));
    whole.slice(0, to).slice(1, from, to).copy_(whole.slice(0, from, to).slice(1, to).t());
  }
  return whole;
}

}  // namespace repquant
