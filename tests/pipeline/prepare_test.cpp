// What is proven of a model before the work begins.
#include "pipeline/prepare.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/api/module.h>

#include <string>

#include "pipeline/model_run.h"
#include "repquant/artifact.h"
#include "repquant/error.h"
#include "repquant/quantize.h"
#include "support/errors.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

/// A Linear with BatchNorm behind it, which normalisation folds: the same but for rounding.
torch::jit::Module folded(const std::string& output) {
  at::manual_seed(3);
  torch::jit::Module module("m");
  module.register_parameter("w", at::randn({16, 12}), false);
  module.register_parameter("head", at::randn({4, 16}), false);
  for (const char* name : {"gain", "shift", "mean"}) {
    module.register_parameter(name, at::randn({16}), false);
  }
  module.register_parameter("variance", at::rand({16}) + 0.5, false);
  module.define(
      "def forward(self, x):\n"
      "    y = torch.linear(x, self.w)\n"
      "    y = torch.batch_norm(y, self.gain, self.shift, self.mean, self.variance, False, 0.1, "
      "1e-5, False)\n"
      "    y = torch.linear(torch.relu(y), self.head)\n"
      "    return " +
      output + "\n");
  module.eval();
  return module;
}

/// A trace that has noted its number of samples.
torch::jit::Module of_four_samples() {
  at::manual_seed(3);
  torch::jit::Module module("m");
  module.register_parameter("w", at::randn({16, 12}), false);
  module.define("def forward(self, x):\n    return torch.linear(x.view([4, 12]), self.w)\n");
  module.eval();
  return module;
}

class Prepare : public ::testing::Test {
 protected:
  QuantizeReport run(const torch::jit::Module& module, int batch_size = 8, int samples = 8) {
    return run(module, batch_size, samples, 0, Synthetic{{12}});
  }
  QuantizeReport run(const torch::jit::Module& module, int batch_size, int samples, int hold_back,
                     const SampleSource& data) {
    module.save((folder_ / "model.pt").string());
    QuantizeOptions options;
    options.model = (folder_ / "model.pt").string();
    options.output = (folder_ / "out.pt").string();
    options.recipe.bits = {8, 8};
    options.recipe.calibration.samples = samples;
    options.recipe.calibration.batch_size = batch_size;
    options.recipe.calibration.hold_back = hold_back;
    options.calib = data;
    options.force = true;
    return quantize(options);
  }

  testing::TempDir folder_;
};

// A trace that has noted its number of samples is refused before the fit, with that number.
TEST_F(Prepare, ANumberOfSamplesThatIsFixed) {
  const torch::jit::Module module = of_four_samples();
  EXPECT_ERROR(run(module), ErrorKind::kUsage, "takes 4 samples at a time");
  EXPECT_ERROR(run(module, 0), ErrorKind::kUsage, "takes 4 samples at a time");
  EXPECT_EQ(run(module, 4, 8).samples, 8);
  EXPECT_EQ(run(module, 4, 10).samples, 8);  // the last two are no pass
}

torch::jit::Module module_of(const std::string& result) {
  at::manual_seed(3);
  torch::jit::Module module("m");
  module.register_parameter("w", at::randn({16, 12}), false);
  module.define("def forward(self, x):\n    return torch.linear(" + result + ", self.w)\n");
  module.eval();
  return module;
}

// Such a model runs, but on samples that it takes for tokens: also one that looks back only, and
// one that gives the samples alone.
TEST_F(Prepare, SamplesInTheSecondDimension) {
  for (const char* result : {"x - x.mean([0], keepdim=True)", "torch.cumsum(x, 0)", "x.sum([0])"}) {
    EXPECT_ERROR(run(module_of(result), 4, 8, 0, Synthetic{{5, 12}}), ErrorKind::kUsage,
                 "second dimension");
  }
  for (const char* result : {"x - x.mean([1], keepdim=True)", "torch.cumsum(x, 1)", "x.sum([1])"}) {
    EXPECT_EQ(run(module_of(result), 4, 8, 0, Synthetic{{5, 12}}).samples, 8);
  }
}

// A reshape that copies, since the product is laid out as its transposed operand is.
TEST_F(Prepare, WritesIntoAViewOrACopy) {
  at::manual_seed(3);
  torch::jit::Module module("m");
  module.register_parameter("w", at::randn({12, 12}), false);
  module.define(
      "def forward(self, x):\n"
      "    y = torch.linear(x, self.w).t() * 2.0\n"
      "    v = y.reshape([-1])\n"
      "    v.mul_(2.0)\n"
      "    return torch.linear(y.t(), self.w)\n");
  module.eval();
  EXPECT_ERROR(run(module), ErrorKind::kUnsupported, ".clone()");
}

// What is written about it was read before.
TEST_F(Prepare, TheModelsFileMayGoDuringTheFit) {
  const std::filesystem::path model = folder_ / "model.pt";
  module_of("x").save(model.string());
  const auto bytes = static_cast<std::int64_t>(std::filesystem::file_size(model));
  QuantizeOptions options;
  options.model = model.string();
  options.output = (folder_ / "out.pt").string();
  options.calib = Synthetic{{5, 12}};
  Observer observer;
  observer.on_phase = [&](const std::string& name, std::size_t) {
    if (name == "quantize") std::filesystem::remove(model);
  };
  EXPECT_EQ(quantize(options, observer).model_bytes, bytes);
  EXPECT_FALSE(std::filesystem::exists(model));
}

TEST_F(Prepare, SamplesThatAreMixedAreSaid) {
  const auto warnings = [&](const std::string& result) {
    module_of(result).save((folder_ / "model.pt").string());
    std::string all;
    Observer observer;
    observer.warn = [&all](const std::string& message) { all += message; };
    CalibrationCache cache;
    prepare({.model = (folder_ / "model.pt").string(), .samples = Synthetic{{5, 12}}, .preset = ""},
            {}, observer, cache);
    return all;
  };
  EXPECT_NE(warnings("x - x.mean()").find("other samples of its batch"), std::string::npos);
  EXPECT_EQ(warnings("x - x.mean([1, 2], keepdim=True)"), "");
}

TEST_F(Prepare, TheBatchIsChosenByTheLargestValue) {
  const auto chosen = [&](const torch::jit::Module& module, int given = 0) {
    module.save((folder_ / "model.pt").string());
    Recipe recipe;
    recipe.calibration.samples = 12;
    recipe.calibration.batch_size = given;
    CalibrationCache cache;
    const PreparedRun run = prepare(
        {.model = (folder_ / "model.pt").string(), .samples = Synthetic{{12}}, .preset = ""},
        recipe, {}, cache);
    EXPECT_EQ(run.calibration.batches[0][0].size(0), run.batch_size);
    return run.batch_size;
  };
  // Three million elements of each sample; a weight counts for none.
  const torch::jit::Module large = folded("y.repeat([1, 750000]).view([-1, 750000, 4]).mean(1)");
  EXPECT_EQ(chosen(large), 5);
  EXPECT_EQ(chosen(large, 8), 8);
  EXPECT_EQ(chosen(folded("y")), 8);
  torch::jit::Module weighty("m");  // four million elements
  weighty.register_parameter("w", at::randn({350000, 12}), false);
  weighty.define("def forward(self, x):\n    return torch.linear(x, self.w)\n");
  weighty.eval();
  EXPECT_EQ(chosen(weighty), 8);
}

// The artifact states what was chosen, so it is made again as it was.
TEST_F(Prepare, TheArtifactStatesTheBatch) {
  run(folded("y"), 0);
  const std::string stated = inspect_artifact((folder_ / "out.pt").string()).info.recipe;
  EXPECT_NE(stated.find("\"batch_size\": 8"), std::string::npos) << stated;
}

TEST_F(Prepare, WholePassesJudgeWhereTheNumberIsFixed) {
  const torch::jit::Module module = of_four_samples();
  const auto data = (folder_ / "x.pt").string();
  for (const auto& [samples, hold_back, fitted, judge] : {std::tuple{16, 16, 12, 4},
                                                          {18, 16, 12, 4},
                                                          {80, 16, 72, 8},
                                                          {80, 0, 80, 0},
                                                          {7, 16, 4, 0}}) {
    testing::save_tensor(at::randn({samples, 12}), data);
    const QuantizeReport report = run(module, 4, samples, hold_back, DataPath{data});
    EXPECT_EQ(report.samples, fitted);
    EXPECT_EQ(report.judgement ? report.judgement->samples : 0, judge) << samples;
  }
}

TEST_F(Prepare, RoundingMayDiffer) { EXPECT_NO_THROW(run(folded("y"))); }

TEST_F(Prepare, OutputsThatHangOnRoundingAreCalledSo) {
  EXPECT_ERROR(run(folded("torch.frac(y * 1e5)")), ErrorKind::kUnsupported, "last bit");
}

}  // namespace
}  // namespace repquant
