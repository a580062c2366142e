#include "ops/kernels/attention.h"
#include "ops/kernels/cache.h"
#include "ops/kernels/depthwise.h"
#include "ops/kernels/group_linear.h"
#include "ops/kernels/groups.h"
#include "ops/kernels/levels.h"
#include "ops/kernels/linear.h"
#include "ops/kernels/math.h"
#include "ops/kernels/norm.h"
#include "ops/kernels/rows.h"
#include "ops/kernels/token.h"
#include "ops/kernels/vector_avx2.h"
#include "ops/kernels/weight_only.h"

namespace repquant::ops {

const Kernels kAvx2Kernels{
    &norm_quantize<Avx2>,         &quantize<Avx2>,       &token_quantize<Avx2>,
    &linear<TiledLinear<Avx2>>,   &round_inputs<Avx2>,   &weight_only<Avx2>,
    &group_linear<Avx2>,          &attention<Avx2>,      &depthwise<Avx2>,
    &quantize_operand_rows<Avx2>, &group_quantize<Avx2>, &read_cache<Avx2>,
    &activate_array<Avx2>};

}  // namespace repquant::ops
