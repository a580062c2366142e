#include "data/sampling.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <string>
#include <utility>

#include "repquant/error.h"

namespace repquant {
namespace {

// std::uniform_int_distribution differs between standard libraries; mt19937_64 does not.
std::uint64_t draw_below(std::mt19937_64& generator, std::uint64_t bound) {
  const std::uint64_t excess = (0 - bound) % bound;  // 2^64 mod bound
  std::uint64_t value = generator();
  while (value < excess) value = generator();
  return value % bound;
}

}  // namespace

std::vector<std::int64_t> draw_samples(std::int64_t size, std::int64_t count, std::uint64_t seed) {
  if (size < 1 || count < 1) {
    throw Error(ErrorKind::kUsage,
                {"cannot draw samples", "", "at least one sample to draw, and to draw from",
                 std::to_string(count) + " of " + std::to_string(size), ""});
  }
  std::vector<std::int64_t> indices(static_cast<std::size_t>(size));
  std::iota(indices.begin(), indices.end(), std::int64_t{0});
  if (count >= size) return indices;
  // The first `count` steps of a Fisher-Yates shuffle.
  std::mt19937_64 generator(seed);
  const auto drawn = static_cast<std::size_t>(count);
  for (std::size_t i = 0; i < drawn; ++i) {
    std::swap(indices[i], indices[i + draw_below(generator, indices.size() - i)]);
  }
  indices.resize(drawn);
  std::sort(indices.begin(), indices.end());
  return indices;
}

}  // namespace repquant
