// Site plans as IValues: what a checkpoint stores (see torch::pickle_save) and reads back.
#pragma once

#include <ATen/core/ivalue.h>

#include "plan/site_plan.h"

namespace repquant {

/// A dictionary of tensors, numbers and strings that holds everything in `plan`. Tensors are cloned
/// when they are views, so that no more than the plan's own data is stored.
c10::IValue to_ivalue(const SitePlan& plan);

/// The inverse of to_ivalue: plan_from_ivalue(to_ivalue(p)) equals p, bit for bit.
/// Throws Error kFile when a field is missing, has another type or is out of range.
SitePlan plan_from_ivalue(const c10::IValue& value);

}  // namespace repquant
