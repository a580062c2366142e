// How far two computations of the same thing may lie apart: codes at rounding ties, float32 sums in
// another order.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace repquant {

/// Codes may differ by one where rounding meets a tie, on about this share of elements: by chance
/// on three standard deviations more, and on one.
inline constexpr double kChangedCodesLimit = 1e-3;
/// Floating-point outputs: float32 sums in another order.
inline constexpr double kRelativeLimit = 1e-4;
/// Share of an attention output's rows in which a softmax code may fall on the other side of a tie.
inline constexpr double kChangedRowsLimit = 0.1;

/// Values below this are zero and differences below it none: float32 has few digits left there, and
/// products of such numbers underflow, in one order of operations and not in another.
inline constexpr double kNothing = 1e-30;

/// Largest |difference| over largest |value| (absolute where that is below kNothing), ignoring what
/// is infinite in `expected`; 0 for empty tensors. NaN where `got` is NaN and `expected` is not.
double relative_difference(const at::Tensor& got, const at::Tensor& expected);

/// The same without the rows that differ most, kChangedRowsLimit of all: a softmax code that falls
/// on the other side of a tie moves the whole row of the output. At least one dimension.
double typical_difference(const at::Tensor& got, const at::Tensor& expected);

/// Share of the rows in which any element differs. At least one dimension.
double changed_rows(const at::Tensor& got, const at::Tensor& expected);

/// True if so few elements are set in a mask of the codes that differ: kChangedCodesLimit of all.
bool few_changed(const at::Tensor& differs);

/// Where codes differ from `codes_of(values)` although a few units in the last place of a row's
/// largest value would not change them. Where many rows are alike, as behind a norm whose input
/// hardly varies, one tie is in all of them.
at::Tensor differ_beyond_rounding(const std::function<at::Tensor(const at::Tensor&)>& codes_of,
                                  const at::Tensor& got, const at::Tensor& values);

struct CodeDifference {
  std::int64_t changed = 0;  // elements
  double share = 0.0;        // of the elements, 0..1
  std::int64_t largest = 0;  // difference of codes
  bool few = true;           // within kChangedCodesLimit
};

/// `levels`: the values that `got` and `expected` hold in place of codes, uint8, rising; undefined:
/// they hold codes.
CodeDifference code_difference(const at::Tensor& got, const at::Tensor& expected,
                               const at::Tensor& levels);

/// The levels of the quadratic form: the squares of 0 to 15.
at::Tensor square_levels();

/// 10 log10(signal / noise), the signal-to-noise ratio in dB of two energies, both summed or both
/// mean; infinity where there is no noise to speak of (kNothing).
double sqnr_db(double signal, double noise);

/// Complex numbers as pairs of real ones in a last dimension; other tensors as they are.
at::Tensor as_reals(const at::Tensor& tensor);

/// 10 log10 of the energy of `signal` over that of `signal - other`, summed over floating-point
/// and complex tensors, infinite values left out; infinity where they are equal to kNothing. Of
/// another shape, such as as many rows as the data asks for, all is lost.
struct Energies {
  double signal = 0.0, noise = 0.0;

  void add(const at::Tensor& expected, const at::Tensor& got);
  /// Of whole numbers and truth values: each that differs is lost, so 99 % equal ones are 20 dB.
  void add_equality(const at::Tensor& expected, const at::Tensor& got);
  void operator+=(const Energies& other);
  double sqnr_db() const { return repquant::sqnr_db(signal, noise); }
};

/// Whether no tensor is floating-point or complex, such as the classes of a model that ends in
/// argmax.
bool whole_numbers(const std::vector<at::Tensor>& tensors);

/// Of a model's outputs: of those that are floating-point or complex, or of all where none is.
Energies energies_of(const std::vector<at::Tensor>& expected, const std::vector<at::Tensor>& got);

}  // namespace repquant
