#include "ops/kernels/attention.h"
#include "ops/kernels/cache.h"
#include "ops/kernels/depthwise.h"
#include "ops/kernels/group_linear.h"
#include "ops/kernels/groups.h"
#include "ops/kernels/levels.h"
#include "ops/kernels/library_linear.h"
#include "ops/kernels/linear.h"
#include "ops/kernels/math.h"
#include "ops/kernels/norm.h"
#include "ops/kernels/rows.h"
#include "ops/kernels/token.h"
#include "ops/kernels/vector_avx512.h"
#include "ops/kernels/weight_only.h"

namespace repquant::ops {

namespace {

constexpr Kernels kOwn{
    &norm_quantize<Avx512>,         &quantize<Avx512>,       &token_quantize<Avx512>,
    &linear<TiledLinear<Avx512>>,   &round_inputs<Avx512>,   &weight_only<Avx512>,
    &group_linear<Avx512>,          &attention<Avx512>,      &depthwise<Avx512>,
    &quantize_operand_rows<Avx512>, &group_quantize<Avx512>, &read_cache<Avx512>,
    &activate_array<Avx512>};

constexpr Kernels with_linear(Kernels kernels, decltype(Kernels::linear) linear) {
  kernels.linear = linear;
  return kernels;
}

}  // namespace

const Kernels kAvx512Kernels = kOwn;
const Kernels kOneDnnKernels = with_linear(kOwn, &linear<LibraryLinear<Avx512>>);

}  // namespace repquant::ops
