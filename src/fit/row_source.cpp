#include "fit/row_source.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "fit/rows.h"
#include "repquant/error.h"
#include "tensor/parallel.h"

namespace repquant {
namespace {

constexpr std::int64_t kBlockRows = 1024;

void require_finite_input(const at::Tensor& x, const std::string& path) {
  // The sum is finite exactly if all values are (no float32 activation sum overflows a double).
  if (std::isfinite(at::sum(x, at::kDouble).item<double>())) return;
  throw Error(ErrorKind::kNumerical,
              {.what = "the input of a site holds NaN or infinite values",
               .where = path,
               .hint = "check the calibration data and that the model runs in float32"});
}

/// Reads ranges of rows in rising order, each batch once.
class RowCursor {
 public:
  RowCursor(const RowSource::Read& read, const std::vector<std::int64_t>& begins)
      : read_(read), begins_(begins) {}

  /// [to - from, ..]; undefined if there is nothing to read from. from < to.
  at::Tensor rows(std::int64_t from, std::int64_t to) {
    if (!read_) return {};
    std::vector<at::Tensor> parts;
    while (from < to) {
      for (; begins_[batch_ + 1] <= from; ++batch_) held_.reset();
      if (!held_.defined()) held_ = rows_of({read_(batch_)});
      const std::int64_t begin = begins_[batch_], end = std::min(to, begins_[batch_ + 1]);
      parts.push_back(held_.slice(0, from - begin, end - begin));
      from = end;
    }
    return parts.size() == 1 ? parts[0] : at::cat(parts);
  }

 private:
  const RowSource::Read& read_;
  const std::vector<std::int64_t>& begins_;
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
    : source_(std::move(source)), begins_(source_.batches + 1, 0) {
  std::vector<std::int64_t> columns(source_.batches);
  parallel_for(std::ssize(columns), threads, [&](std::int64_t i) {
    const auto batch = static_cast<std::size_t>(i);
    const at::Tensor x = source_.x(batch);
    require_finite_input(x, path);
    columns[batch] = x.size(-1);
    begins_[batch + 1] = x.numel() / std::max<std::int64_t>(1, x.size(-1));
  });
  for (std::size_t i = 1; i < begins_.size(); ++i) begins_[i] += begins_[i - 1];
  columns_ = columns.empty() ? 0 : columns[0];
}

at::Tensor SourceRows::x(std::int64_t from, std::int64_t to) const {
  if (from == to) return at::empty({0, columns_}, at::kFloat);
  return RowCursor(source_.x, begins_).rows(from, to).contiguous();
}

void SourceRows::for_each_block(std::int64_t from, std::int64_t to,
                                const std::function<void(const RowBlock&)>& see) const {
  RowCursor x(source_.x, begins_), x_float(source_.x_float, begins_),
      residual_error(source_.residual_error, begins_);
  for (; from < to; from = std::min(to, from + kBlockRows)) {
    const std::int64_t end = std::min(to, from + kBlockRows);
    see({from, end, x.rows(from, end), x_float.rows(from, end), residual_error.rows(from, end)});
  }
}

}  // namespace repquant
