// Scale reparameterization: channel-wise grid -> layer-wise grid (RepQ-ViT, RepQuant).
//   r = s / s~,  b = -s~ (z - z~),  x = r (x' + b)
// The norm produces x' (gamma' = gamma / r, beta' = beta / r - b), every consumer takes
// W'[:, c] = W[:, c] r_c and bias' = bias + W' b. With integer z the layer-wise codes of x' are the
// channel-wise codes of x.
#pragma once

#include <ATen/core/Tensor.h>

#include "quantizer/affine.h"

namespace repquant {

struct FoldPlan {
  at::Tensor ratio;               // r, float32 [C], > 0
  at::Tensor shift;               // b, float32 [C]; all zero in a scale-only plan
  at::Tensor channel_zero_point;  // z, float32 [C]; z~ everywhere in a scale-only plan
  double scale = 1.0;             // s~ of the layer-wise grid
  int zero_point = 0;             // z~, always in [0, 2^bits - 1]
  int bits = 8;

  /// The channel-wise grid of x that the plan realises: scale r s~, zero point z.
  AffineGrid channel_grid() const;
};

/// Plans the fold of a channel-wise grid (scale, zero_point [C]).
/// exponent 1 is the paper's fold; below 1, r = (s / s~)^exponent leaves part of the spread in the
/// activations to spare the weights: the step of channel c becomes r_c s~ and its zero point is
/// refitted to keep the lower end.
/// s~ is the mean of s, unless target_scale > 0 is given; z~ = round(mean z) within the codes.
FoldPlan plan_fold(const AffineGrid& channel_grid, double exponent = 1.0, double target_scale = 0);

/// plan_fold for exponent < 1 with s~ chosen by the layer-output error on x [n, C], gram [C, C]
/// (range_search.h); for exponent 1, where s~ is free, the same as plan_fold.
FoldPlan search_fold(const AffineGrid& channel_grid, double exponent, const at::Tensor& x,
                     const at::Tensor& gram);

/// The scale-only plan, for padding between norm and Linear and for norms without offset: b = 0,
/// ratio[c] = s_c / s~ as given, layer-wise zero point as given.
/// Fit channel_grid with one common zero point, or symmetric, for codes to be kept.
FoldPlan plan_scale_fold(const AffineGrid& channel_grid, int zero_point);

}  // namespace repquant
