// Site plans fitted by minimum and maximum: enough to test the artifact without the fit.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "graph/model.h"
#include "graph/site.h"
#include "plan/site_plan.h"

namespace repquant::testing {

struct MinMaxOptions {
  int weight_bits = 4;
  int activation_bits = 4;
  bool per_channel_inputs = false;  // Linear inputs that no norm feeds: vectors instead of scalars
  bool per_token_inputs = false;    // of all Linears; nothing is folded
  bool per_token_scale = false;     // with it: a multiplier for each channel where no norm is
  int group_size = 0;  // with it: of columns that share a grid, where there are more; 0: rows
  bool attention = true;
  bool quadratic = true;  // for GELU outputs, up to 4 bits
  bool uniform_softmax = false;
  bool row_maximum = true;
  bool weight_only = false;
  std::string side_columns_at;  // path of a Linear that gets side columns for channels 0 and 2
};

std::vector<SitePlan> min_max_plans(const Model& model, const std::vector<Site>& sites,
                                    const std::vector<at::Tensor>& inputs,
                                    const MinMaxOptions& options);

}  // namespace repquant::testing
