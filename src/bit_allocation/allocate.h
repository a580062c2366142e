// Which of several choices each item gets under a budget: the multiple-choice knapsack problem.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace repquant {

struct Choice {
  std::int64_t cost = 0;  // >= 0
  double error = 0.0;     // finite
};

/// One choice for each item, as indices, with the least sum of errors among those whose costs sum
/// to at most `budget`. Of equal sums of errors the first item takes the cheapest choice it can,
/// then the second, ... Dynamic programming: exact where the costs above each item's cheapest
/// choice are at most 2^15 units apart in all (their greatest common divisor is one unit); else
/// these costs are rounded up to 2^15 parts of the largest sum, so the budget always holds.
/// A larger budget never gives a larger error.
/// Throws Error kUsage if even the cheapest choices cost more than `budget`, kInternal for an item
/// without a choice.
std::vector<std::size_t> allocate(const std::vector<std::vector<Choice>>& items,
                                  std::int64_t budget);

}  // namespace repquant
