// In which form artifacts run: the same options for every command that runs models.
#pragma once

#include <CLI/App.hpp>
#include <memory>
#include <string>
#include <vector>

#include "repquant/form.h"

namespace repquant::cli {

/// As typed; forms_of() gives what they mean.
struct FormOptions {
  std::vector<std::string> names{"portable"};
  bool fused = false;
};

/// Adds --form and --fused, which stands for --form fused.
std::shared_ptr<FormOptions> add_form_options(CLI::App& app);

/// Throws Error kUsage for a name that is no form.
std::vector<Form> forms_of(const FormOptions& options);

}  // namespace repquant::cli
