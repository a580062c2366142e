#include "repquant/form.h"

#include <algorithm>
#include <array>
#include <utility>

#include "repquant/artifact.h"
#include "repquant/error.h"

namespace repquant {
namespace {

constexpr std::array<std::pair<Form, const char*>, 3> kForms{
    {{Form::kFloat, "float"}, {Form::kPortable, "portable"}, {Form::kFused, "fused"}}};

void check_forms(const std::vector<Form>& forms) {
  const auto fail = [](const std::string& what) {
    throw Error(
        ErrorKind::kUsage,
        {.what = what, .where = "`form`", .expected = "portable, fused or both", .got = ""});
  };
  if (forms.empty()) fail("no form to run artifacts in");
  for (const Form form : forms) {
    if (form == Form::kFloat) fail("an artifact has no floating-point form");
    if (std::count(forms.begin(), forms.end(), form) > 1) fail(name_of(form) + " is given twice");
  }
}

}  // namespace

std::string name_of(Form form) {
  for (const auto& [value, name] : kForms) {
    if (value == form) return name;
  }
  throw Error(ErrorKind::kInternal, {.what = "a form without a name"});
}

Form parse_form(const std::string& name, const std::string& where) {
  for (const auto& [value, known] : kForms) {
    if (name == known && value != Form::kFloat) return value;
  }
  throw Error(
      ErrorKind::kUsage,
      {.what = "unknown form", .where = where, .expected = "portable or fused", .got = name});
}

std::vector<ModelForm> expand_forms(const std::vector<std::string>& paths,
                                    const std::vector<Form>& forms) {
  check_forms(forms);
  std::vector<ModelForm> result;
  bool any = false;
  for (const auto& path : paths) {
    if (!is_artifact(path)) {
      result.push_back({path, Form::kFloat});
      continue;
    }
    any = true;
    for (const Form form : forms) result.push_back({path, form});
  }
  if (!any && std::count(forms.begin(), forms.end(), Form::kFused) > 0) {
    throw Error(ErrorKind::kUsage,
                {.what = "no model has a fused form",
                 .where = paths.empty() ? "" : paths.front(),
                 .expected = "an artifact of repquant among the models",
                 .got = paths.empty() ? "no model" : "floating-point models only",
                 .hint = "make one with repquant quantize, or leave out `form=fused`"});
  }
  return result;
}

}  // namespace repquant
