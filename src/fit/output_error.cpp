#include "fit/output_error.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "repquant/error.h"
#include "tensor/deviation.h"

namespace repquant {

double output_sqnr_db(Streams& streams, const std::string& where) {
  std::vector<Energies> parts(streams.batches());
  std::vector<char> compared(streams.batches());  // not bool: batches are written side by side
  streams.finish([&](std::size_t batch, const std::vector<at::Tensor>& reference,
                     const std::vector<at::Tensor>& got) {
    parts[batch] = energies_of(reference, got);
    const bool whole = whole_numbers(reference);
    compared[batch] = std::any_of(reference.begin(), reference.end(), [&](const at::Tensor& x) {
      return (whole || x.is_floating_point() || x.is_complex()) && x.isfinite().any().item<bool>();
    });
  });
  Energies sums;
  for (const Energies& part : parts) sums += part;
  const bool any = std::count(compared.begin(), compared.end(), 1) > 0;
  if (!any || !std::isfinite(sums.signal) || !std::isfinite(sums.noise)) {
    throw Error(ErrorKind::kNumerical,
                {.what = any ? "the quantized outputs hold NaN or infinite values"
                             : "the model's outputs hold nothing but NaN or infinite values",
                 .where = where,
                 .hint = "check the calibration data and that the model runs in float32"});
  }
  return sums.sqnr_db();
}

}  // namespace repquant
