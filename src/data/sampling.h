// Seeded draws that are the same on every platform.
#pragma once

#include <cstdint>
#include <vector>

namespace repquant {

/// Draws `count` of the indices 0..size-1 without replacement, each subset equally likely, and
/// returns them sorted. If `count` >= `size`, all indices. Throws Error kUsage unless both are
/// positive.
std::vector<std::int64_t> draw_samples(std::int64_t size, std::int64_t count, std::uint64_t seed);

}  // namespace repquant
