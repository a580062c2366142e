#include "fit/hold_back.h"

#include <algorithm>

#include "fit/gradients.h"

namespace repquant {

std::int64_t sample_count(const Batches& batches) {
  std::int64_t total = 0;
  for (const auto& batch : batches) total += sample_count(batch);
  return total;
}

HeldBack hold_back(const Batches& batches, std::int64_t one_in) {
  const std::int64_t total = sample_count(batches);
  HeldBack result{batches, {}};
  if (total < 2) return result;
  std::int64_t wanted = std::max<std::int64_t>(1, total / one_in);
  while (wanted > 0) {
    const std::vector<at::Tensor> last = result.fitted.back();
    const std::int64_t count = sample_count(last);
    if (count <= wanted) {
      if (result.fitted.size() == 1) break;
      result.fitted.pop_back();
      result.held_back.insert(result.held_back.begin(), last);
    } else {
      result.fitted.back() = samples_of(last, 0, count - wanted);
      result.held_back.insert(result.held_back.begin(), samples_of(last, count - wanted, count));
    }
    wanted -= count;
  }
  return result;
}

}  // namespace repquant
