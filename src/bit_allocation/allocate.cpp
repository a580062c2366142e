#include "bit_allocation/allocate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include "repquant/error.h"

namespace repquant {
namespace {

constexpr std::int64_t kUnits = std::int64_t{1} << 15;

struct Costs {
  std::int64_t cheapest = 0;                     // sum over the items
  std::int64_t dearest = 0;                      // sum over the items of what may come on top
  std::int64_t divisor = 0;                      // of everything that may come on top
  std::vector<std::vector<std::int64_t>> above;  // per item and choice, above the cheapest
};

Costs costs_of(const std::vector<std::vector<Choice>>& items) {
  Costs costs;
  for (const auto& item : items) {
    if (item.empty()) {
      throw Error(ErrorKind::kInternal, {.what = "an item of the allocation has no choice"});
    }
    const auto [low, high] = std::minmax_element(
        item.begin(), item.end(), [](const Choice& a, const Choice& b) { return a.cost < b.cost; });
    costs.cheapest += low->cost;
    costs.dearest += high->cost - low->cost;
    auto& above = costs.above.emplace_back();
    for (const Choice& choice : item) {
      if (!std::isfinite(choice.error)) {
        throw Error(ErrorKind::kNumerical, {.what = "an estimated error is not finite"});
      }
      above.push_back(choice.cost - low->cost);
      costs.divisor = std::gcd(costs.divisor, above.back());
    }
  }
  return costs;
}

}  // namespace

std::vector<std::size_t> allocate(const std::vector<std::vector<Choice>>& items,
                                  std::int64_t budget) {
  const Costs costs = costs_of(items);
  if (costs.cheapest > budget) {
    throw Error(ErrorKind::kUsage, {.what = "the budget is below the cheapest choices",
                                    .expected = "at least " + std::to_string(costs.cheapest),
                                    .got = std::to_string(budget)});
  }
  // The unit must not depend on the budget, or a larger one could give a larger error.
  std::int64_t unit = std::max<std::int64_t>(1, costs.divisor);
  if (costs.dearest / unit > kUnits) unit = (costs.dearest + kUnits - 1) / kUnits;
  std::int64_t capacity = 0;
  std::vector<std::vector<std::size_t>> units;
  for (const auto& item : costs.above) {
    auto& row = units.emplace_back();
    for (const std::int64_t cost : item) {
      row.push_back(static_cast<std::size_t>((cost + unit - 1) / unit));
    }
    capacity += static_cast<std::int64_t>(*std::max_element(row.begin(), row.end()));
  }
  capacity = std::min(capacity, (budget - costs.cheapest) / unit);
  const auto size = static_cast<std::size_t>(capacity) + 1;

  // least[u]: the error of the items seen so far, from the last one back, with at most u units.
  std::vector<double> least(size, 0.0), next(size);
  std::vector<std::vector<std::size_t>> taken(items.size(), std::vector<std::size_t>(size));
  for (std::size_t i = items.size(); i-- > 0;) {
    std::vector<std::size_t> order(items[i].size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return items[i][a].cost < items[i][b].cost;
    });
    for (std::size_t u = 0; u < size; ++u) {
      next[u] = std::numeric_limits<double>::infinity();
      for (const std::size_t choice : order) {
        if (units[i][choice] > u) break;
        const double error = items[i][choice].error + least[u - units[i][choice]];
        if (error < next[u]) {
          next[u] = error;
          taken[i][u] = choice;
        }
      }
    }
    std::swap(least, next);
  }
  std::vector<std::size_t> chosen;
  std::size_t left = size - 1;
  for (std::size_t i = 0; i < items.size(); ++i) {
    chosen.push_back(taken[i][left]);
    left -= units[i][chosen.back()];
  }
  return chosen;
}

}  // namespace repquant
