#include "ops/parallel.h"

#include <ATen/Config.h>
#include <ATen/Parallel.h>

#if AT_PARALLEL_OPENMP && !defined(_OPENMP) && !defined(REPQUANT_ONE_THREAD)
#error "compile with -fopenmp, or at::parallel_for runs on one thread"
#endif

namespace repquant::ops {

void split_work(std::int64_t count, std::int64_t grain,
                c10::function_ref<void(std::int64_t, std::int64_t)> body) {
  at::parallel_for(0, count, grain, body);
}

}  // namespace repquant::ops
