// Every fixture model that can be quantized, at every width that packs or computes differently:
// lowered, checked against the simulation, saved, loaded and run.
#include <cmath>
#include <limits>

#include "artifact/lowered.h"
#include "graph/archive.h"
#include "recipe/bit_width.h"
#include "recipe/json.h"
#include "support/errors.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using testing::fixture_data;
using testing::fixture_manifest;
using testing::lowered;
using testing::outputs_of;
using testing::plans_of;
using testing::Prepared;

struct Case {
  std::string name, form;
};

void PrintTo(const Case& value, std::ostream* out) { *out << value.name << '.' << value.form; }

std::vector<Case> cases() {
  std::vector<Case> result;
  for (const auto& entry : fixture_manifest()) {
    if (entry.at("expect").at("outcome") != "ok") continue;
    result.push_back({entry.at("name"), entry.at("forms")[0]});
  }
  return result;
}

/// 10 log10 of signal over noise, over all floating-point outputs; infinities count where they
/// differ.
double sqnr_db(const std::vector<at::Tensor>& expected, const std::vector<at::Tensor>& got) {
  double signal = 0.0, noise = 0.0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (!expected[i].is_floating_point()) continue;
    signal += expected[i].square().sum(at::kDouble).item<double>();
    noise += (expected[i] - got[i]).square().sum(at::kDouble).item<double>();
  }
  return noise > 0 ? 10.0 * std::log10(signal / noise) : std::numeric_limits<double>::infinity();
}

/// All widths on one model of each family, the ends and the packed middle on all.
std::vector<BitWidths> widths(const std::string& name) {
  std::vector<BitWidths> result{{8, 8}, {4, 4}, {4, 16}};
  for (const char* family : {"vit_fused", "swin_padded", "post_norm_bool_mask", "decoder"}) {
    if (name == family) result.insert(result.end(), {{6, 6}, {3, 3}, {2, 8}});
  }
  return result;
}

class LowerTest : public ::testing::TestWithParam<Case> {};

TEST_P(LowerTest, ComputesWhatWasSimulated) {
  Prepared prepared = testing::prepare_fixture(GetParam().name, GetParam().form);
  const auto data = fixture_data(GetParam().name);
  testing::TempDir folder;
  for (const BitWidths bits : widths(GetParam().name)) {
    SCOPED_TRACE(to_string(bits));
    const auto plans = plans_of(prepared, recipe_for_bits(bits));
    const Lowered module = lowered(prepared, plans);
    EXPECT_EQ(module.sites.size(), plans.size());
    const LoweringCheck result = testing::check(prepared, module, plans);
    EXPECT_GE(result.calls, 1U);

    const auto path = folder / "model.pt";
    testing::save(module, path);
    check_reloaded(path.string(), run_module(module.module, prepared.batches[0]),
                   prepared.batches[0]);
    const auto outputs = outputs_of(load_archive(path.string(), false), data.inputs);
    ASSERT_EQ(outputs.size(), data.outputs.size());
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      EXPECT_EQ(outputs[i].sizes(), data.outputs[i].sizes());
      EXPECT_EQ(outputs[i].scalar_type(), data.outputs[i].scalar_type());
    }
    const double sqnr = sqnr_db(data.outputs, outputs);
    const double least = bits == BitWidths{8, 8} ? 20.0 : bits.weight_bits >= 4 ? 0.0 : -6.0;
    EXPECT_GT(sqnr, least);
  }
}

TEST_P(LowerTest, TakesOtherBatchSizes) {
  Prepared prepared = testing::prepare_fixture(GetParam().name, GetParam().form);
  const Lowered module = lowered(prepared, plans_of(prepared, recipe_for_bits({8, 8})));
  const auto data = fixture_data(GetParam().name);
  std::vector<at::Tensor> first;
  for (const auto& input : data.inputs) first.push_back(input.narrow(0, 0, 1));
  const auto one = outputs_of(module.module, first);
  const auto all = outputs_of(module.module, data.inputs);
  for (std::size_t i = 0; i < one.size(); ++i) {
    ASSERT_EQ(one[i].size(0), 1);
    // Rounding ties may fall differently in a product of another shape.
    EXPECT_GT(sqnr_db({all[i].narrow(0, 0, 1)}, {one[i]}), 30.0);
  }
}

INSTANTIATE_TEST_SUITE_P(All, LowerTest, ::testing::ValuesIn(cases()),
                         [](const auto& test) { return test.param.name + "_" + test.param.form; });

}  // namespace
}  // namespace repquant
