// Activations on disk: they come back as they were, and the results do not change.
#include "fit/spill.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/ir/ir.h>

#include <filesystem>

#include "fit/fit_sites.h"
#include "fit/streams.h"
#include "recipe/json.h"
#include "repquant/error.h"
#include "support/errors.h"
#include "support/prepared.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using testing::TempDir;

TEST(Spill, ViewsComeBackWithSharedMemory) {
  const TempDir folder;
  SpillFile file(folder.path().string());
  torch::jit::Graph graph;
  const auto* base = graph.addInput("base");
  const auto* view = graph.addInput("view");
  const auto* small = graph.addInput("small");
  const auto* number = graph.addInput("number");
  const at::Tensor data = at::arange(8192, at::kFloat).reshape({64, 128});
  SpillableValues values;
  values.in_memory()[base] = data.clone();
  values.in_memory()[view] = values.in_memory()[base].toTensor().t().slice(0, 3, 90);
  values.in_memory()[small] = at::ones({4});
  values.in_memory()[number] = 7;
  EXPECT_EQ(values.bytes({}), 8192 * 4);  // shared memory counts once
  values.spill(file, 5, {});
  EXPECT_EQ(values.in_memory().size(), 2U) << "the others are on disk";

  const auto found = values.load(&file, 5, view);
  ASSERT_TRUE(found.has_value());
  EXPECT_TRUE(at::equal(found->toTensor(), data.t().slice(0, 3, 90)));
  EXPECT_FALSE(values.load(&file, 5, graph.addInput("other")).has_value());

  values.restore(file, 5);
  EXPECT_EQ(values.in_memory().size(), 4U);
  const auto& all = values.in_memory();
  EXPECT_TRUE(at::equal(all.at(base).toTensor(), data));
  EXPECT_EQ(all.at(number).toInt(), 7);
  all.at(base).toTensor()[5][3] = -1.0F;  // the view sees it
  EXPECT_EQ(all.at(view).toTensor()[0][5].item<float>(), -1.0F);
}

TEST(Spill, KeepsWhatIsHeldElsewhere) {
  const TempDir folder;
  SpillFile file(folder.path().string());
  torch::jit::Graph graph;
  const auto* parameter = graph.addInput("parameter");
  SpillableValues values;
  const at::Tensor data = at::ones({100, 100});
  values.in_memory()[parameter] = data;
  values.spill(file, 0, {data.storage().data()});
  EXPECT_EQ(values.in_memory().count(parameter), 1U);
}

TEST(Spill, LeavesNoFileBehind) {
  const TempDir folder;
  const auto inside = folder.path() / "made" / "here";
  SpillFile file(inside.string());
  EXPECT_TRUE(std::filesystem::is_empty(inside));
}

TEST(Spill, FolderThatCannotBeMade) {
  const auto error = testing::error_of([] { SpillFile file("/proc/no/such"); });
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->kind(), ErrorKind::kFile);
  EXPECT_EQ(error->parts().where, "/proc/no/such");
}

TEST(Spill, GivesTheSamePlansAndOutputs) {
  const TempDir folder;
  const auto prepared = testing::prepare_planted();
  FitSitesOptions plain, spilling;
  spilling.workdir = (folder.path() / "work").string();
  spilling.fingerprint = "run";
  spilling.spill = {spilling.workdir, 0};
  spilling.threads = 2;
  const Recipe recipe = recipe_for_bits({8, 8});
  const auto expected = fit_sites(prepared.model, prepared.search, prepared.batches, recipe, plain);
  const auto got = fit_sites(prepared.model, prepared.search, prepared.batches, recipe, spilling);
  EXPECT_EQ(got.output_sqnr_db, expected.output_sqnr_db);
  EXPECT_EQ(got.fold_deviation, expected.fold_deviation);
  ASSERT_EQ(got.plans.size(), expected.plans.size());
  for (std::size_t i = 0; i < got.plans.size(); ++i) {
    EXPECT_EQ(got.plans[i].note, expected.plans[i].note);
    EXPECT_EQ(got.plans[i].errors.output_sqnr_db, expected.plans[i].errors.output_sqnr_db);
  }
}

}  // namespace
}  // namespace repquant
