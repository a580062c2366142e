// The rows that a Linear is fitted on, wherever they are kept.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace repquant {

/// The rows of a site, one batch at a time. The functions may be called from several threads, and
/// more than once for each batch.
struct RowSource {
  using Read = std::function<at::Tensor(std::size_t batch)>;

  std::size_t batches = 0;
  Read x;        // quantized stream [.., K]
  Read x_float;  // floating-point stream, as many rows; or empty
  /// What the residual lacks that the output is added to (floating-point minus quantized stream),
  /// [.., N], as many rows; or empty.
  Read residual_error;
};

/// Batches that are in memory.
RowSource rows_in_memory(std::vector<at::Tensor> x);

/// Some rows of a source behind each other. All values are finite: a row that is not so in the
/// floating-point stream alone has there what it has in the quantized one, and a residual that is
/// not lacks nothing.
struct RowBlock {
  std::int64_t from = 0, to = 0;  // their places among all rows
  at::Tensor x;                   // [to - from, K]
  at::Tensor x_float;             // [to - from, K]; undefined without RowSource::x_float
  at::Tensor residual_error;      // [to - from, N]; undefined without RowSource::residual_error
};

/// The rows of all batches of a source, in order, by their places. What is read does not depend on
/// how the rows are split into batches. Rows of x that are not finite (padding that the model drops
/// later) are left out of everything.
class SourceRows {
 public:
  /// Reads x once. Throws Error kNumerical, naming `path`, if it has rows and none is finite.
  SourceRows(RowSource source, const std::string& path, int threads);

  std::int64_t size() const { return begins_.back(); }
  std::int64_t columns() const { return columns_; }
  /// Rows that are left out.
  std::int64_t left_out() const { return left_out_; }
  /// Without those: what there is for each row of the source, [all rows]; or undefined.
  at::Tensor kept_of(const at::Tensor& of_rows) const;
  /// All rows of x in one batch, contiguous.
  at::Tensor x_of_batch(std::size_t batch) const;
  /// The place of the first row of each batch, and the number of rows.
  const std::vector<std::int64_t>& begins() const { return begins_; }

  /// Rows [from, to) of x, contiguous.
  at::Tensor x(std::int64_t from, std::int64_t to) const;

  /// Calls `see` with rows [from, to) in order, 1024 at a time. No more than one block and one
  /// batch are in memory at a time. Blocks may be views of batches: not to be changed.
  void for_each_block(std::int64_t from, std::int64_t to,
                      const std::function<void(const RowBlock&)>& see) const;

 private:
  RowSource source_;
  std::int64_t columns_ = 0;
  std::vector<std::int64_t> begins_;
  std::vector<at::Tensor> kept_;  // per batch, int64: places of finite rows; undefined: all of them
  std::vector<std::int64_t> all_;  // per batch, rows with those that are left out
  std::int64_t left_out_ = 0;
};

}  // namespace repquant
