// What --form and the paths of a command mean.
#include "repquant/form.h"

#include <gtest/gtest.h>

#include <fstream>
#include <functional>

#include "repquant/error.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

ErrorKind kind_of(const std::function<void()>& function) {
  try {
    function();
  } catch (const Error& e) {
    return e.kind();
  }
  ADD_FAILURE() << "no error";
  return ErrorKind::kInternal;
}

TEST(FormTest, NamesGoBothWays) {
  for (const Form form : {Form::kPortable, Form::kFused}) {
    EXPECT_EQ(parse_form(name_of(form), "--form"), form);
  }
  for (const char* name : {"float", "Fused", "", "fused "}) {
    EXPECT_EQ(kind_of([&] { parse_form(name, "--form"); }), ErrorKind::kUsage) << name;
  }
}

TEST(FormTest, FilesThatAreNoArtifactsRunAsTheyAre) {
  const testing::TempDir dir;
  const std::string text = (dir / "text.pt").string(), missing = (dir / "missing.pt").string();
  std::ofstream(text) << "not an archive";
  const auto models = expand_forms({text, missing}, {Form::kPortable});
  ASSERT_EQ(models.size(), 2U);
  EXPECT_EQ(models[0].path, text);
  EXPECT_EQ(models[1].path, missing);
  for (const auto& model : models) EXPECT_EQ(model.form, Form::kFloat);
}

TEST(FormTest, BadChoices) {
  const std::vector<std::string> paths{"missing.pt"};
  for (const std::vector<Form>& forms : std::vector<std::vector<Form>>{
           {}, {Form::kFloat}, {Form::kPortable, Form::kPortable}, {Form::kFused}}) {
    EXPECT_EQ(kind_of([&] { expand_forms(paths, forms); }), ErrorKind::kUsage) << forms.size();
  }
}

}  // namespace
}  // namespace repquant
