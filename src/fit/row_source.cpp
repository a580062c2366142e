#include "fit/row_source.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "fit/rows.h"
#include "repquant/error.h"
#include "tensor/parallel.h"

namespace repquant {
namespace {

constexpr std::int64_t kBlockRows = 1024;

/// All rows of a batch but those that are not kept.
at::Tensor kept_rows(const at::Tensor& batch, const at::Tensor& kept) {
  const at::Tensor rows = rows_of({batch});
  return kept.defined() ? rows.index_select(0, kept) : rows;
}

/// `rows` with what stands in `instead` where a row is not finite. May be undefined.
at::Tensor finite_or(const at::Tensor& rows, const at::Tensor& instead) {
  if (!rows.defined() || is_finite(rows)) return rows;
  return at::where(rows.isfinite().all(1, /*keepdim=*/true), rows, instead);
}

/// Reads ranges of rows in rising order, each batch once.
class RowCursor {
 public:
  RowCursor(const RowSource::Read& read, const std::vector<std::int64_t>& begins,
            const std::vector<at::Tensor>& kept)
      : read_(read), begins_(begins), kept_(kept) {}

  /// [to - from, ..]; undefined if there is nothing to read from. from < to.
  at::Tensor rows(std::int64_t from, std::int64_t to) {
    if (!read_) return {};
    std::vector<at::Tensor> parts;
    while (from < to) {
      for (; begins_[batch_ + 1] <= from; ++batch_) held_.reset();
      if (!held_.defined()) held_ = kept_rows(read_(batch_), kept_[batch_]);
      const std::int64_t begin = begins_[batch_], end = std::min(to, begins_[batch_ + 1]);
      parts.push_back(held_.slice(0, from - begin, end - begin));
      from = end;
    }
    return parts.size() == 1 ? parts[0] : at::cat(parts);
  }

 private:
  const RowSource::Read& read_;
  const std::vector<std::int64_t>& begins_;
  const std::vector<at::Tensor>& kept_;
  std::size_t batch_ = 0;
  at::Tensor held_;  // all rows of the batch
};

}  // namespace

RowSource rows_in_memory(std::vector<at::Tensor> x) {
  RowSource source;
  source.batches = x.size();
  source.x = [x = std::move(x)](std::size_t batch) { return x[batch]; };
  return source;
}

SourceRows::SourceRows(RowSource source, const std::string& path, int threads)
    : source_(std::move(source)),
      begins_(source_.batches + 1, 0),
      kept_(source_.batches),
      all_(source_.batches) {
  std::vector<std::int64_t> columns(source_.batches);
  parallel_for(std::ssize(columns), threads, [&](std::int64_t i) {
    const auto batch = static_cast<std::size_t>(i);
    const at::Tensor x = source_.x(batch);
    columns[batch] = x.size(-1);
    all_[batch] = x.numel() / std::max<std::int64_t>(1, x.size(-1));
    if (!is_finite(x)) {
      kept_[batch] = rows_of({x}).isfinite().all(1).nonzero().flatten();
    }
    begins_[batch + 1] = kept_[batch].defined() ? kept_[batch].numel() : all_[batch];
  });
  for (std::size_t i = 1; i < begins_.size(); ++i) begins_[i] += begins_[i - 1];
  columns_ = columns.empty() ? 0 : columns[0];
  left_out_ = std::accumulate(all_.begin(), all_.end(), -size());
  if (size() > 0 || left_out_ == 0) return;
  throw Error(ErrorKind::kNumerical,
              {.what = "the input of a site holds nothing but NaN or infinite values",
               .where = path,
               .hint = "check the calibration data and that the model runs in float32"});
}

at::Tensor SourceRows::kept_of(const at::Tensor& of_rows) const {
  if (!of_rows.defined() || left_out_ == 0) return of_rows;
  std::vector<at::Tensor> parts;
  std::int64_t from = 0;
  for (std::size_t batch = 0; batch < all_.size(); from += all_[batch++]) {
    const at::Tensor part = of_rows.slice(0, from, from + all_[batch]);
    parts.push_back(kept_[batch].defined() ? part.index_select(0, kept_[batch]) : part);
  }
  return at::cat(parts);
}

at::Tensor SourceRows::x_of_batch(std::size_t batch) const {
  return kept_rows(source_.x(batch), kept_[batch]);
}

at::Tensor SourceRows::x(std::int64_t from, std::int64_t to) const {
  if (from == to) return at::empty({0, columns_}, at::kFloat);
  return RowCursor(source_.x, begins_, kept_).rows(from, to).contiguous();
}

void SourceRows::for_each_block(std::int64_t from, std::int64_t to,
                                const std::function<void(const RowBlock&)>& see) const {
  RowCursor x(source_.x, begins_, kept_), x_float(source_.x_float, begins_, kept_),
      residual_error(source_.residual_error, begins_, kept_);
  for (; from < to; from = std::min(to, from + kBlockRows)) {
    const std::int64_t end = std::min(to, from + kBlockRows);
    const at::Tensor own = x.rows(from, end);
    see({from, end, own, finite_or(x_float.rows(from, end), own),
         finite_or(residual_error.rows(from, end), at::zeros({1}))});
  }
}

}  // namespace repquant
