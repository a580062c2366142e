// In which form a model's file runs. No LibTorch types here.
#pragma once

#include <string>
#include <vector>

namespace repquant {

enum class Form {
  kFloat,     // no artifact: the model as it is
  kPortable,  // an artifact as torch::jit::load gives it, with the operators of stock LibTorch
  kFused,     // an artifact as repquant::load gives it, with fused operators
};

/// "float", "portable" or "fused".
std::string name_of(Form form);

/// The form of that name, one that an artifact can have. Throws Error kUsage with `where` for any
/// other name.
Form parse_form(const std::string& name, const std::string& where);

/// A file, and how it is to run.
struct ModelForm {
  std::string path;
  Form form = Form::kFloat;
};

/// Every artifact of `paths` in each of `forms`, every other file as it is; in the order of the
/// paths, then of the forms. Files that cannot be read count as no artifacts: whoever loads them
/// says what is wrong. Throws Error kUsage for no form, one twice, kFloat among them, and kFused
/// when no path is an artifact.
std::vector<ModelForm> expand_forms(const std::vector<std::string>& paths,
                                    const std::vector<Form>& forms);

}  // namespace repquant
