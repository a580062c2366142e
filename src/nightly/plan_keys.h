// Errors of rows in the words of the plan that they are in.
#pragma once

#include <string>
#include <string_view>

#include "repquant/error.h"

namespace repquant {

/// Puts the plan's keys in the place of settings: `task=perplexity` becomes "task": "perplexity", a
/// metric that is asked for, `required=kl`, the gate on it, "max_kl", and `reference`, which a plan
/// does not name, "compare": true. Settings of the whole run, such as `force`, stay.
std::string with_plan_keys(std::string_view text);

/// The same for what an error says; what was found (`got`) is left as it is.
Error with_plan_keys(const Error& error);

}  // namespace repquant
