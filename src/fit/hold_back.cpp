#include "fit/hold_back.h"

#include <algorithm>

#include "tensor/samples.h"

namespace repquant {

std::int64_t sample_count(const Batches& batches) {
  std::int64_t total = 0;
  for (const auto& batch : batches) total += sample_count(batch);
  return total;
}

Batches spread_samples(const Batches& batches, std::int64_t count) {
  const std::int64_t total = sample_count(batches);
  Batches result;
  std::int64_t seen = 0, taken = 0;
  for (const auto& batch : batches) {
    seen += sample_count(batch);
    const std::int64_t wanted = seen * std::min(count, total) / total - taken;
    if (wanted > 0) result.push_back(samples_of(batch, 0, wanted));
    taken += wanted;
  }
  return result;
}

HeldBack hold_back_samples(const Batches& batches, std::int64_t count) {
  HeldBack result{batches, {}};
  std::int64_t wanted = count;
  while (wanted > 0) {
    const std::vector<at::Tensor> last = result.fitted.back();
    const std::int64_t size = sample_count(last);
    if (size <= wanted) {
      if (result.fitted.size() == 1) break;
      result.fitted.pop_back();
      result.held_back.insert(result.held_back.begin(), last);
    } else {
      result.fitted.back() = samples_of(last, 0, size - wanted);
      result.held_back.insert(result.held_back.begin(), samples_of(last, size - wanted, size));
    }
    wanted -= size;
  }
  return result;
}

}  // namespace repquant
