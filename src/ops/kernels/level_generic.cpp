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
#include "ops/kernels/vector_generic.h"
#include "ops/kernels/weight_only.h"

namespace repquant::ops {

const Kernels kGenericKernels{
    &norm_quantize<Generic>,         &quantize<Generic>,       &token_quantize<Generic>,
    &linear<TiledLinear<Generic>>,   &round_inputs<Generic>,   &weight_only<Generic>,
    &group_linear<Generic>,          &attention<Generic>,      &depthwise<Generic>,
    &quantize_operand_rows<Generic>, &group_quantize<Generic>, &read_cache<Generic>,
    &activate_array<Generic>};

}  // namespace repquant::ops
