// How well the quantized model does on calibration samples that nothing was fitted on.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "fit/hold_back.h"
#include "graph/model.h"
#include "graph/site.h"
#include "plan/site_plan.h"
#include "repquant/quantize.h"

namespace repquant {

/// Output SQNR below which bits lose more than they should, in dB: w8a8 15, w6a6 10, w4a8 7, w4a4
/// 3; 0 below that.
double floor_db(const BitWidths& bits);

struct JudgedPlans {
  const Model& model;
  const SiteSearch& search;
  const std::vector<SitePlan>& plans;
  const Batches& fitted;
  const Batches& held_back;  // not empty
  int threads = 1;
};

/// Throws Error kUnsupported where options.min_agreement is asked for and the model's outputs are
/// no logits: before the fit.
void check_judged_outputs(const Model& model, const std::vector<at::Tensor>& batch,
                          const QuantizeOptions& options);

/// Runs FP32 and simulation on the samples held back. Warns below the floor, naming the sites where
/// most is lost; `report` has the figure on the fitted samples.
/// Throws Error kGate below options.min_sqnr_db or options.min_agreement, kUnsupported where the
/// latter is asked for and the outputs are no logits.
HeldBackReport judge(const JudgedPlans& plans, const QuantizeOptions& options,
                     const QuantizeReport& report, const Observer& observer);

}  // namespace repquant
