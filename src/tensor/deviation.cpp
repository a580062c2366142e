#include "tensor/deviation.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace repquant {
namespace {

constexpr double kFewUnits = 0x1p-20;  // eight in the last place of a row's largest value

/// Rows [n, width] of a tensor; a tensor without dimensions is one row.
at::Tensor rows_of(const at::Tensor& x) {
  return x.dim() > 0 ? x.reshape({-1, x.size(-1)}) : x.view({1, 1});
}

}  // namespace

double relative_difference(const at::Tensor& got, const at::Tensor& expected) {
  if (expected.numel() == 0) return got.numel() == 0 ? 0.0 : 1.0;
  const auto finite = expected.isfinite();
  const double largest = at::where(finite, expected, 0.0).abs().max().item<double>();
  const double difference = at::where(finite, got - expected, 0.0).abs().max().item<double>();
  return largest > kNothing ? difference / largest : difference;
}

double typical_difference(const at::Tensor& got, const at::Tensor& expected) {
  if (got.numel() == 0) return 0.0;
  const at::Tensor rows = rows_of((got - expected).abs()).amax(-1);
  const auto allowed =
      static_cast<std::int64_t>(std::ceil(kChangedRowsLimit * static_cast<double>(rows.numel())));
  const double largest = expected.abs().max().item<double>();
  const std::int64_t kept = rows.numel() - allowed;
  if (kept <= 0) return 0.0;
  const double difference = std::get<0>(at::kthvalue(rows, kept)).item<double>();
  return largest > kNothing ? difference / largest : difference;
}

double changed_rows(const at::Tensor& got, const at::Tensor& expected) {
  if (got.numel() == 0) return 0.0;
  return rows_of(got.ne(expected)).any(-1).to(at::kDouble).mean().item<double>();
}

bool few_changed(const at::Tensor& differs) {
  const double usual = kChangedCodesLimit * static_cast<double>(differs.numel());
  return at::count_nonzero(differs).item<double>() <= 1.0 + usual + 3.0 * std::sqrt(usual);
}

at::Tensor differ_beyond_rounding(const std::function<at::Tensor(const at::Tensor&)>& codes_of,
                                  const at::Tensor& got, const at::Tensor& values) {
  at::Tensor differ = got.ne(codes_of(values));
  if (values.dim() == 0) return differ;
  // Neighbours go opposite ways: a grid that a whole row's range makes would follow the row.
  const at::Tensor ways = at::arange(values.size(-1)).remainder(2) * 2 - 1;
  const at::Tensor units = values.abs().amax(-1, true) * kFewUnits * ways;
  differ.logical_and_(got.ne(codes_of(values + units)));
  differ.logical_and_(got.ne(codes_of(values - units)));
  return differ;
}

at::Tensor square_levels() { return at::arange(16, at::kByte).square(); }

CodeDifference code_difference(const at::Tensor& got, const at::Tensor& expected,
                               const at::Tensor& levels) {
  const at::Tensor differs = got.ne(expected);
  CodeDifference result;
  result.changed = at::count_nonzero(differs).item<std::int64_t>();
  if (result.changed == 0) return result;
  const auto plain = [&](const at::Tensor& codes) {
    const auto wide = codes.masked_select(differs).to(at::kFloat);
    return levels.defined() ? at::bucketize(wide, levels.to(at::kFloat)).to(at::kFloat) : wide;
  };
  result.share = static_cast<double>(result.changed) / static_cast<double>(got.numel());
  result.largest =
      static_cast<std::int64_t>((plain(got) - plain(expected)).abs().max().item<float>());
  result.few = few_changed(differs);
  return result;
}

double sqnr_db(double signal, double noise) {
  if (noise <= kNothing * kNothing) return std::numeric_limits<double>::infinity();
  return 10.0 * std::log10(signal / noise);
}

at::Tensor as_reals(const at::Tensor& tensor) {
  return tensor.is_complex() ? at::view_as_real(tensor.resolve_conj()) : tensor;
}

void Energies::add(const at::Tensor& expected, const at::Tensor& got) {
  if (expected.is_complex()) return add(as_reals(expected), as_reals(got));
  if (!expected.is_floating_point()) return;
  const auto wide = expected.to(at::kDouble);
  // Masked outputs may hold infinities, which are equal or not but have no energy.
  const double own = at::where(wide.isfinite(), wide, 0.0).square().sum().item<double>();
  signal += own;
  noise += got.sizes().equals(wide.sizes())
               ? at::where(wide.isfinite(), wide - got, 0.0).square().sum().item<double>()
               : own;
}

void Energies::add_equality(const at::Tensor& expected, const at::Tensor& got) {
  const auto count = static_cast<double>(expected.numel());
  signal += count;
  noise += got.sizes().equals(expected.sizes())
               ? static_cast<double>(at::count_nonzero(expected.ne(got)).item<std::int64_t>())
               : count;
}

void Energies::operator+=(const Energies& other) {
  signal += other.signal;
  noise += other.noise;
}

bool whole_numbers(const std::vector<at::Tensor>& tensors) {
  return std::none_of(tensors.begin(), tensors.end(), [](const at::Tensor& tensor) {
    return tensor.is_floating_point() || tensor.is_complex();
  });
}

Energies energies_of(const std::vector<at::Tensor>& expected, const std::vector<at::Tensor>& got) {
  Energies energies;
  const bool whole = whole_numbers(expected);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    whole ? energies.add_equality(expected[i], got.at(i)) : energies.add(expected[i], got.at(i));
  }
  return energies;
}

}  // namespace repquant
