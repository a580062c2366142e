#include "ops/grid.h"

#include <c10/util/Exception.h>

namespace repquant::ops {

at::Tensor spread_grid(const at::Tensor& grid, std::int64_t heads, std::int64_t depth,
                       at::ScalarType type, const char* name) {
  TORCH_CHECK(grid.scalar_type() == type, "repquant::", name, " must be ", type);
  const bool fits = grid.dim() <= 3 &&
                    (grid.dim() < 1 || grid.size(-1) == 1 || grid.size(-1) == depth) &&
                    (grid.dim() < 2 || grid.size(-2) == 1) &&
                    (grid.dim() < 3 || grid.size(-3) == 1 || grid.size(-3) == heads);
  TORCH_CHECK(fits, "repquant::", name, " ", grid.sizes(), " does not fit ", heads,
              " heads of width ", depth);
  return grid.expand({heads, 1, depth});
}

}  // namespace repquant::ops
