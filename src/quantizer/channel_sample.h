// What the clipping methods share: the sample channel by channel, and the layer-output error of a
// set of channel ranges.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "quantizer/dual_clipping.h"
#include "quantizer/kernels.h"
#include "quantizer/range_search.h"

namespace repquant {

/// A channel's range as factors of its extremes (dual_clipping.h).
struct ChannelBounds {
  double minimum;
  double maximum;
  double centre;

  Range range(double lower_factor, double upper_factor) const {
    return {centre - lower_factor * (centre - minimum), centre + upper_factor * (maximum - centre)};
  }
};

struct ChannelSample {
  at::Tensor columns;  // float32 [C, n]: x transposed, a channel is contiguous
  at::Tensor gram;     // float32 [C, C], symmetric
  std::vector<ChannelBounds> bounds;
  int bits = 8;
  bool integer_zero_point = true;
  bool centred = false;

  std::int64_t channels() const { return columns.size(0); }
  std::int64_t rows() const { return columns.size(1); }
  const float* column(std::int64_t c) const { return columns.const_data_ptr<float>() + c * rows(); }
  LineGrid grid(const Range& range) const {
    return line_grid(range.lower, range.upper, bits, integer_zero_point);
  }
};

/// tr(dX G dX^T) for a range per channel.
double layer_error(const ChannelSample& sample, const std::vector<Range>& ranges);

/// dX^T [C, n] for a range per channel, each row without its mean if the sample is centred.
at::Tensor channel_errors(const ChannelSample& sample, const std::vector<Range>& ranges);

/// The paper's learned factors, starting from the given ranges (learned_clipping.cpp).
std::vector<Range> learn_ranges(const ChannelSample& sample, const std::vector<Range>& start,
                                int steps);

}  // namespace repquant
