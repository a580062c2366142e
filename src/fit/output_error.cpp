#include "fit/output_error.h"

#include <ATen/ATen.h>

#include <cmath>
#include <numeric>
#include <vector>

#include "repquant/error.h"
#include "tensor/deviation.h"

namespace repquant {

double output_sqnr_db(Streams& streams, const std::string& where) {
  std::vector<double> signals(streams.batches()), noises(streams.batches());
  std::vector<std::int64_t> compared(streams.batches());
  streams.finish([&](std::size_t batch, const std::vector<at::Tensor>& reference,
                     const std::vector<at::Tensor>& got) {
    if (whole_numbers(reference)) {
      const Energies energies = energies_of(reference, got);
      signals[batch] = energies.signal;
      noises[batch] = energies.noise;
      compared[batch] = 1;
      return;
    }
    for (std::size_t k = 0; k < reference.size(); ++k) {
      if (!reference[k].is_floating_point()) continue;
      const at::Tensor finite = reference[k].isfinite();
      const at::Tensor exact = at::where(finite, reference[k], 0.0).to(at::kDouble);
      const double signal = exact.square().sum().item<double>();
      signals[batch] += signal;
      compared[batch] += at::count_nonzero(finite).item<std::int64_t>();
      noises[batch] += got[k].sizes() != exact.sizes()
                           ? signal  // as many rows as the data asks for: lost
                           : (exact - at::where(finite, got[k], 0.0)).square().sum().item<double>();
    }
  });
  const double signal = std::accumulate(signals.begin(), signals.end(), 0.0);
  const double noise = std::accumulate(noises.begin(), noises.end(), 0.0);
  const bool any = std::accumulate(compared.begin(), compared.end(), std::int64_t{0}) > 0;
  if (!any || !std::isfinite(signal) || !std::isfinite(noise)) {
    throw Error(ErrorKind::kNumerical,
                {.what = any ? "the quantized outputs hold NaN or infinite values"
                             : "the model's outputs hold nothing but NaN or infinite values",
                 .where = where,
                 .hint = "check the calibration data and that the model runs in float32"});
  }
  return noise > 0 ? 10.0 * std::log10(signal / noise) : 200.0;
}

}  // namespace repquant
