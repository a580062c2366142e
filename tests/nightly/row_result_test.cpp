#include "nightly/row_result.h"

#include <cmath>
#include <limits>

#include "nightly/run_nightly.h"
#include "support/errors.h"
#include "support/paths.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using testing::TempDir;
using testing::write_text;

class RowResultTest : public ::testing::Test {
 protected:
  RowResultTest() {
    const auto models = testing::source_dir() / "tests" / "fixtures" / "models";
    for (const char* name : {"vit_fused.trace.pt", "vit_fused.npz"}) {
      std::filesystem::copy_file(models / name, folder_ / name);
    }
  }

  /// The only row of a plan; `rest` are further keys of its model.
  NightlyRow row(const std::string& rest = "") const {
    return read_plan(write_plan(rest), "", 1).rows.at(0);
  }

  std::filesystem::path write_plan(const std::string& rest) const {
    write_text(folder_ / "plan.json",
               R"({"schema_version": 1, "models": [{"model": "vit_fused.trace.pt",
                   "calib": "vit_fused.npz", "bits": ["w8a8"])" +
                   rest + "}]}");
    return folder_ / "plan.json";
  }

  TempDir folder_;
};

TEST_F(RowResultTest, FingerprintIsOfWhatTheOutcomeDependsOn) {
  const std::string fingerprint = fingerprint_of(row());
  EXPECT_EQ(fingerprint_of(row()), fingerprint);
  EXPECT_EQ(fingerprint_of(row(R"(, "gates": {"min_coverage": 0.5})")), fingerprint);
  EXPECT_NE(fingerprint_of(row(R"(, "set": {"weights.damping": 0.5})")), fingerprint);
  EXPECT_NE(fingerprint_of(row(R"(, "strict": true)")), fingerprint);
  EXPECT_NE(fingerprint_of(row(R"(, "evaluate": {"data": "vit_fused.npz"})")), fingerprint);
  // The contents of the files, not their names.
  const NightlyRow same = row();
  std::filesystem::copy_file(
      testing::source_dir() / "tests" / "fixtures" / "models" / "vit_fused.script.pt",
      folder_ / "vit_fused.trace.pt", std::filesystem::copy_options::overwrite_existing);
  EXPECT_NE(fingerprint_of(same), fingerprint);
}

TEST_F(RowResultTest, OutcomesAreReadBack) {
  const NightlyRow made = row();
  std::filesystem::create_directories(folder_ / "repquant-out");
  write_text(made.quantize.output, "artifact");
  RowResult result{.model = made.model, .label = made.label, .artifact = made.quantize.output};
  const double infinite = std::numeric_limits<double>::infinity();
  result.metrics = {{"top1", 0.75}, {"sqnr_db", infinite}, {"kl", std::nan("")}};
  result.seconds = 1.5;
  result.bytes = 8;
  save_result(made, "print", result);

  const std::optional<RowResult> again = load_result(made, "print");
  ASSERT_TRUE(again.has_value());
  EXPECT_TRUE(again->resumed);
  EXPECT_EQ(again->artifact, result.artifact);
  EXPECT_EQ(again->seconds, 1.5);
  EXPECT_EQ(again->bytes, 8);
  ASSERT_EQ(again->metrics.size(), 3U);
  for (const Metric& metric : again->metrics) {
    if (metric.name == "top1") {
      EXPECT_EQ(metric.value, 0.75);
    }
    if (metric.name == "sqnr_db") {
      EXPECT_EQ(metric.value, infinite);
    }
    if (metric.name == "kl") {
      EXPECT_TRUE(std::isnan(metric.value));
    }
  }

  EXPECT_FALSE(load_result(made, "other print").has_value());
  write_text(made.quantize.output, "another artifact");
  EXPECT_FALSE(load_result(made, "print").has_value());
}

TEST_F(RowResultTest, DamagedOrForeignOutcomesCountAsNone) {
  const NightlyRow made = row();
  std::filesystem::create_directories(folder_ / "repquant-out");
  write_text(made.quantize.output, "artifact");
  EXPECT_FALSE(load_result(made, "print").has_value());
  for (const char* text : {"", "{", "[]", "{}", R"({"fingerprint": 3})"}) {
    write_text(made.result_file, text);
    EXPECT_FALSE(load_result(made, "print").has_value()) << text;
  }
}

TEST_F(RowResultTest, AnErrorFailsItsRowOnly) {
  write_text(folder_ / "plan.json", R"({"schema_version": 1, "bits": ["w8a8"], "models": [
      {"model": "absent.pt", "calib": "vit_fused.npz"},
      {"model": "plan.json", "name": "no_model", "calib": "vit_fused.npz"}]})");
  const NightlyReport report = run_nightly(read_plan(folder_ / "plan.json", "", 1), false, {});
  ASSERT_EQ(report.rows.size(), 2U);
  EXPECT_EQ(report.failed, 2);
  EXPECT_EQ(report.passed, 0);
  for (const RowResult& result : report.rows) EXPECT_EQ(result.status, RowStatus::kFailed);
  EXPECT_THAT(report.rows[0].error, ::testing::HasSubstr("absent.pt"));
}

}  // namespace
}  // namespace repquant
