#include "cli/form_options.h"

namespace repquant::cli {

std::shared_ptr<FormOptions> add_form_options(CLI::App& app) {
  auto options = std::make_shared<FormOptions>();
  CLI::Option* form =
      app.add_option("--form", options->names,
                     "run artifacts with stock operators (portable), with fused integer operators "
                     "(fused), or in both forms (portable,fused)")
          ->type_name("FORMS")
          ->delimiter(',')
          ->capture_default_str();
  app.add_flag("--fused", options->fused, "the same as --form fused")->excludes(form);
  return options;
}

std::vector<Form> forms_of(const FormOptions& options) {
  if (options.fused) return {Form::kFused};
  std::vector<Form> forms;
  for (const auto& name : options.names) forms.push_back(parse_form(name, "--form"));
  return forms;
}

}  // namespace repquant::cli
