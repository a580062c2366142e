// The library speaks of settings, in backticks; the command line of its options. This is the one
// place that knows both.
#pragma once

#include <string>
#include <string_view>

#include "repquant/error.h"

namespace repquant::cli {

/// Puts the option in the place of every setting: `calib` becomes --calib, `max_kl` --max-drop-kl,
/// `norm.granularity=per_tensor` becomes --set norm.granularity=per_tensor, and a metric that is
/// asked for, `required=top1`, the gate on it: --min-top1. What is no setting stays.
std::string with_option_names(std::string_view text);

/// The same for what an error says; what was found (`got`) is left as it is.
Error with_option_names(const Error& error);

}  // namespace repquant::cli
