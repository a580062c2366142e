#include "fit/row_sample.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "quantizer/sample_rows.h"
#include "tensor/parallel.h"

namespace repquant {
namespace {

/// Rows [from, to) of one batch that lie in one half of the rows.
struct Piece {
  std::size_t batch = 0, half = 0;
  std::int64_t from = 0, to = 0;
  at::Tensor rows = {}, low = {}, high = {};  // its part of the sample, and its extremes
  std::vector<std::int64_t> places = {};
};

std::vector<Piece> pieces_of(const std::vector<std::int64_t>& begins, std::int64_t middle) {
  std::vector<Piece> pieces;
  for (std::size_t batch = 0; batch + 1 < begins.size(); ++batch) {
    const std::int64_t from = begins[batch], to = begins[batch + 1];
    const std::int64_t split = std::clamp(middle, from, to);
    if (from < split) pieces.push_back({.batch = batch, .half = 0, .from = from, .to = split});
    if (split < to) pieces.push_back({.batch = batch, .half = 1, .from = split, .to = to});
  }
  return pieces;
}

void fill(Piece& piece, const SourceRows& rows, std::int64_t stride) {
  const std::int64_t begin = rows.begins()[piece.batch];
  const at::Tensor x = rows.x_of_batch(piece.batch);
  const at::Tensor own = x.slice(0, piece.from - begin, piece.to - begin);
  std::tie(piece.low, piece.high) = at::aminmax(own, 0);
  for (std::int64_t group = piece.from / stride; group * stride < piece.to; ++group) {
    const std::int64_t place = place_in(group, stride, rows.size());
    if (place >= piece.from && place < piece.to) piece.places.push_back(place - piece.from);
  }
  piece.rows = own.index_select(0, at::tensor(piece.places, at::kLong));
  for (std::int64_t& place : piece.places) place += piece.from;
}

}  // namespace

WeightedRows sample_for_grid(const SourceRows& rows, const at::Tensor& row_weights, int threads,
                             std::int64_t most_values) {
  const std::int64_t most_rows =
      std::max<std::int64_t>(1, most_values / std::max<std::int64_t>(1, rows.columns()));
  const std::int64_t stride = (rows.size() + most_rows - 1) / most_rows;
  if (stride <= 1) return {rows.x(0, rows.size()), row_weights};

  const std::int64_t groups = (rows.size() + stride - 1) / stride;
  std::vector<Piece> pieces = pieces_of(rows.begins(), groups / 2 * stride);
  parallel_for(std::ssize(pieces), threads,
               [&](std::int64_t i) { fill(pieces[static_cast<std::size_t>(i)], rows, stride); });
  std::vector<at::Tensor> sample, weights;
  at::Tensor low, high;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const Piece& piece = pieces[i];
    sample.push_back(piece.rows);
    weights.push_back(row_weights.defined()
                          ? row_weights.index_select(0, at::tensor(piece.places, at::kLong))
                          : at::ones({piece.rows.size(0)}, at::kDouble));
    low = low.defined() ? at::minimum(low, piece.low) : piece.low;
    high = high.defined() ? at::maximum(high, piece.high) : piece.high;
    if (i + 1 == pieces.size() || pieces[i + 1].half != piece.half) {
      sample.push_back(at::stack({low, high}));
      weights.push_back(at::zeros({2}, at::kDouble));
      low = high = at::Tensor();
    }
  }
  return {at::cat(sample), at::cat(weights)};
}

}  // namespace repquant
