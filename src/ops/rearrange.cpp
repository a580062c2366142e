// Reshapes and permutations one after the other, as the one copy (or view) that they are together.
#include "ops/rearrange.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <optional>
#include <vector>

#include "ops/operators.h"
#include "ops/output.h"
#include "ops/parallel.h"

namespace repquant::ops {
namespace {

constexpr std::int64_t kGrain = 1 << 16;  // bytes that one thread should write at least

/// A part of a dimension, as it lies in the input.
struct Factor {
  std::int64_t size, stride;  // in elements
};

using Factors = std::vector<Factor>;

/// Appends a part inside of those before it, to the last one where both are one run in memory.
void append(Factors& factors, Factor inner) {
  if (inner.size == 1) return;
  if (!factors.empty() && factors.back().stride == inner.size * inner.stride) {
    factors.back() = {factors.back().size * inner.size, inner.stride};
  } else {
    factors.push_back(inner);
  }
}

/// The dimensions of a tensor in terms of the memory that they came from.
class Arrangement {
 public:
  explicit Arrangement(at::IntArrayRef sizes, at::IntArrayRef strides) {
    for (std::size_t d = 0; d < sizes.size(); ++d) {
      dimensions_.emplace_back();
      append(dimensions_.back(), {sizes[d], strides[d]});
    }
  }

  void permute(at::IntArrayRef order) {
    std::vector<Factors> dimensions;
    for (const std::int64_t d : order)
      dimensions.push_back(dimensions_[static_cast<std::size_t>(d)]);
    dimensions_ = std::move(dimensions);
  }

  /// False, and nothing changed, if the new dimensions are not made of parts of these.
  bool reshape(at::IntArrayRef sizes) {
    Factors left = factors();
    std::reverse(left.begin(), left.end());
    std::vector<Factors> dimensions;
    for (std::int64_t needed : sizes) {
      Factors& dimension = dimensions.emplace_back();
      while (needed > 1) {
        if (left.empty()) return false;
        Factor& next = left.back();
        if (needed % next.size == 0) {
          needed /= next.size;
          append(dimension, next);
          left.pop_back();
        } else if (next.size % needed == 0) {
          next.size /= needed;
          append(dimension, {needed, next.stride * next.size});
          needed = 1;
        } else {
          return false;
        }
      }
    }
    dimensions_ = std::move(dimensions);
    return left.empty();
  }

  /// All parts, the innermost last.
  Factors factors() const {
    Factors all;
    for (const Factors& dimension : dimensions_) {
      for (const Factor& factor : dimension) append(all, factor);
    }
    return all;
  }

  /// Strides of the dimensions, if each is a single run.
  std::optional<std::vector<std::int64_t>> strides() const {
    std::vector<std::int64_t> strides;
    for (const Factors& dimension : dimensions_) {
      if (dimension.size() > 1) return {};
      strides.push_back(dimension.empty() ? 1 : dimension[0].stride);
    }
    return strides;
  }

 private:
  std::vector<Factors> dimensions_;
};

/// A loop of a copy: `size` steps through the input and the output.
struct Loop {
  std::int64_t size = 1, from = 0, to = 0;  // elements
};

/// out[i outer.to + j inner.to] = in[i outer.from + j inner.from], in tiles of a line of the cache
/// along one loop and a few steps along the other, the one with the longer steps through memory:
/// their lines compete for the same places. Loops come by value: bytes that are written could be
/// theirs.
template <class T>
void copy_tiles(const T* in, T* out, Loop outer, Loop inner) {
  constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T)), kFew = 8;
  const bool long_reads = inner.from > outer.to;
  const std::int64_t outer_tile = long_reads ? kLine : kFew, inner_tile = long_reads ? kFew : kLine;
  for (std::int64_t i = 0; i < outer.size; i += outer_tile) {
    const std::int64_t i_end = std::min(outer.size, i + outer_tile);
    for (std::int64_t j = 0; j < inner.size; j += inner_tile) {
      const std::int64_t j_end = std::min(inner.size, j + inner_tile);
      if (long_reads) {
        for (std::int64_t b = j; b < j_end; ++b) {
          for (std::int64_t a = i; a < i_end; ++a) {
            out[a * outer.to + b * inner.to] = in[a * outer.from + b * inner.from];
          }
        }
      } else {
        for (std::int64_t a = i; a < i_end; ++a) {
          for (std::int64_t b = j; b < j_end; ++b) {
            out[a * outer.to + b * inner.to] = in[a * outer.from + b * inner.from];
          }
        }
      }
    }
  }
}

template <std::size_t kBytes>
void copy_runs(const char* in, char* out, const Loop& loop, std::int64_t item, std::size_t bytes) {
  for (std::int64_t i = 0; i < loop.size; ++i) {
    std::memcpy(out + i * loop.to * item, in + i * loop.from * item, kBytes > 0 ? kBytes : bytes);
  }
}

/// The innermost two loops, `inner` a run in both.
void copy_runs(const char* in, char* out, const Loop& outer, const Loop& inner, std::int64_t item) {
  const auto bytes = static_cast<std::size_t>(inner.size * item);
  switch (bytes) {  // short ones are not worth a call
    case 4:
      return copy_runs<4>(in, out, outer, item, bytes);
    case 8:
      return copy_runs<8>(in, out, outer, item, bytes);
    case 16:
      return copy_runs<16>(in, out, outer, item, bytes);
    case 32:
      return copy_runs<32>(in, out, outer, item, bytes);
    case 64:
      return copy_runs<64>(in, out, outer, item, bytes);
    default:
      return copy_runs<0>(in, out, outer, item, bytes);
  }
}

void copy_two(const char* in, char* out, const Loop& outer, const Loop& inner, std::int64_t item) {
  if (inner.from == 1) return copy_runs(in, out, outer, inner, item);
  const auto tiles = [&](auto element) {
    using T = decltype(element);
    copy_tiles(reinterpret_cast<const T*>(in), reinterpret_cast<T*>(out), outer, inner);
  };
  if (item == 1) return tiles(std::uint8_t{});
  if (item == 2) return tiles(std::uint16_t{});
  if (item == 4) return tiles(std::uint32_t{});
  tiles(std::uint64_t{});
}

/// The parts of `x` that `arrangement` puts in order, copied in this order.
at::Tensor copy(const at::Tensor& x, const Arrangement& arrangement, at::IntArrayRef sizes) {
  at::Tensor result = new_output(sizes, x.scalar_type());
  const auto item = static_cast<std::int64_t>(x.element_size());
  std::vector<Loop> loops;  // innermost first
  const Factors factors = arrangement.factors();
  std::int64_t to = 1;
  for (auto factor = factors.rbegin(); factor != factors.rend(); ++factor) {
    loops.push_back({factor->size, factor->stride, to});
    to *= factor->size;
  }
  while (loops.size() < 2) loops.push_back({1, 0, to});
  // Beside the innermost loop comes one that is a run in the input, if that is none itself.
  if (loops[0].from != 1) {
    const auto run = std::find_if(loops.begin() + 1, loops.end(),
                                  [](const Loop& loop) { return loop.from == 1; });
    if (run != loops.end()) std::iter_swap(loops.begin() + 1, run);
  }
  const Loop inner = loops[0], outer = loops[1];
  // A task is a piece of the outer loop, of one step of all others.
  const std::int64_t row = inner.size * item;
  const std::int64_t piece = std::clamp<std::int64_t>(kGrain / row / 64 * 64, 64, outer.size + 64);
  const std::int64_t pieces = (outer.size + piece - 1) / piece;
  const std::int64_t tasks = x.numel() / (inner.size * outer.size) * pieces;
  const std::int64_t grain =
      std::max<std::int64_t>(1, kGrain / (row * std::min(piece, outer.size)));
  const auto* in = static_cast<const char*>(x.const_data_ptr());
  auto* out = static_cast<char*>(result.mutable_data_ptr());
  split_work(tasks, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t first = task % pieces * piece;
      std::int64_t from_at = first * outer.from, to_at = first * outer.to, rest = task / pieces;
      for (std::size_t i = 2; i < loops.size(); ++i) {
        from_at += rest % loops[i].size * loops[i].from;
        to_at += rest % loops[i].size * loops[i].to;
        rest /= loops[i].size;
      }
      const Loop part{std::min(piece, outer.size - first), outer.from, outer.to};
      copy_two(in + from_at * item, out + to_at * item, part, inner, item);
    }
  });
  return result;
}

/// `sizes` with what -1 stands for.
std::vector<std::int64_t> full_sizes(at::IntArrayRef sizes, std::int64_t numel) {
  std::int64_t others = 1, free = -1;
  bool fits = true;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] == -1 && free < 0) {
      free = static_cast<std::int64_t>(i);
    } else {
      fits = fits && sizes[i] >= 0 && !__builtin_mul_overflow(others, sizes[i], &others);
    }
  }
  std::vector<std::int64_t> full = sizes.vec();
  if (free >= 0) {
    fits = fits && others > 0 && numel % others == 0;
    if (fits) full[static_cast<std::size_t>(free)] = numel / others;
  }
  TORCH_CHECK(fits && (free >= 0 || others == numel), "shape '", sizes,
              "' is invalid for input of size ", numel);
  return full;
}

/// The order that a step of this kind brings `rank` dimensions into.
std::vector<std::int64_t> order_of(std::int64_t kind, at::IntArrayRef dims, std::int64_t rank) {
  const auto at = [&](std::int64_t d) {
    TORCH_CHECK(d >= -rank && d < rank, "repquant::rearrange: no dimension ", d, " of ", rank);
    return static_cast<std::size_t>(d < 0 ? d + rank : d);
  };
  std::vector<std::int64_t> order(static_cast<std::size_t>(rank));
  std::iota(order.begin(), order.end(), 0);
  if (kind == kTransposeStep) {
    TORCH_CHECK(dims.size() == 2, "repquant::rearrange: ", dims, " are not two dimensions");
    std::swap(order[at(dims[0])], order[at(dims[1])]);
    return order;
  }
  TORCH_CHECK(kind == kPermuteStep && dims.size() == order.size(), "repquant::rearrange: ", dims,
              " is no step for ", rank, " dimensions");
  std::vector<bool> seen(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    order[i] = static_cast<std::int64_t>(at(dims[i]));
    TORCH_CHECK(!seen[at(dims[i])], "repquant::rearrange: ", dims, " is no order of dimensions");
    seen[at(dims[i])] = true;
  }
  return order;
}

/// reshape(sizes) or permute(order) for one step after the other, on tensors of `rank` dimensions
/// and `numel` elements at first.
template <class Reshape, class Permute>
void for_each_step(std::int64_t rank, std::int64_t numel, at::IntArrayRef sizes,
                   at::IntArrayRef steps, Reshape reshape, Permute permute) {
  const auto take = [](at::IntArrayRef& list, std::int64_t count) {
    TORCH_CHECK(count >= 0 && static_cast<std::size_t>(count) <= list.size(),
                "repquant::rearrange: the steps do not fit the sizes");
    const auto n = static_cast<std::size_t>(count);
    const at::IntArrayRef taken = list.slice(0, n);
    list = list.slice(n);
    return taken;
  };
  while (!steps.empty()) {
    const at::IntArrayRef head = take(steps, 2);
    if (head[0] == kReshapeStep) {
      reshape(full_sizes(take(sizes, head[1]), numel));
      rank = head[1];
    } else {
      permute(order_of(head[0], take(steps, head[1]), rank));
    }
  }
}

}  // namespace

at::Tensor in_order(const at::Tensor& x) {
  if (x.is_contiguous() || x.numel() == 0 || x.element_size() > 8) return x.contiguous();
  return copy(x, Arrangement(x.sizes(), x.strides()), x.sizes());
}

at::Tensor rearrange_cpu(const at::Tensor& x, at::IntArrayRef sizes, at::IntArrayRef steps) {
  if (x.numel() == 0 || x.element_size() > 8) return rearrange_meta(x, sizes, steps);
  at::Tensor source = x;
  std::vector<std::int64_t> shape = x.sizes().vec();
  Arrangement arrangement(x.sizes(), x.strides());
  for_each_step(
      x.dim(), x.numel(), sizes, steps,
      [&](std::vector<std::int64_t> to) {
        if (!arrangement.reshape(to)) {
          source = copy(source, arrangement, shape);
          arrangement = Arrangement(source.sizes(), source.strides());
          const bool fits = arrangement.reshape(to);
          TORCH_INTERNAL_ASSERT(fits);  // one run splits into any sizes
        }
        shape = std::move(to);
      },
      [&](const std::vector<std::int64_t>& order) {
        std::vector<std::int64_t> to;
        for (const std::int64_t d : order) to.push_back(shape[static_cast<std::size_t>(d)]);
        shape = std::move(to);
        arrangement.permute(order);
      });
  if (const auto strides = arrangement.strides()) return source.as_strided(shape, *strides);
  return copy(source, arrangement, shape);
}

at::Tensor rearrange_meta(const at::Tensor& x, at::IntArrayRef sizes, at::IntArrayRef steps) {
  at::Tensor y = x;
  for_each_step(
      x.dim(), x.numel(), sizes, steps,
      [&](const std::vector<std::int64_t>& to) { y = y.reshape(to); },
      [&](const std::vector<std::int64_t>& order) { y = y.permute(order); });
  return y;
}

}  // namespace repquant::ops
